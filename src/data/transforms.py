"""What happens to a batch of uint8 images on the device: crop, flip, resize, normalise.

A crop followed by an antialiased bilinear resize is linear in the rows and in the columns, so each
example has one filter matrix per axis and on an accelerator the whole batch is two batched matrix
products. The filters are those of PIL's BILINEAR resize of the cropped image.
"""

import functools
import math

import numpy as np
import torch
from torch.nn.functional import interpolate

from src.data.pixels import FULL_FRAME, Pixels

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Random resized crop of Sagawa et al. (2020), group_DRO: share of the frame, width/height.
SCALE = (0.7, 1.0)
RATIO = (1.0, 4 / 3)
_TRIES = 10


class Transform:
    """Called with the pixels of one batch after the other: what the network sees of them.

    Args:
        pixels: what the images are.
        augment: None for cropped images; (seed, first step) for full frames, of which a random
            crop is taken: batch k's is a function of (seed, first step + k).
    """

    def __init__(self, pixels: Pixels, augment: tuple[int, int] | None):
        if (augment is not None) != pixels.full_frame:
            raise ValueError("full frames need augment, cropped images must not have it")
        self._resolution, self._augment = pixels.resolution, augment

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """(B, H, W, 3) uint8 to (B, 3, H, W) float32 in channels_last, in memory of its own."""
        if self._augment is not None:
            seed, step = self._augment
            images = augment(images, self._resolution, seed, step)
            self._augment = seed, step + 1
        return normalise(images)


def augment(
    images: torch.Tensor, resolution: tuple[int, int], seed: int, step: int
) -> torch.Tensor:
    """Random resized crop to `resolution` (height, width) and horizontal flip.

    The parameters are a function of (seed, step): no generator has to be saved to resume.

    Args:
        images: full frames (B, 218, 178, 3) uint8.

    Returns:
        Grey levels (B, H, W, 3), see `crop_and_resize`.
    """
    crops, flips = draw_crops(seed, step, len(images))
    return crop_and_resize(images, crops, flips, resolution)


