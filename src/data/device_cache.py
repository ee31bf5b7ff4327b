"""The images of a training run on its device: each is read once, when it is first needed.

A small network on a fast GPU waits most of the time for images to arrive. Those that lie there
already cost it one gather a batch. They arrive with the batches of the first epoch, so no run waits
for them before its first step.
"""

from collections.abc import Iterator

import numpy as np
import torch

from src.data.read_ahead import ImageSource, ReadAhead
from src.data.transforms import Transform


class DeviceImages:
    """Images of `source` on `device`, in memory for all `positions`, empty at first.

    Raises:
        RuntimeError: that memory cannot be had.
    """

    def __init__(self, source: ImageSource, positions: np.ndarray, device: torch.device):
        self.source, self.pixels = source, source.pixels
        self.positions = np.unique(positions)  # (U,): row u of the memory is for this one
        shape = (len(self.positions), *source.shape)
        self.memory = torch.empty(shape, dtype=torch.uint8, device=device)  # (U, H, W, 3)
        self.filled = np.zeros(len(self.positions), bool)  # (U,)

    @property
    def fingerprint(self) -> dict[str, str]:
        """Identify the pixels, as the source does."""
        return self.source.fingerprint

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """Rows of the memory, of any positions among those it was made for."""
        rows = np.searchsorted(self.positions, positions)
        if not np.array_equal(self.positions.take(rows, mode="clip"), positions):
            raise IndexError("a position that no memory was made for")
        return rows

    def store(self, rows: np.ndarray, pixels: torch.Tensor) -> None:
        """Put pixels (R, H, W, 3) that have arrived where they belong."""
        where = torch.from_numpy(rows).to(pixels.device, non_blocking=True)
        self.memory.index_copy_(0, where, pixels)
        self.filled[rows] = True


class DeviceBatches(Iterator[tuple[torch.Tensor, torch.Tensor]]):
    """Iterates as `ReadAhead` does, over batches gathered from a `DeviceImages`; what it does not
    hold yet is read ahead."""

    def __init__(
        self,
        images: DeviceImages,
        batches: list[np.ndarray],
        device: torch.device,
        transform: Transform,
        prefetch: int = 3,
    ):
        self._images, self._transform = images, transform
        ends = np.cumsum([0, *map(len, batches)])
        rows = images.rows(np.concatenate([*batches, np.empty(0, np.int64)]))
        # All of them at once: a copy to the device for each batch would cost more than the gather.
        self._rows = torch.from_numpy(rows).to(device)
        used, first = np.unique(rows, return_index=True)
        first = np.sort(first[~images.filled[used]])  # places at which a missing image comes first
        missing = np.split(rows[first], np.searchsorted(first, ends[1:-1]))
        self._batches = zip(batches, ends, ends[1:], missing)
        missing = [rows for rows in missing if len(rows)]
        wanted = [images.positions[rows] for rows in missing]
        arriving = iter(missing)
        self._reader = ReadAhead(
            images.source,
            wanted,
            device,
            lambda pixels: images.store(next(arriving), pixels),
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
        return self._transform(pixels), torch.from_numpy(positions)

    def close(self) -> None:
        """Stop reading; what has arrived stays."""
        self._batches = iter(())
        self._reader.close()


def keep_on_device(
    source: ImageSource,
    positions: np.ndarray,
    device: torch.device,
    wanted: bool | str,
    reads: int,
) -> ImageSource | DeviceImages:
    """The images at `positions` kept on the device, or `source` where they are not to be.

    Args:
        wanted: true, false, or `auto`: on a GPU with enough memory, where they are read repeatedly.
        reads: images that the run is going to need, with repeats.
    """
    count = len(np.unique(positions))
    size = count * int(np.prod(source.shape))
    automatic = wanted == "auto"
    if not wanted or (automatic and (device.type != "cuda" or reads <= count)):
        return source
    # At most half of what is free: how much the network needs shows only in its first step.
    if automatic and torch.cuda.mem_get_info(device)[0] < 2 * size:
        return source
    try:
        images = DeviceImages(source, positions, device)
    except RuntimeError:
        print(f"no memory on {device} to keep {size / 1e9:.2g} GB of images there", flush=True)
        return source
    # Again: of several runs that start at once on one GPU, each has seen it empty.
    if automatic and torch.cuda.mem_get_info(device)[0] < size:
        del images
        torch.cuda.empty_cache()
        return source
    print(f"{count:,} images, {size / 1e9:.2g} GB, stay on {device} once read", flush=True)
    return images
