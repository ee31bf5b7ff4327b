"""From the bytes of an image file to a fixed-size uint8 array.

`cropped` is the reference transform of Sagawa et al. (2020) up to uint8: centre crop of 178x178,
then an antialiased bilinear resize; the pixels equal torchvision's on a PIL image. `full_frame` is
the decoded 178x218 image, from which augmentation crops later.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from src.data.layout import ImageFiles
from src.io import UserError

CROP = 178
FULL_FRAME = (218, 178)  # height, width of an aligned CelebA image
MAX_PIXELS = 4096 * 4096  # a bigger file is not a face of CelebA, and could fill the memory


# Not whatever Pillow can read: for EPS, as an example, it starts Ghostscript on the file.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")


class BadImage(Exception):
    """An image file without usable pixels; the message says why."""


def open_image(data: bytes) -> Image.Image:
    """Open the bytes of an image file, before its pixels are decoded.

    Raises:
        BadImage: far too large.
        Exception: whatever the decoders raise on rubbish.
    """
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadImage(f"{width}x{height} pixels; at most {MAX_PIXELS} are read")
    return image


@dataclass(frozen=True)
class Pixels:
    """What is kept of an image: its centre crop at `resolution` (height, width), or with
    `full_frame` all of it, for crops at `resolution` to be drawn from."""

    resolution: tuple[int, int]
    full_frame: bool = False

    @property
    def kind(self) -> str:
        """As part of a file name: `cropped-224x224` or `full_frame`."""
        if self.full_frame:
            return "full_frame"
        return f"cropped-{self.resolution[0]}x{self.resolution[1]}"

    @property
    def shape(self) -> tuple[int, int, int]:
        return (*(FULL_FRAME if self.full_frame else self.resolution), 3)

    def decode(self, data: bytes) -> np.ndarray:
        """Pixels (H, W, 3) uint8, RGB whatever the file holds.

        Raises:
            BadImage: not an image, cut short, far too large, or for the full frame another size.
        """
        try:
            with open_image(data) as image:
                self._check_size(*image.size)
                rgb = image.convert("RGB")
        except BadImage:
            raise
        except Exception as error:  # decoders raise whatever they like on rubbish
            raise BadImage(f"{error or type(error).__name__}".replace("\n", " ")) from None
        if not self.full_frame:
            height, width = self.resolution
            rgb = centre_crop(rgb).resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(rgb)

    def _check_size(self, width: int, height: int) -> None:
        if self.full_frame and (height, width) != FULL_FRAME:
            raise BadImage(
                f"{width}x{height} pixels; data_augmentation needs the aligned images of "
                f"{FULL_FRAME[1]}x{FULL_FRAME[0]}"
            )


def centre_crop(image: Image.Image) -> Image.Image:
    """The central CROP x CROP pixels, zero-padded where the image is smaller; torchvision's
    rounding (half to even where it cuts, the smaller half first where it pads)."""
    left, top = (
        round((side - CROP) / 2) if side >= CROP else -((CROP - side) // 2) for side in image.size
    )
    return image.crop((left, top, left + CROP, top + CROP))


@dataclass(frozen=True)
class StreamedImages:
    """Images decoded at each use, for people without the disk space of a cache; reads like
    `src.data.cache.Records`. `workers` processes decode when batches are iterated."""

    images: ImageFiles
    names: Sequence[str]
    pixels: Pixels
    workers: int = 0

    def __len__(self) -> int:
        return len(self.names)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.pixels.shape

    @property
    def fingerprint(self) -> dict[str, str]:
        """Identify the pixels: a hash of the names, sizes and mtimes of the files."""
        return {"files": self.images.fingerprint(self.names)}

    def read(self, positions: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Pixels (B, H, W, 3) uint8 of the images at `positions` (B,).

        Raises:
            UserError: an image is missing or unreadable.
        """
        if out is None:
            out = np.empty((len(positions), *self.shape), np.uint8)
        for row, position in enumerate(positions):
            name = str(self.names[position])
            try:
                out[row] = self.pixels.decode(self.images.read(name))
            except (OSError, BadImage) as error:
                raise UserError(
                    f"{self.images.path(name)}: cannot be read ({error}); fetch it again or leave "
                    "it out: `python -m scripts.prepare_data --skip_bad --root ...`"
                ) from None
        return out