def draw_crops(seed: int, step: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops (B, 4) int64 of the full frame (top, left, height, width), and flips (B,) bool.

    torchvision's RandomResizedCrop: up to ten tries of area and aspect ratio, else the largest
    central crop of an allowed ratio.
    """
    frame_height, frame_width = FULL_FRAME
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, step))))
    area = frame_height * frame_width * rng.uniform(*SCALE, (count, _TRIES))
    ratio = np.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1]), (count, _TRIES)))
    place, flips = rng.random((count, 2)), rng.random(count) < 0.5
    widths = np.rint(np.sqrt(area * ratio)).astype(np.int64)  # (B, tries)
    heights = np.rint(np.sqrt(area / ratio)).astype(np.int64)
    fits = (widths <= frame_width) & (heights <= frame_height)
    first = fits.argmax(1)
    rows = np.arange(count)
    height, width = heights[rows, first], widths[rows, first]  # (B,)
    top = (place[:, 0] * (frame_height - height + 1)).astype(np.int64)
    left = (place[:, 1] * (frame_width - width + 1)).astype(np.int64)
    crops = np.stack([top, left, height, width], 1)
    crops[~fits.any(1)] = _central_crop(frame_height, frame_width)
    return crops, flips


def _central_crop(height: int, width: int) -> tuple[int, int, int, int]:
    if width < RATIO[0] * height:
        crop_height, crop_width = round(width / RATIO[0]), width
    elif width > RATIO[1] * height:
        crop_height, crop_width = height, round(height * RATIO[1])
    else:
        crop_height, crop_width = height, width
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def crop_and_resize(
    images: torch.Tensor, crops: np.ndarray, flips: np.ndarray, resolution: tuple[int, int]
) -> torch.Tensor:
    """Each image's crop at `resolution`, flipped where `flips` says so.

    Args:
        images: (B, S, R, 3) uint8.
        crops: (B, 4) top, left, height, width.
        flips: (B,) bool.

    Returns:
        Grey levels (B, H, W, 3) within one of PIL's, float32 not rounded, or uint8 on a CPU.
    """
    resize = _resize_one_by_one if images.device.type == "cpu" else resize_by_products
    return resize(images, crops, flips, resolution)


def _resize_one_by_one(
    images: torch.Tensor, crops: np.ndarray, flips: np.ndarray, resolution: tuple[int, int]
) -> torch.Tensor:
    """torch's uint8 kernel for CPUs; some ten times as fast there as products of dense matrices."""
    out = images.new_empty(len(images), *resolution, 3)
    planes = out.permute(0, 3, 1, 2)  # (B, 3, H, W), the same memory
    for row, (top, left, height, width) in enumerate(crops.tolist()):
        crop = images[row : row + 1, top : top + height, left : left + width].permute(0, 3, 1, 2)
        resized = interpolate(crop, resolution, mode="bilinear", antialias=True)[0]
        planes[row] = resized.flip(2) if flips[row] else resized
    return out


def resize_by_products(
    images: torch.Tensor, crops: np.ndarray, flips: np.ndarray, resolution: tuple[int, int]
) -> torch.Tensor:
    """All crops at once, as two batched matrix products; see `crop_and_resize`."""
    count, frame_height, frame_width, _ = images.shape
    height, width = resolution
    table = torch.from_numpy(np.column_stack([crops, flips]).astype(np.float32)).to(images.device)
    top, left, crop_height, crop_width, flipped = table.unbind(1)  # each (B,)
    rows = filter_matrix(top, crop_height, frame_height, height)  # (B, H, S)
    columns = filter_matrix(left, crop_width, frame_width, width)  # (B, W, R)
    columns = torch.where(flipped[:, None, None] > 0, columns.flip(1), columns)
    out = torch.bmm(rows, images.view(count, frame_height, -1).float())  # (B, H, R*3)
    out = out.view(count, height, frame_width, 3).transpose(2, 3).reshape(count, -1, frame_width)
    out = torch.bmm(out, columns.transpose(1, 2))  # (B, H*3, W)
    return out.view(count, height, 3, width).transpose(2, 3).contiguous()


def filter_matrix(
    start: torch.Tensor, length: torch.Tensor, size_in: int, size_out: int
) -> torch.Tensor:
    """Weights (B, size_out, size_in) that resize pixels start..start+length of an axis.

    The triangle filter of PIL's BILINEAR: as wide as an output pixel where the axis shrinks, else
    as an input pixel; it sees no pixel outside the crop, and its weights add up to 1.
    """
    start, length = start[:, None, None], length[:, None, None]
    scale = length / size_out  # input pixels per output pixel
    source = torch.arange(size_in, device=start.device) + 0.5 - start  # (B, 1, size_in)
    centre = (torch.arange(size_out, device=start.device)[:, None] + 0.5) * scale
    weights = (1 - (source - centre).abs() / scale.clamp(min=1)).clamp_(min=0)
    weights *= (source > 0) & (source < length)
    return weights / weights.sum(-1, keepdim=True)


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Grey levels (B, H, W, 3), uint8 or float, to ImageNet-normalised (B, 3, H, W) float32 in
    channels_last."""
    count, height, width, _ = images.shape
    shift, scale = _shift_and_scale(width, images.device)
    out = images.reshape(count, height, width * 3).to(torch.float32, copy=True)
    torch.addcmul(shift, out, scale, out=out)
    return out.view(count, height, width, 3).permute(0, 3, 1, 2)


@functools.cache
def _shift_and_scale(width: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalisation of a row of grey levels as shift + scale * level, each (width * 3,).

    Repeated along the row: broadcasting over 3 values at a time is slow on a CPU. Kept, since
    making them anew for each batch would copy them to the device each time.
    """
    mean, std = (
        torch.tensor(values, device=device).repeat(width)
        for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return -mean / std, 1 / (255 * std)
