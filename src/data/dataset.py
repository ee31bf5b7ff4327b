"""A data set as training and evaluation see it: labels and groups of a split, and its images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src.data.cache import open_or_build_cache
from src.data.celeba import load_annotations
from src.data.layout import ImageFiles
from src.data.pixels import Pixels, StreamedImages
from src.data.table import Table
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
        self.table = load_annotations(self.root, cache_dir)

    @property
    def columns(self) -> dict[str, tuple[str, ...]]:
        """Class names of each column."""
        return dict(zip(self.table.columns, self.table.classes))

    def split(self, split: str) -> Table:
        """The rows of train, val or test.

        Raises:
            UserError: there are none.
        """
        rows = self.table.of_split(split)
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


def open_dataset(
    name: str,
    root: str | Path,
    target_resolution: Sequence[int],
    cache: str,
    cache_dir: str | Path | None,
    synthetic: Mapping[str, Any],
    workers: int,
) -> Dataset:
    """Open a data set by its options, see `Dataset`; a drawn one is made on first use.

    Args:
        name: `celeba`, or `synthetic` for drawn faces.
        synthetic: options of the drawn faces, see `ensure_synthetic`.
    """
    root = Path(root)
    if name == "synthetic":
        root = ensure_synthetic(root, **synthetic)
    return Dataset(root, target_resolution, cache, cache_dir, workers)
