"""A data set as training and evaluation see it: a table of examples, and the images of a split."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from src.data.cache import open_or_build_cache
from src.data.celeba import cache_folder, find_images, find_root, load_annotations
from src.data.decode import StreamedImages
from src.data.images import ImageFiles
from src.data.pixels import Pixels
from src.data.table import Table
from src.io import UserError, expand
from src.standin.dataset import ensure_synthetic


class Dataset:
    """CelebA, or anything in its file layout.

    Args:
        root: the folder with the annotations, or its parent.
        resolution: (height, width) of the network's input.
        cache: `records` decodes each image once, `none` at every access.
        cache_dir: where decoded images and parsed annotations are kept.
        workers: threads that decode with cache `none`.
    """

    def __init__(
        self,
        root: str | Path,
        resolution: Sequence[int],
        cache: str = "records",
        cache_dir: str | Path | None = None,
        workers: int = 4,
    ):
        self.root, self.resolution = find_root(root), (resolution[0], resolution[1])
        self.cache, self.cache_dir, self.workers = cache, cache_dir, workers
        self.cache_folder = cache_folder(self.root, cache_dir)
        self.table = load_annotations(self.root, cache_dir)

    @property
    def columns(self) -> dict[str, tuple[str, ...]]:
        """Class names of each column."""
        return dict(zip(self.table.columns, self.table.classes))

    @cached_property
    def files(self) -> ImageFiles:
        """The image files."""
        return find_images(self.root)

    def split(self, split: str) -> Table:
        """Return the rows of a split.

        Raises:
            UserError: there are none.
        """
        rows = self.table.of_split(split)
        if not len(rows):
            raise UserError(f"{self.root}: the {split} split is empty; see list_eval_partition")
        return rows

    def pixels(self, full_frame: bool = False) -> Pixels:
        """Return what is kept of each image: the crop, or the whole frame for augmentation."""
        return Pixels(self.resolution, full_frame, crop=178, frame=(218, 178))

    def images(self, split: str, full_frame: bool = False, **options: Any) -> Any:
        """Return the images of a split, cropped or, for augmentation, as whole frames.

        Args:
            options: of `open_or_build_cache`.
        """
        names, pixels = self.split(split).names, self.pixels(full_frame)
        if self.cache == "none":
            return StreamedImages(self.files, names, pixels, self.workers)
        path = self.cache_folder / f"{split}-{pixels.kind}.bin"
        return open_or_build_cache(path, self.files, names, pixels, **options)


def open_dataset(
    name: str,
    root: str | Path,
    target_resolution: Sequence[int],
    cache: str,
    cache_dir: str | Path | None,
    synthetic: Mapping[str, Any],
    workers: int,
) -> Dataset:
    """Open a data set by its options, see `Dataset`; drawn faces are drawn on first use.

    Args:
        name: `celeba`, or `synthetic` for drawn faces.
        synthetic: options of the drawn faces, see `ensure_synthetic`.
    """
    root = expand(root)
    if name == "synthetic":
        root = ensure_synthetic(root, **synthetic)
    return Dataset(root, target_resolution, cache, cache_dir, workers)
