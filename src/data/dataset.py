"""A data set as training and evaluation see it: a table of examples, and the images of a split."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from src.data.adapters import ADAPTERS
from src.data.cache import open_or_build_cache
from src.data.celeba import CelebALayout
from src.data.features import FeatureRows, open_features
from src.data.images import ImageFiles
from src.data.metadata import TableLayout, TableOptions
from src.data.pixels import Pixels
from src.data.sources import StreamedImages
from src.data.table import Table
from src.io import UserError, expand
from src.standin.dataset import ensure_synthetic

Layout = CelebALayout | TableLayout  # how the files of a data set are arranged


class Dataset:
    """The rows and images of a data set.

    Args:
        layout: how its files are arranged; a folder stands for one in CelebA's layout.
        resolution: (height, width) of the network's input.
        cache: `records` decodes each image once, `none` at every access.
        cache_dir: where decoded images and parsed annotations are kept, if `layout` is a folder.
        workers: threads that decode with cache `none`.
        features: file of features (N, D) that take the place of images.
        crop, resize: instead of the layout's own; see `Pixels`.
    """

    def __init__(
        self,
        layout: Layout | str | Path,
        resolution: Sequence[int],
        cache: str = "records",
        cache_dir: str | Path | None = None,
        workers: int = 4,
        crop: int | str | None = None,
        resize: int | Sequence[int] | None = None,
        features: str | None = None,
    ):
        if isinstance(layout, (str, Path)):
            layout = CelebALayout(layout, cache_dir)
        self.layout, self.root, self.cache_folder = layout, layout.root, layout.cache_folder
        self.resolution = (resolution[0], resolution[1])
        self.cache, self.workers = cache, workers
        self.crop, self.resize = crop, resize
        self.table = layout.table()
        self.features = None if features is None else open_features(features)
        if self.features is not None and len(self.features) != len(self.table):
            raise UserError(
                f"exp.dataset.features={features} has {len(self.features):,} rows, but the table "
                f"has {len(self.table):,}: make both from the same rows, in the same order"
            )

    @property
    def columns(self) -> dict[str, Sequence[str] | str]:
        """Class names of each column, or why it has none."""
        return {**self.table.unusable, **dict(zip(self.table.columns, self.table.classes))}

    @cached_property
    def files(self) -> ImageFiles:
        """The image files."""
        return self.layout.files(self.table.names)

    def split(self, split: str) -> Table:
        """Return the rows of a split.

        Raises:
            UserError: there are none.
        """
        rows = self.table.of_split(split)
        if not len(rows):
            raise UserError(f"{self.root}: the {split} split is empty: no row is marked {split}")
        return rows

    def pixels(self, full_frame: bool = False) -> Pixels:
        """Return what is kept of each image: the crop, or the whole frame for augmentation."""
        return choose_pixels(self.layout, self.resolution, self.crop, self.resize, full_frame)

    def images(self, split: str, full_frame: bool = False, **options: Any) -> Any:
        """Return the images of a split, cropped or, for augmentation, as whole frames.

        Args:
            options: of `open_or_build_cache`.
        """
        if self.features is not None:
            own = np.flatnonzero(self.table.split == self.table.splits.index(split))
            return FeatureRows(self.features, own)
        names, pixels = self.split(split).names, self.pixels(full_frame)
        if self.cache == "none":
            return StreamedImages(self.files, names, pixels, self.workers)
        path = self.cache_folder / f"{split}-{pixels.kind}.bin"
        return open_or_build_cache(path, self.files, names, pixels, **options)


LAYOUTS = {"celeba": CelebALayout, "synthetic": CelebALayout, "table": TableLayout}
LAYOUTS |= dict.fromkeys(ADAPTERS, TableLayout)


def choose_pixels(
    layout: Layout | type[Layout],
    resolution: Sequence[int],
    crop: int | str | None,
    resize: int | Sequence[int] | None,
    full_frame: bool = False,
) -> Pixels:
    """Return what is kept of each image: what is given, or else the layout's own."""
    frame = layout.frame if crop is None and resize is None else None
    scale = tuple(resize) if isinstance(resize, (list, tuple)) else resize
    return Pixels((resolution[0], resolution[1]), full_frame, crop or layout.crop, scale, frame)


def open_dataset(
    name: str,
    root: str | Path,
    target_resolution: Sequence[int],
    cache: str,
    cache_dir: str | Path | None,
    synthetic: Mapping[str, Any],
    table: Mapping[str, Any],
    workers: int,
    **options: Any,
) -> Dataset:
    """Open a data set by its options, see `Dataset`; drawn faces are drawn on first use.

    Args:
        name: `celeba`, `synthetic` for drawn faces, `table`, or one of `ADAPTERS`.
        synthetic: options of the drawn faces, see `ensure_synthetic`.
        table: options of `table`, see `TableOptions`.
        options: of `Dataset`.
    """
    root = expand(root)
    if name == "synthetic":
        root = ensure_synthetic(root, **synthetic)
    own = (TableOptions(**table), ADAPTERS.get(name)) if LAYOUTS[name] is TableLayout else ()
    layout = LAYOUTS[name](root, cache_dir, *own)
    options["features"] = table["features"]
    return Dataset(layout, target_resolution, cache, workers=workers, **options)
