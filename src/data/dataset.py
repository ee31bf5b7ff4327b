"""A data set as training and evaluation see it: labels and groups of a split, and its images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from src.config.schema import DatasetConfig
from src.data.cache import open_or_build_cache
from src.data.celeba import Annotations, load_annotations
from src.data.groupings import Grouping
from src.data.layout import ImageFiles
from src.data.pixels import Pixels, StreamedImages
from src.io import UserError
from src.standin.dataset import ensure_synthetic


class Dataset:
    """CelebA, or anything in its file layout.

    Args:
        root: the folder with the annotations, or its parent.
        resolution: (height, width) of the network's input.
        cache: `records` decodes each image once, `none` at every access.
        cache_dir: where decoded images and parsed annotations are kept.
        workers: decoding processes.
    """

    def __init__(
        self,
        root: str | Path,
        resolution: Sequence[int],
        cache: str = "records",
        cache_dir: str | Path | None = None,
        workers: int = 4,
    ):
        self.root, self.resolution = Path(root), (resolution[0], resolution[1])
        self.cache, self.cache_dir, self.workers = cache, cache_dir, workers
        self.annotations = load_annotations(self.root, cache_dir)

    def split(self, split: str) -> Annotations:
        """The rows of train, val or test.

        Raises:
            UserError: there are none.
        """
        rows = self.annotations.of_split(split)
        if not len(rows):
            raise UserError(f"{self.root}: the {split} split is empty; see list_eval_partition")
        return rows

    def images(self, split: str, full_frame: bool = False):
        """Images of a split by row number: the reference crop, or the frame to be augmented."""
        if self.cache == "records":
            return open_or_build_cache(
                self.root,
                split,
                self.resolution,
                full_frame,
                self.cache_dir,
                # The cache is built once: by all cores, not by a loader's few.
                workers=None,
            )
        pixels = Pixels(self.resolution, full_frame)
        return StreamedImages(ImageFiles(self.root), self.split(split).names, pixels, self.workers)


def open_dataset(data: DatasetConfig, workers: int) -> Dataset:
    """The data set of a configuration; the drawn stand-in is made here on first use."""
    root = Path(data.root)
    if data.name == "synthetic":
        root = ensure_synthetic(root, **vars(data.synthetic))
    return Dataset(root, data.target_resolution, data.cache, data.cache_dir, workers)


def labels_of(rows: Annotations, groupings: Sequence[Grouping]) -> np.ndarray:
    """Labels y (N, T) uint8 of a split."""
    return np.stack([grouping.labels(rows.attributes) for grouping in groupings], axis=1)


def groups_of(rows: Annotations, groupings: Sequence[Grouping]) -> np.ndarray:
    """Group ids g (N, T) int64 of a split."""
    return np.stack([grouping.group_ids(rows.attributes) for grouping in groupings], axis=1)
