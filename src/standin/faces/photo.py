"""Around the drawing: the backdrop before it, and what a camera does to it afterwards."""

import functools

import numpy as np
from PIL import Image

from src.standin.faces.canvas import HEIGHT, OVERSAMPLE, WIDTH, darker, lighter, mix
from src.standin.faces.person import Person

# Standard deviations of log exposure, of log red/blue balance, and of the sensor's noise in grey
# levels. Like the overlap of hair tones they make some labels hard to tell from the picture.
EXPOSURE, TEMPERATURE, NOISE = 0.13, 0.05, 4.0

_BACKDROPS = (
    (70, 92, 110), (120, 104, 92), (92, 118, 98), (150, 132, 120), (84, 82, 104), (160, 150, 138),
    (58, 66, 74), (138, 94, 84), (96, 128, 140), (176, 158, 120), (116, 90, 108), (74, 100, 84),
)  # fmt: skip


@functools.cache
def _banks() -> tuple[list[Image.Image], np.ndarray, np.ndarray]:
    """Backdrop patterns, light maps (24, H, 3W), noise (8, 2H, 3W); equal for all seeds."""
    rng = np.random.default_rng(2015)
    size = (WIDTH * OVERSAMPLE, HEIGHT * OVERSAMPLE)
    patterns = []
    for _ in range(32):
        coarse = rng.integers(0, 256, (rng.integers(2, 6), rng.integers(2, 5)), dtype=np.uint8)
        patterns.append(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    maps = rng.uniform((0, 0.04, 0), (6.28, 0.22, 0.16), (24, 3))
    angle, slope, vignette = maps.T[..., None, None]  # (24, 1, 1) each
    light = 1 + slope * (np.cos(angle) * x + np.sin(angle) * y) - vignette * (x * x + y * y) / 2
    noise = rng.standard_normal((8, 2 * HEIGHT, WIDTH * 3), dtype=np.float32)
    return patterns, light.astype(np.float32).repeat(3, axis=2), noise


def backdrop(person: Person) -> Image.Image:
    """A blurred room: two tones of one colour, at OVERSAMPLE times the final size."""
    pattern = person.choose("backdrop", _banks()[0])
    main, second = (person.choose(n, _BACKDROPS) for n in ("backdrop_colour", "backdrop_tint"))
    tint = mix(main, second, 0.3)
    ramp = np.linspace(darker(tint, 0.25), lighter(tint, 0.35), 256).astype(np.uint8)
    image = pattern.copy()
    image.putpalette(ramp.tobytes())
    return image.convert("RGB")


def photograph(image: Image.Image, person: Person) -> Image.Image:
    """Scale down, blur if `Blurry`, then light, exposure, colour temperature and noise."""
    image = image.reduce(OVERSAMPLE)
    if person.has["Blurry"]:
        small = image.resize((WIDTH // 6, HEIGHT // 6), Image.Resampling.BILINEAR)
        image = small.resize(image.size, Image.Resampling.BICUBIC)
    _, light, noise = _banks()
    warm = TEMPERATURE * person.normal.temperature
    gain = np.exp([EXPOSURE * person.normal.light + shift for shift in (warm, 0, -warm)])
    pixels = np.asarray(image, np.float32).reshape(HEIGHT, WIDTH * 3)  # long rows are fast
    pixels = pixels * np.tile(gain.astype(np.float32), WIDTH)
    pixels *= person.choose("light_map", light)
    row = int(person.uniform.noise_row * HEIGHT)
    amount = NOISE * (0.5 + person.uniform.noise_amount) * (0.3 if person.has["Blurry"] else 1)
    pixels += person.choose("noise", noise)[row : row + HEIGHT] * np.float32(amount)
    pixels = pixels.clip(0, 255, out=pixels).astype(np.uint8)
    return Image.fromarray(pixels.reshape(HEIGHT, WIDTH, 3))
