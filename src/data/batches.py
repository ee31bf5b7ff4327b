"""From positions to what the network sees, on the device."""

from collections.abc import Iterable

import numpy as np
import torch

from src.data.device_cache import DeviceBatches, DeviceImages
from src.data.read_ahead import ImageSource, ReadAhead
from src.data.transforms import Transform


def iterate_batches(
    source: ImageSource | DeviceImages,
    batches: Iterable[np.ndarray],
    device: torch.device | str = "cpu",
    augment: tuple[int, int] | None = None,
    prefetch: int = 3,
) -> ReadAhead | DeviceBatches:
    """Iterates over (images (B, 3, H, W) float32 in channels_last on the device, positions (B,)
    int64 on the CPU), in the order of `batches`.

    The result depends neither on `prefetch` nor on where the images lie. Leave early with
    `close()`; what goes wrong while reading ahead is raised by `next`.

    Args:
        source: decoded records, images decoded as they are needed, or images kept on the device.
        batches: positions (B,) of each batch.
        device: where the images go.
        augment: None for cropped images; (seed, first step) for full frames, see `Transform`.
        prefetch: batches read ahead, at least 1.
    """
    batches = [np.asarray(positions, np.int64) for positions in batches]
    transform = Transform(source.pixels, augment)
    kind = DeviceBatches if isinstance(source, DeviceImages) else ReadAhead
    return kind(source, batches, torch.device(device), transform, prefetch)
