"""From the bytes of an image file to pixels."""

import io
import os

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import functional

from src.data.celeba import find_images
from src.data.pixels import BadImage, Pixels
from tests.data.small_celeba import draw_image

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def torchvision_pixels(data: bytes, resolution) -> np.ndarray:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    image = functional.resize(functional.center_crop(image, 178), list(resolution))
    return np.asarray(image)


@pytest.mark.parametrize("resolution", [(224, 224), (64, 64), (178, 178), (96, 50), (7, 300)])
@pytest.mark.parametrize("size", [(178, 218), (300, 181)])
def test_cropped_pixels_equal_torchvision(size, resolution):
    data = encode(draw_image(1, size), "JPEG", quality=85)
    pixels, found = Pixels(resolution, crop=178).decode(data)
    np.testing.assert_array_equal(pixels, torchvision_pixels(data, resolution))
    assert found == size[::-1]


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpeg_of_other_modes_becomes_rgb(mode):
    data = encode(draw_image(2).convert(mode), "JPEG")
    pixels, _ = Pixels((64, 64), crop=178).decode(data)
    np.testing.assert_array_equal(pixels, torchvision_pixels(data, (64, 64)))


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA", "1"])
def test_pictures_of_other_modes_become_rgb(mode):
    pixels, _ = Pixels((32, 32)).decode(encode(draw_image(2).convert(mode), "PNG"))
    assert pixels.shape == (32, 32, 3)


def test_16_bit_grey_levels_are_scaled():
    levels = np.array([[0, 257 * 100], [257 * 200, 65_535]], np.uint16)
    pixels, _ = Pixels((2, 2)).decode(encode(Image.fromarray(levels)))
    assert pixels[..., 0].tolist() == [[0, 100], [200, 255]]


def test_camera_orientation_is_applied():
    image = Image.new("RGB", (40, 20), RED)
    image.paste(BLUE, (0, 0, 20, 20))  # blue on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: blue on top
    pixels, size = Pixels((8, 8), crop="full").decode(encode(image, exif=exif))
    assert size == (40, 20)
    assert pixels[0, 0].tolist() == list(BLUE)
    assert pixels[-1, -1].tolist() == list(RED)


@pytest.mark.parametrize(
    ("crop", "resize", "wanted"),
    [
        ("square", None, [GREEN, GREEN]),  # the central 20x20
        ("full", None, [RED, BLUE]),
        (10, None, [GREEN, GREEN]),
        ("full", [10, 10], [RED, BLUE]),
        (10, 10, [GREEN, GREEN]),  # 30x10, then its central 10x10
    ],
)
def test_resize_comes_first_then_the_central_crop(crop, resize, wanted):
    image = Image.new("RGB", (60, 20), GREEN)
    image.paste(RED, (0, 0, 20, 20))
    image.paste(BLUE, (40, 0, 60, 20))
    resize = tuple(resize) if isinstance(resize, list) else resize
    pixels, _ = Pixels((4, 4), crop=crop, resize=resize).decode(encode(image))
    ends = pixels[2, [0, -1]].astype(int)
    assert np.abs(ends - np.array(wanted)).max() < 60


def test_full_frame_is_the_decoded_image():
    data = encode(draw_image(3), "JPEG")
    pixels, _ = Pixels((32, 32), full_frame=True, crop=178, frame=(218, 178)).decode(data)
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize(
    ("resolution", "options", "shape"),
    [
        ((224, 224), {}, (256, 256, 3)),  # 8/7 of the input
        ((64, 64), {"resize": (80, 70)}, (80, 70, 3)),
        ((64, 64), {"resize": 96}, (96, 96, 3)),
        ((64, 64), {"frame": (218, 178), "crop": 178}, (218, 178, 3)),
    ],
)
def test_full_frames_have_one_size(resolution, options, shape):
    pixels = Pixels(resolution, full_frame=True, **options)
    assert pixels.shape == shape
    if pixels.frame is None:
        for size in ((100, 50), (30, 90)):
            assert pixels.decode(encode(draw_image(1, size)))[0].shape == shape


def test_image_smaller_than_the_crop_is_a_bad_image():
    with pytest.raises(BadImage, match="100x90 pixels: too small for crop=178"):
        Pixels((32, 32), crop=178).decode(encode(draw_image(5, (100, 90))))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an image",
        encode(draw_image(4), "JPEG")[:-3000],
        encode(draw_image(4), "JPEG")[:100],
        encode(Image.new("F", (8, 8)), "TIFF"),
    ],
    ids=["empty", "text", "truncated", "header", "floats"],
)
def test_bytes_without_usable_pixels_are_a_bad_image(data):
    with pytest.raises(BadImage):
        Pixels((64, 64)).decode(data)


@pytest.mark.celeba
@pytest.mark.parametrize("resolution", [(224, 224), (64, 64)])
def test_real_pixels_equal_torchvision(resolution):
    if "CELEBA_ROOT" not in os.environ:
        pytest.skip("CELEBA_ROOT is not set")
    images = find_images(os.environ["CELEBA_ROOT"])
    names = sorted(path.name for path in images.location.iterdir())[::140]
    assert len(names) >= 100
    for name in names:
        data = images.read(name)
        pixels, _ = Pixels(resolution, crop=178, frame=(218, 178)).decode(data)
        np.testing.assert_array_equal(pixels, torchvision_pixels(data, resolution))
