"""What happens to a batch of uint8 images on the device: crop, flip, resize, normalise.

A crop followed by an antialiased bilinear resize is linear in the rows and in the columns. So each
example has one filter matrix per axis, and on an accelerator the whole batch is two batched matrix
products. The filters are those of PIL's BILINEAR resize of the cropped image.
"""

import functools
import math

import numpy as np
import torch
from torch.nn.functional import interpolate

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Random resized crop of Sagawa et al. (2020), group_DRO: share of the frame, width/height.
SCALE = (0.7, 1.0)
RATIO = (1.0, 4 / 3)
_TRIES = 10


def draw_crops(seed: int, step: int, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw crops (B, 4) int64 (top, left, height, width) of pictures, and flips (B,) bool.

    They are a function of (seed, step): no generator has to be saved to resume.
    As torchvision's RandomResizedCrop: up to ten tries of area and aspect ratio, else the largest
    central crop of an allowed ratio.

    Args:
        sizes: (B, 2) height and width of the pictures.
    """
    count = len(sizes)
    picture_height, picture_width = sizes.astype(np.int64).T  # (B,) each
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, step))))
    area = (picture_height * picture_width)[:, None] * rng.uniform(*SCALE, (count, _TRIES))
    ratio = np.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1]), (count, _TRIES)))
    place, flips = rng.random((count, 2)), rng.random(count) < 0.5
    widths = np.rint(np.sqrt(area * ratio)).astype(np.int64)  # (B, tries)
    heights = np.rint(np.sqrt(area / ratio)).astype(np.int64)
    fits = (widths <= picture_width[:, None]) & (heights <= picture_height[:, None])
    first, rows = fits.argmax(1), np.arange(count)
    height, width = heights[rows, first], widths[rows, first]  # (B,)
    none = ~fits.any(1)
    height[none] = np.minimum(picture_height, np.rint(picture_width / RATIO[0]))[none]
    width[none] = np.minimum(picture_width, np.rint(picture_height * RATIO[1]))[none]
    place[none] = 0.5
    top = (place[:, 0] * (picture_height - height + 1 - none)).astype(np.int64)
    left = (place[:, 1] * (picture_width - width + 1 - none)).astype(np.int64)
    return np.stack([top, left, height, width], 1), flips


def scale_crops(crops: np.ndarray, sizes: np.ndarray, frame: tuple[int, int]) -> np.ndarray:
    """Return crops (B, 4) of pictures of `sizes` (B, 2) as crops of copies of size `frame`."""
    frame = np.array(frame)
    scale = frame / sizes  # (B, 2)
    start = np.minimum(np.rint(crops[:, :2] * scale), frame - 1)
    length = np.rint(crops[:, 2:] * scale).clip(1, frame - start)
    return np.concatenate([start, length], 1).astype(np.int64)


def crop_and_resize(
    images: torch.Tensor, crops: np.ndarray, flips: np.ndarray, resolution: tuple[int, int]
) -> torch.Tensor:
    """Return each image's crop at `resolution`, flipped where `flips` says so.

    Args:
        images: (B, S, R, 3) uint8.
        crops: (B, 4) top, left, height, width.
        flips: (B,) bool.

    Returns:
        Grey levels (B, H, W, 3) within one of PIL's: float32 and not rounded, or uint8 on a CPU.
    """
    resize = _resize_one_by_one if images.device.type == "cpu" else resize_by_products
    return resize(images, crops, flips, resolution)


def _resize_one_by_one(
    images: torch.Tensor, crops: np.ndarray, flips: np.ndarray, resolution: tuple[int, int]
) -> torch.Tensor:
    """Use torch's uint8 kernel for CPUs: about ten times as fast there as dense products."""
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
    """Resize all crops at once, as two batched matrix products; see `crop_and_resize`."""
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
    """Return weights (B, size_out, size_in) that resize pixels start..start+length of an axis.

    The triangle filter of PIL's BILINEAR: as wide as an output pixel if the axis shrinks, else as
    an input pixel. It ignores pixels outside the crop, and its weights add up to 1.
    """
    start, length = start[:, None, None], length[:, None, None]
    scale = length / size_out  # input pixels per output pixel
    source = torch.arange(size_in, device=start.device) + 0.5 - start  # (B, 1, size_in)
    centre = (torch.arange(size_out, device=start.device)[:, None] + 0.5) * scale
    weights = (1 - (source - centre).abs() / scale.clamp(min=1)).clamp_(min=0)
    weights *= (source > 0) & (source < length)
    return weights / weights.sum(-1, keepdim=True)


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Return ImageNet-normalised images (B, 3, H, W) float32 in channels_last.

    Args:
        images: grey levels (B, H, W, 3), uint8 or float.
    """
    count, height, width, _ = images.shape
    shift, scale = _shift_and_scale(width, images.device)
    out = images.reshape(count, height, width * 3).to(torch.float32, copy=True)
    torch.addcmul(shift, out, scale, out=out)
    return out.view(count, height, width, 3).permute(0, 3, 1, 2)


@functools.cache
def _shift_and_scale(width: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return shift and scale (width * 3,) of a row: normalised = shift + scale * level.

    Repeated along the row, as broadcasting over 3 values is slow on a CPU. Cached, as making them
    for each batch would copy them to the device each time.
    """
    mean, std = (
        torch.tensor(values, device=device).repeat(width)
        for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return -mean / std, 1 / (255 * std)
