"""The images of a training run on its device: each is read once, when it is first needed.

A small network on a fast GPU waits most of the time for images to arrive. Images that are there
already cost one gather per batch. They arrive with the batches of the first epoch, so no run waits
for them before its first step.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from src.data.features import input_type
from src.data.read_ahead import ImageSource, ReadAhead


class DeviceImages:
    """Memory on `device` for the images of `source` at `positions`, empty at first.

    Raises:
        RuntimeError: the device has not enough memory.
    """

    def __init__(self, source: ImageSource, positions: np.ndarray, device: torch.device):
        self.source, self.pixels, self.sizes = source, source.pixels, source.sizes
        self.positions = np.unique(positions)  # (U,): row u of the memory is for position u
        shape = (len(self.positions), *source.shape)
        kind = torch.float32 if input_type(source) is np.float32 else torch.uint8
        self.memory = torch.empty(shape, dtype=kind, device=device)  # (U, H, W, 3) or (U, D)
        self.filled = np.zeros(len(self.positions), bool)  # (U,)

    @property
    def fingerprint(self) -> dict[str, str]:
        """Identify the pixels, as the source does."""
        return self.source.fingerprint

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """Return the rows of the memory that belong to `positions`."""
        rows = np.searchsorted(self.positions, positions)
        if not np.array_equal(self.positions.take(rows, mode="clip"), positions):
            raise IndexError("a position outside those that memory was made for")
        return rows

    def store(self, rows: np.ndarray, pixels: torch.Tensor) -> None:
        """Keep pixels (R, H, W, 3) that have arrived."""
        where = torch.from_numpy(rows).to(pixels.device, non_blocking=True)
        self.memory.index_copy_(0, where, pixels)
        self.filled[rows] = True


class DeviceBatches(Iterator[tuple[torch.Tensor, torch.Tensor]]):
    """Iterates as `ReadAhead` does, over batches gathered from a `DeviceImages`.

    Images that are not there yet are read ahead.
    """

    def __init__(
        self,
        images: DeviceImages,
        batches: list[np.ndarray],
        device: torch.device,
        transform: Callable[[torch.Tensor, np.ndarray], torch.Tensor],
        prefetch: int = 3,
    ):
        self._images, self._transform = images, transform
        ends = np.cumsum([0, *map(len, batches)])
        rows = images.rows(np.concatenate([*batches, np.empty(0, np.int64)]))
        # All at once: a copy to the device for each batch would cost more than the gather.
        self._rows = torch.from_numpy(rows).to(device)
        used, first = np.unique(rows, return_index=True)
        first = np.sort(first[~images.filled[used]])  # where a missing image comes first
        missing = np.split(rows[first], np.searchsorted(first, ends[1:-1]))
        self._batches = zip(batches, ends, ends[1:], missing)
        missing = [rows for rows in missing if len(rows)]
        wanted = [images.positions[rows] for rows in missing]
        arriving = iter(missing)
        self._reader = ReadAhead(
            images.source,
            wanted,
            device,
            lambda pixels, _: images.store(next(arriving), pixels),
            prefetch,
        )

    @property
    def wait_seconds(self) -> float:
        return self._reader.wait_seconds

    def __next__(self) -> tuple[torch.Tensor, torch.Tensor]:
        try:
            positions, start, end, missing = next(self._batches)
            if len(missing):
                next(self._reader)
        except BaseException:
            self.close()
            raise
        pixels = self._images.memory.index_select(0, self._rows[start:end])
        return self._transform(pixels, positions), torch.from_numpy(positions)

    def close(self) -> None:
        """Stop reading; images that have arrived stay."""
        self._batches = iter(())
        self._reader.close()


def keep_on_device(
    source: ImageSource,
    positions: np.ndarray,
    device: torch.device,
    wanted: bool | str,
    reads: int,
) -> ImageSource | DeviceImages:
    """Return the images at `positions` kept on the device, or `source` if they are not kept.

    Args:
        wanted: true, false, or `auto`: on a GPU with enough memory, if they are read repeatedly.
        reads: images that the run needs, repeats included.
    """
    count = len(np.unique(positions))
    size = count * int(np.prod(source.shape)) * np.dtype(input_type(source)).itemsize
    automatic = wanted == "auto"
    if not wanted or (automatic and (device.type != "cuda" or reads <= count)):
        return source
    # At most half of what is free: how much the network needs shows only in its first step.
    if automatic and torch.cuda.mem_get_info(device)[0] < 2 * size:
        return source
    try:
        images = DeviceImages(source, positions, device)
    except RuntimeError:
        print(f"{device} has no memory to keep {size / 1e9:.2g} GB of images", flush=True)
        return source
    # Again, as several runs that start at once on one GPU have all seen it empty.
    if automatic and torch.cuda.mem_get_info(device)[0] < size:
        del images
        torch.cuda.empty_cache()
        return source
    print(f"{count:,} images, {size / 1e9:.2g} GB, stay on {device} once read", flush=True)
    return images
