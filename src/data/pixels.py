"""What is kept of an image file: an array of one size.

For CelebA this is the reference transform of Sagawa et al. (2020), up to uint8: the central 178x178
pixels of an aligned frame, then an antialiased bilinear resize. All pixels equal those of
torchvision's Resize and CenterCrop on a PIL image.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

# For other formats Pillow may start programs, such as Ghostscript for EPS.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")


class BadImage(Exception):
    """An image file without usable pixels; the message says why."""


class WrongFrame(Exception):
    """An image of another size than the data set's frames."""


@dataclass(frozen=True)
class Pixels:
    """What is kept of an image: it is scaled, cropped in the centre, and scaled to `resolution`.

    With `full_frame` all of it is kept, at one size, and random crops are drawn from it later.

    Attributes:
        resolution: (height, width) of the network's input.
        full_frame: keep the whole frame.
        crop: side of the central square, `square` for the largest one, `full` for no crop.
        resize: scale images to this short side, or (height, width), before the crop.
        frame: (height, width) that all images must have; None for any.
    """

    resolution: tuple[int, int]
    full_frame: bool = False
    crop: int | str = "square"
    resize: int | tuple[int, int] | None = None
    frame: tuple[int, int] | None = None

    @property
    def kind(self) -> str:
        """As part of a file name: `cropped-224x224-178` or `frame-218x178`."""
        if self.full_frame:
            return f"frame-{self.shape[0]}x{self.shape[1]}"
        scale = self.resize if isinstance(self.resize, tuple) else (self.resize,)
        parts = [self.crop, *scale] if self.resize else [self.crop]
        return "-".join(map(str, [f"cropped-{self.resolution[0]}x{self.resolution[1]}", *parts]))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, 3) of what is kept; frames of any size are kept at 8/7 of the input."""
        size = self.resolution
        if self.full_frame:
            scale = (self.resize, self.resize) if isinstance(self.resize, int) else self.resize
            size = self.frame or scale or tuple(round(side * 8 / 7) for side in size)
        return (*size, 3)

    def decode(self, data: bytes) -> tuple[np.ndarray, tuple[int, int]]:
        """Return the pixels (H, W, 3) uint8 of an image file, and the (height, width) in the file.

        Raises:
            BadImage: not an image, cut short, or too small for the crop.
            WrongFrame: another size than `frame`.
        """
        try:
            with open_image(data) as image:
                picture = to_rgb(image)
        except Exception as error:  # decoders raise anything for damaged data
            raise BadImage(f"{error or type(error).__name__}".replace("\n", " ")) from None
        width, height = picture.size
        if self.frame not in (None, (height, width)):
            raise WrongFrame(f"{width}x{height} pixels, not {self.frame[1]}x{self.frame[0]}")
        return self.prepare(picture), (height, width)

    def prepare(self, picture: Image.Image) -> np.ndarray:
        """Return the pixels (H, W, 3) uint8 of an RGB picture.

        Raises:
            BadImage: too small for the crop.
        """
        if not self.full_frame:
            picture = self._crop(self._scale(picture))
        size = self.shape[1], self.shape[0]
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.BILINEAR)
        return np.asarray(picture)

    def _scale(self, picture: Image.Image) -> Image.Image:
        if self.resize is None:
            return picture
        if isinstance(self.resize, int):
            short = min(picture.size)
            size = tuple(int(self.resize * side / short) for side in picture.size)
        else:
            size = self.resize[::-1]
        return picture.resize(size, Image.Resampling.BILINEAR)

    def _crop(self, picture: Image.Image) -> Image.Image:
        """Return the central square; torchvision's rounding, half to even."""
        if self.crop == "full":
            return picture
        side = min(picture.size) if self.crop == "square" else self.crop
        if side > min(picture.size):
            raise BadImage(f"{picture.width}x{picture.height} pixels: too small for crop={side}")
        left, top = (round((length - side) / 2) for length in picture.size)
        return picture.crop((left, top, left + side, top + side))


def open_image(data: bytes) -> Image.Image:
    """Open the bytes of an image file; pixels are decoded when they are used."""
    return Image.open(io.BytesIO(data), formats=FORMATS)


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an 8-bit RGB picture, upright as the camera says; 16-bit grey levels are scaled."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.float64) / 257  # 65,535 becomes 255
        image = Image.fromarray(levels.round().clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        raise BadImage("grey levels are 32-bit floats: save it with 8 or 16 bits")
    return image.convert("RGB")
