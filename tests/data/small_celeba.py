"""A CelebA folder of a few drawn JPEGs, in the official layout."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from src.data.celeba import ATTRIBUTES
from src.data.dataset import Dataset
from src.data.sources import INDEX, Records
from src.data.table import Table


def draw_image(seed: int, size: tuple[int, int] = (178, 218)) -> Image.Image:
    """Smooth random colours with some edges, (width, height) `size`."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    noise = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    return Image.blend(image, noise.filter(ImageFilter.BoxBlur(1)), 0.25)


def table_of(attributes: np.ndarray) -> Table:
    """Return a train table with 0/1 `attributes` (N, 40)."""
    names = np.array([f"{row}.jpg" for row in range(len(attributes))])
    return Table(names, np.zeros(len(names), np.uint8), attributes.astype(np.int8), ATTRIBUTES)


def official_attributes(names: list[str], attributes: np.ndarray) -> str:
    """The text of list_attr_celeba.txt for 0/1 `attributes` (N, 40)."""
    rows = [
        f"{name} " + " ".join(f"{2 * int(value) - 1:2d}" for value in row)
        for name, row in zip(names, attributes)
    ]
    return "\n".join([str(len(names)), " ".join(ATTRIBUTES) + " ", *rows]) + "\n"


def write_annotations(root: Path, split: list[int], seed: int = 0) -> tuple[list[str], np.ndarray]:
    """The two official files for images 000001.jpg, 000002.jpg, ... Returns names, attributes."""
    names = [f"{number:06d}.jpg" for number in range(1, len(split) + 1)]
    attributes = np.random.default_rng(seed).integers(0, 2, (len(split), 40), dtype=np.uint8)
    root.mkdir(parents=True, exist_ok=True)
    (root / "list_attr_celeba.txt").write_text(official_attributes(names, attributes))
    partition = "".join(f"{name} {part}\n" for name, part in zip(names, split))
    (root / "list_eval_partition.txt").write_text(partition)
    return names, attributes


def write_celeba(root: Path, split: list[int]) -> list[str]:
    """Annotations and images; returns the names."""
    names, _ = write_annotations(root, split)
    (root / "img_align_celeba").mkdir()
    for seed, name in enumerate(names):
        draw_image(seed).save(root / "img_align_celeba" / name, quality=90)
    return names


def build_cache(
    root: Path, split: str, resolution: tuple[int, int], full_frame: bool = False, **options: Any
) -> Records:
    """Decode a split into a cache beside `root`, or in the folder `cache_dir`."""
    cache_dir = options.pop("cache_dir", root.parent / "cache")
    options = {"workers": 1, "progress": False} | options
    return Dataset(root, resolution, cache_dir=cache_dir).images(split, full_frame, **options)


def wait_for_chunks(index: Path, seconds: float = 60) -> None:
    """Wait until a build has entered an image in its index."""
    deadline = time.monotonic() + seconds
    while not index.exists() or not np.fromfile(index, INDEX)["done"].any():
        assert time.monotonic() < deadline, f"{index}: no image after {seconds} s"
        time.sleep(0.01)
