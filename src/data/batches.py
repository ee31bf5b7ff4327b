"""From positions to what the network sees, on the device."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch

from src.data.device_cache import DeviceBatches, DeviceImages
from src.data.read_ahead import ImageSource, ReadAhead
from src.data.transforms import augment as augment_images
from src.data.transforms import normalise


def iterate_batches(
    source: ImageSource | DeviceImages,
    batches: Iterable[np.ndarray],
    device: torch.device | str = "cpu",
    augment: tuple[int, int] | None = None,
    prefetch: int = 3,
    share: Callable[[int], slice] = lambda count: slice(0, count),
) -> ReadAhead | DeviceBatches:
    """Iterate over (images (B, 3, H, W) float32 in channels_last on the device, positions (B,)).

    The order is that of `batches`; positions are int64 on the CPU. The result depends neither on
    `prefetch` nor on where the images lie. Leave early with `close()`. Errors of the reading thread
    are raised by `next`.

    Args:
        source: images on the host, or kept on the device.
        batches: positions (B,) of each batch.
        device: where the images go.
        augment: None for cropped images. (seed, first step) for full frames: the random crop of
            batch k is a function of (seed, first step + k).
        prefetch: batches read ahead, at least 1.
        share: which rows of a batch of B are wanted; by default all.
    """
    batches = [np.asarray(positions, np.int64) for positions in batches]
    wanted = [positions[share(len(positions))] for positions in batches]
    transform = Transform(source, batches, share, augment)
    kind = DeviceBatches if isinstance(source, DeviceImages) else ReadAhead
    return kind(source, wanted, torch.device(device), transform, prefetch)


class Transform:
    """Called with the pixels and positions of one batch after the other; see `iterate_batches`."""

    def __init__(
        self,
        source: ImageSource,
        batches: Sequence[np.ndarray],
        share: Callable[[int], slice],
        augment: tuple[int, int] | None,
    ):
        full_frame = source.pixels is not None and source.pixels.full_frame
        if (augment is not None) != full_frame:
            raise ValueError("full frames need augment, cropped images must not have it")
        self._source, self._batches, self._share = source, iter(batches), share
        self._augment = augment

    def __call__(self, images: torch.Tensor, positions: np.ndarray) -> torch.Tensor:
        """Return (B, H, W, 3) uint8 as (B, 3, H, W) float32, in memory of its own.

        Features (B, D) stay as they are.
        """
        if images.ndim == 2:
            return images.clone()
        batch = next(self._batches)
        if self._augment is not None:
            seed, step = self._augment
            sizes, resolution = self._source.sizes[batch], self._source.pixels.resolution
            rows = self._share(len(batch))
            images = augment_images(images, sizes, resolution, seed, step, rows)
            self._augment = seed, step + 1
        return normalise(images)
