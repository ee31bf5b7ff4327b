"""From positions to what the network sees, on the device."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from src.data.features import input_type
from src.data.sources import ImageSource
from src.data.transforms import crop_and_resize, draw_crops, normalise, scale_crops

LEAD = 8  # batches that a GPU may be behind: each keeps pinned memory on the host


class DeviceImages:
    """The images of a source at some positions, each read once into the memory of a device.

    Args:
        positions: repeats are ignored.
        memory: (U, H, W, 3) uint8 or (U, D) float32, for the U positions in ascending order.
    """

    def __init__(self, source: ImageSource, positions: np.ndarray, memory: torch.Tensor):
        self.pixels, self.sizes, self.shape = source.pixels, source.sizes, source.shape
        self.positions, self.memory = np.unique(positions), memory
        parts = np.array_split(self.positions, -(-len(self.positions) // 256))
        rows = np.array_split(np.arange(len(self.positions)), len(parts))
        for own, pixels in zip(rows, read_ahead(source, parts, memory.device, 3)):
            memory[own[0] : own[-1] + 1] = pixels

    def batches(self, batches: Sequence[np.ndarray]) -> Iterator[torch.Tensor]:
        """Yield the pixels of each batch of positions.

        Raises:
            IndexError: a position outside those that are kept.
        """
        wanted = np.concatenate([*batches, np.empty(0, np.int64)])
        rows = np.searchsorted(self.positions, wanted)
        if not np.array_equal(self.positions.take(rows, mode="clip"), wanted):
            raise IndexError("a position outside those that are kept")
        # All at once: a copy to the device for each batch would cost more than the gather.
        kept = torch.from_numpy(rows).to(self.memory.device)
        for part in kept.split([len(batch) for batch in batches]):
            yield self.memory.index_select(0, part)


def read_ahead(
    source: ImageSource, batches: Sequence[np.ndarray], device: torch.device, prefetch: int
) -> Iterator[torch.Tensor]:
    """Yield the pixels of each batch on the device, while a thread reads the next ones."""
    options = {"dtype": getattr(torch, np.dtype(input_type(source)).name)}
    options["pin_memory"] = device.type == "cuda"

    def read(positions: np.ndarray) -> torch.Tensor:
        memory = torch.empty((len(positions), *source.shape), **options)
        source.read(positions, memory.numpy())
        return memory

    reads = deque()
    thread = ThreadPoolExecutor(1, "read-ahead")
    try:
        reads.extend(thread.submit(read, positions) for positions in batches[:prefetch])
        for number in range(len(batches)):
            pixels = reads.popleft().result()
            if number + prefetch < len(batches):
                reads.append(thread.submit(read, batches[number + prefetch]))
            # torch uses pinned memory again once its copy is over.
            yield pixels.to(device, non_blocking=True)
    finally:
        thread.shutdown(cancel_futures=True)


class Batches(Iterator[tuple[torch.Tensor, torch.Tensor]]):
    """Iterates over (images, positions), see `iterate_batches`; leave early with `close()`.

    Attributes:
        wait_seconds: time that `next` has spent waiting for pixels.
    """

    def __init__(
        self,
        source: ImageSource | DeviceImages,
        pixels: Iterator[torch.Tensor],
        batches: Sequence[np.ndarray],
        augment: tuple[int, int] | None,
        share: Callable[[int], slice],
    ):
        self.wait_seconds = 0.0
        self._source, self._pixels, self._batches = source, pixels, iter(batches)
        self._augment, self._share = augment, share
        self._copies: deque[torch.cuda.Event] = deque()

    def __next__(self) -> tuple[torch.Tensor, torch.Tensor]:
        start = time.perf_counter()
        images = next(self._pixels)  # (B, H, W, 3) uint8 or (B, D) float32
        self.wait_seconds += time.perf_counter() - start
        if images.is_cuda and not isinstance(self._source, DeviceImages):
            self._copies.append(torch.cuda.current_stream(images.device).record_event())
            if len(self._copies) > LEAD:
                self._copies.popleft().synchronize()
        batch = next(self._batches)
        rows = self._share(len(batch))
        if self._augment is not None:
            seed, step = self._augment
            sizes, resolution = self._source.sizes[batch], self._source.pixels.resolution
            crops, flips = draw_crops(seed, step, sizes)  # of all ranks
            crops = scale_crops(crops[rows], sizes[rows], images.shape[1:3])
            images = crop_and_resize(images, crops, flips[rows], resolution)
            self._augment = seed, step + 1
        return normalise(images) if images.ndim == 4 else images, torch.from_numpy(batch[rows])

    def close(self) -> None:
        """Stop reading; wait for the read that is under way."""
        self._pixels.close()


def iterate_batches(
    source: ImageSource | DeviceImages,
    batches: Iterable[np.ndarray],
    device: torch.device | str = "cpu",
    augment: tuple[int, int] | None = None,
    prefetch: int = 3,
    share: Callable[[int], slice] = lambda count: slice(0, count),
) -> Batches:
    """Iterate over (images (B, 3, H, W) float32 in channels_last on the device, positions (B,)).

    Features (B, D) stay as they are. The order is that of `batches`; positions are int64 on the
    CPU. The result depends neither on `prefetch` nor on where the images lie. Errors of the reading
    thread are raised by `next`.

    Args:
        source: images on the host, or kept on the device.
        batches: positions (B,) of each batch.
        device: where the images go.
        augment: None for cropped images. (seed, first step) for full frames: the random crop of
            batch k is a function of (seed, first step + k).
        prefetch: batches read ahead, at least 1.
        share: which rows of a batch of B are wanted; by default all.
    """
    full_frame = source.pixels is not None and source.pixels.full_frame
    if (augment is not None) != full_frame:
        raise ValueError("full frames need augment, cropped images must not have it")
    batches = [np.asarray(positions, np.int64) for positions in batches]
    wanted = [positions[share(len(positions))] for positions in batches]
    if isinstance(source, DeviceImages):
        pixels = source.batches(wanted)
    else:
        pixels = read_ahead(source, wanted, torch.device(device), prefetch)
    return Batches(source, pixels, batches, augment, share)


def keep_on_device(
    source: ImageSource,
    positions: np.ndarray,
    device: torch.device,
    wanted: bool | str,
    reads: int,
) -> ImageSource | DeviceImages:
    """Return the images at `positions` kept on the device, or `source` if they are not kept.

    A small network on a fast GPU waits most of the time for images to arrive. Images that are there
    already cost one gather per batch.

    Args:
        wanted: true, false, or `auto`: on a GPU with enough memory, if they are read repeatedly.
        reads: images that the run needs, repeats included.
    """
    count, automatic = len(np.unique(positions)), wanted == "auto"
    shape, kind = (count, *source.shape), np.dtype(input_type(source))
    size = int(np.prod(shape)) * kind.itemsize
    if not wanted or (automatic and (device.type != "cuda" or reads <= count)):
        return source
    # At most half of what is free: how much the network needs shows only in its first step.
    if automatic and torch.cuda.mem_get_info(device)[0] < 2 * size:
        return source
    try:
        memory = torch.empty(shape, dtype=getattr(torch, kind.name), device=device)
    except RuntimeError:
        print(f"{device} has no memory to keep {size / 1e9:.2g} GB of images", flush=True)
        return source
    # Again, as several runs that start at once on one GPU have all seen it empty.
    if automatic and torch.cuda.mem_get_info(device)[0] < size:
        del memory
        torch.cuda.empty_cache()
        return source
    print(f"{count:,} images, {size / 1e9:.2g} GB, are kept on {device}", flush=True)
    return DeviceImages(source, positions, memory)
