"""Draw faces that show each of CelebA's 40 attributes, for the embedded stand-in."""

import functools

import numpy as np
from PIL import Image

from src.standin.faces import face, hair, wear
from src.standin.faces.canvas import HEIGHT, OVERSAMPLE, WIDTH, Canvas, darker, lighter, mix
from src.standin.faces.person import Person

# Standard deviations of log exposure, of log red/blue balance, and of the sensor's noise in grey
# levels. Like the overlapping hair tones, they make some labels hard to tell from the picture.
_EXPOSURE, _TEMPERATURE, _NOISE = 0.13, 0.05, 4.0

_BACKDROPS = (
    (70, 92, 110), (120, 104, 92), (92, 118, 98), (150, 132, 120), (84, 82, 104), (160, 150, 138),
    (58, 66, 74), (138, 94, 84), (96, 128, 140), (176, 158, 120), (116, 90, 108), (74, 100, 84),
)  # fmt: skip


def draw_face(attributes: np.ndarray, seed: int, index: int) -> Image.Image:
    """Draw a face, RGB 178 x 218, aligned like CelebA (eyes on row 111, mouth on row 152).

    Args:
        attributes: (40,) of 0/1 in the order of ATTRIBUTES. Each changes its own cue in the picture
            and moves nothing else.
        seed, index: fix all chance: pose, skin, hair, clothes, backdrop, light.
    """
    person = Person(attributes, seed, index)
    image, chance = _backdrop(person), person.normal
    shift = (2 * chance.shift_x, 2 * chance.shift_y)
    canvas = Canvas(image, 1 + 0.035 * chance.scale, 0.04 * chance.tilt, shift)
    hair.draw_hair_behind(canvas, person)
    wear.draw_neck_and_clothes(canvas, person)
    face.draw_head(canvas, person)
    face.draw_skin(canvas, person)
    face.draw_beard(canvas, person)
    face.draw_nose(canvas, person)
    face.draw_eyes(canvas, person)
    face.draw_mouth(canvas, person)
    hair.draw_hair(canvas, person)
    wear.draw_earrings(canvas, person)
    wear.draw_glasses(canvas, person)
    wear.draw_hat(canvas, person)
    return _photograph(image, person)


@functools.cache
def _patterns() -> tuple[list[Image.Image], np.ndarray, np.ndarray]:
    """Make backdrops, light maps (24, H, 3W) and noise (8, 2H, 3W), the same for all seeds."""
    rng = np.random.default_rng(2015)
    size, backdrops = (WIDTH * OVERSAMPLE, HEIGHT * OVERSAMPLE), []
    for _ in range(32):
        coarse = rng.integers(0, 256, (rng.integers(2, 6), rng.integers(2, 5)), dtype=np.uint8)
        backdrops.append(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    maps = rng.uniform((0, 0.04, 0), (6.28, 0.22, 0.16), (24, 3))
    angle, slope, vignette = maps.T[..., None, None]  # (24, 1, 1) each
    light = 1 + slope * (np.cos(angle) * x + np.sin(angle) * y) - vignette * (x * x + y * y) / 2
    noise = rng.standard_normal((8, 2 * HEIGHT, WIDTH * 3), dtype=np.float32)
    return backdrops, light.astype(np.float32).repeat(3, axis=2), noise


def _backdrop(person: Person) -> Image.Image:
    """Draw a blurred room in two tones of one colour, at OVERSAMPLE times the final size."""
    main, second = (person.choose(n, _BACKDROPS) for n in ("backdrop_colour", "backdrop_tint"))
    tint = mix(main, second, 0.3)
    ramp = np.linspace(darker(tint, 0.25), lighter(tint, 0.35), 256).astype(np.uint8)
    image = person.choose("backdrop", _patterns()[0]).copy()
    image.putpalette(ramp.tobytes())
    return image.convert("RGB")


def _photograph(image: Image.Image, person: Person) -> Image.Image:
    """Scale down, blur if `Blurry`, then add light, exposure, colour temperature and noise."""
    image, blurry = image.reduce(OVERSAMPLE), person.has["Blurry"]
    if blurry:
        small = image.resize((WIDTH // 6, HEIGHT // 6), Image.Resampling.BILINEAR)
        image = small.resize(image.size, Image.Resampling.BICUBIC)
    _, light, noise = _patterns()
    warm = _TEMPERATURE * person.normal.temperature
    gain = np.exp([_EXPOSURE * person.normal.light + shift for shift in (warm, 0, -warm)])
    pixels = np.asarray(image, np.float32).reshape(HEIGHT, WIDTH * 3)  # long rows are fast
    pixels = pixels * np.tile(gain.astype(np.float32), WIDTH)
    pixels *= person.choose("light_map", light)
    row = int(person.uniform.noise_row * HEIGHT)
    amount = _NOISE * (0.5 + person.uniform.noise_amount) * (0.3 if blurry else 1)
    pixels += person.choose("noise", noise)[row : row + HEIGHT] * np.float32(amount)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8).reshape(HEIGHT, WIDTH, 3))
