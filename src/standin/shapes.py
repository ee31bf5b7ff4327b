"""Drawn shapes on textures: a small data set in the form that people's own data have.

A metadata.csv names each picture with its split, its `shape` (three classes to predict), the
`texture` behind it (three, and easier to see than the shape) and the `size` of the shape in pixels.
In train nine of ten shapes are on the texture that goes with them; in val and test all pairs are
equally frequent, as in Waterbirds. Some labels are missing. PNG and JPEG files of several sizes
stand side by side.
"""

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from src.io import write_atomic

SHAPES = ("disc", "square", "triangle")
TEXTURES = ("checks", "dots", "stripes")
USUAL = 0.9
UNLABELLED = 0.05  # share of shapes, and of textures, that the table does not name
SIDES = (64, 72, 80)  # of the pictures
COLOURS = ((150, 90, 80), (80, 140, 90), (85, 95, 150))  # of the textures


def draw_shapes(
    root: Path, num_train: int = 600, num_test: int = 300, seed: int = 0, usual: float = USUAL
) -> None:
    """Draw the pictures and write metadata.csv into `root`; val is as large as test.

    Args:
        usual: share of train pictures whose texture is that of their shape; others draw theirs.

    Raises:
        OSError: the folder cannot be written.
    """
    import pandas as pd

    splits = ["train"] * num_train + ["val"] * num_test + ["test"] * num_test
    (root / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for number, split in enumerate(splits):
        rng = np.random.default_rng([seed, number])
        shape = int(rng.integers(3))
        drawn, chance = int(rng.integers(3)), rng.random()
        texture = shape if split == "train" and chance < usual else drawn
        size = int(rng.integers(20, 41))
        picture = draw_picture(rng, shape, texture, size)
        name = f"{number:05d}.{('png', 'jpg')[number % 2]}"
        picture.save(root / "images" / name, quality=92)
        known = rng.random(2) >= UNLABELLED
        rows.append(
            {
                "filename": name,
                "split": split,
                "shape": SHAPES[shape] if known[0] else None,
                "texture": TEXTURES[texture] if known[1] else None,
                "size": size,
            }
        )
    write_atomic(root / "metadata.csv", pd.DataFrame(rows).to_csv(index=False))


def draw_picture(rng: np.random.Generator, shape: int, texture: int, size: int) -> Image.Image:
    """Draw one shape, `size` pixels wide, somewhere on a texture."""
    width, height = rng.choice(SIDES, 2).tolist()
    picture = draw_texture(rng, texture, width, height)
    left, top = int(rng.integers(width - size)), int(rng.integers(height - size))
    box = (left, top, left + size, top + size)
    draw, grey = ImageDraw.Draw(picture), (int(rng.integers(185, 235)),) * 3
    if shape == 0:
        draw.ellipse(box, fill=grey)
    elif shape == 1:
        draw.rectangle(box, fill=grey)
    else:
        draw.polygon([(left, box[3]), (box[2], box[3]), (left + size // 2, top)], fill=grey)
    noise = rng.normal(0, 12, (height, width, 3))
    levels = np.asarray(picture.filter(ImageFilter.GaussianBlur(0.7))) + noise
    return Image.fromarray(levels.round().clip(0, 255).astype(np.uint8))


def draw_texture(rng: np.random.Generator, texture: int, width: int, height: int) -> Image.Image:
    """Draw a pattern of two tones of the texture's colour, shifted and scaled at random."""
    y, x = np.mgrid[:height, :width] + rng.uniform(0, 12, 2)[:, None, None]
    period = rng.uniform(7, 12)
    wave_x, wave_y = np.sin(2 * math.pi * x / period), np.sin(2 * math.pi * y / period)
    if texture == 0:
        dark = wave_x * wave_y > 0
    elif texture == 1:
        dark = wave_x + wave_y > 1
    else:
        dark = np.sin(2 * math.pi * (x + y) / period) > 0
    colour = np.array(COLOURS[texture]) + rng.integers(-15, 16, 3)
    levels = colour[None, None] - 45 * dark[..., None]
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))
