"""Any table of pictures: metadata.csv (or .tsv, .parquet), one row per example.

Parquet files of Hugging Face may hold the pictures, too; see src/data/parquet.py.

A column named `filename`, `img_filename`, `image_id`, `file`, `file_name` or `path` says where the
picture is, `split` whether it belongs to train, val or test (as words or 0, 1, 2). Every other
column can be a task or an attribute; see src/data/encode.py for what may stand in it. Without a
split column the rows are split at random, the same way in every run.
"""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from src.data.adapters import Adapter, read_by_pattern
from src.data.encode import NotClasses, encode
from src.data.images import ImageFiles, without_bad_images
from src.data.parquet import picture_column, read_parquet
from src.data.split import dealt_split, read_split, split_by_file
from src.data.table import SPLITS, Table, cached_table
from src.data.text_files import read_text_table, shortened
from src.io import UserError, did_you_mean, expand

if TYPE_CHECKING:
    import pandas as pd

FILES = ("metadata.csv", "metadata.parquet", "metadata.tsv", "*.parquet", "data/*.parquet")
NAME_COLUMNS = ("filename", "img_filename", "image_id", "file_name", "file", "path", "Path")
SPLIT_COLUMNS = ("split", "partition")
IMAGE_FOLDERS = ("", "images", "image", "imgs", "img", "images.zip")
SUFFIXES = (None, ".jpg", ".png", ".jpeg", ".webp")


@dataclass(frozen=True)
class TableOptions:
    """How a table is read; `DatasetConfig` (src/config/schema.py) explains the fields."""

    metadata: str | None = None
    split_file: str | None = None
    filename_pattern: str | None = None
    features: str | None = None
    bins: dict[str, list[float]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    split_shares: tuple[float, ...] = (0.7, 0.1, 0.2)
    split_seed: int = 0


class TableLayout:
    """A folder with a table and pictures, with the attributes of `CelebALayout`.

    Raises:
        UserError: there is no table.
    """

    crop = "square"
    frame = None

    def __init__(
        self,
        root: str | Path,
        cache_dir: str | Path | None,
        options: TableOptions | None = None,
        adapter: Adapter | None = None,
    ):
        self.root, self.options = expand(root), options or TableOptions()
        self.adapter = adapter
        self.sources = self._find_sources()
        own = self.options.split_file
        self.split_file = None if own is None else self.root / expand(own)
        about = f"{self.root.resolve()} {self.options.metadata}"
        tag = hashlib.sha256(about.encode()).hexdigest()
        self.cache_folder = expand(cache_dir or "data/cache") / tag[:12]
        self.archive = self.cache_folder / "pictures.zip"  # those in a column of the table

    def _find_sources(self) -> list[Path]:
        """Return the files of the table, several if it is in parts; none for a pattern of names."""
        given = self.options.metadata
        if self.options.filename_pattern is not None:
            return []
        if self.adapter is not None and given is None:
            return self.adapter.find(self.root)
        if self.adapter is not None and len(self.adapter.files) > 1:
            raise UserError(
                f"exp.dataset.metadata={given}: this data set has the tables "
                f"{' and '.join(self.adapter.files)}; read one of your own with exp/dataset=table"
            )
        patterns = [given] if given else FILES
        for pattern in patterns:
            path = self.root / expand(pattern)
            found = [path] if path.is_file() else sorted(path.parent.glob(path.name))
            if found:
                return found
        raise UserError(
            f"no table in '{self.root}': {' or '.join(patterns)} is not there. Name its folder "
            f"with exp.dataset.root=..., or the file with exp.dataset.metadata=..."
        )

    def table(self) -> Table:
        """Return all rows, except those of images that `prepare_data --skip_bad` left out."""
        if self.sources:
            copy = self.cache_folder / "table.npz"
            options = repr((self.adapter and self.adapter.read.__name__, self.options))
            if self._holds_pictures and not self.archive.exists():
                copy.unlink(missing_ok=True)
            files = [*self.sources, *filter(None, [self.split_file])]
            table = cached_table(copy, files, self._read, options)
        else:  # folders do not show that a file below them changed
            table = self._read()
        return without_bad_images(table, lambda: self.files(table.names), self.cache_folder)

    def _read(self) -> Table:
        if self.options.filename_pattern is not None:
            frame = read_by_pattern(self.root, self.options.filename_pattern)
        elif self.adapter is not None:
            try:
                frame = self.adapter.read(self.sources)
            except KeyError as error:
                raise UserError(
                    f"{self.sources[0]}: {error.args[0]}: is it the data set's own file?"
                ) from error
        elif self.sources[0].suffix == ".parquet":
            frame = read_parquet(self.sources, self.archive)
        else:
            frame = read_text_table(self.sources[0], dtype=dict.fromkeys(NAME_COLUMNS, str))
        path = self.sources[0] if self.sources else self.root
        return make_table(frame, path, self.options, self.cache_folder, self.split_file)

    @cached_property
    def _holds_pictures(self) -> bool:
        """Whether a column of the table holds the pictures."""
        path = self.sources[0] if self.sources else self.root
        return path.suffix == ".parquet" and picture_column(path) is not None

    def files(self, names: np.ndarray) -> ImageFiles:
        """Find the pictures of `names`: in the root or in images/ there, with or without suffix."""
        if self._holds_pictures:
            return ImageFiles(self.archive)
        names = names[:20]
        for folder in IMAGE_FOLDERS:
            location = self.root / folder
            for suffix in SUFFIXES if location.exists() else ():
                files = ImageFiles(location, suffix)
                if len(files.missing(names)) < len(names):
                    return files
        raise UserError(
            f"{self.root}: no picture '{names[0]}' there or in images/: file names are relative "
            f"to exp.dataset.root"
        )


def make_table(
    frame: "pd.DataFrame",
    path: Path,
    options: TableOptions,
    cache_folder: Path,
    split_file: Path | None = None,
) -> Table:
    """Encode the rows of a table.

    Args:
        path: of the table, for messages.
        cache_folder: where a split that is drawn is kept.

    Raises:
        UserError: missing columns or values, unknown splits, or an example in two splits.
    """
    import pandas as pd

    frame = frame.drop(columns=[name for name in frame if str(name).startswith("Unnamed:")])
    frame.columns = [str(name).strip() for name in frame.columns]
    frame.index = range(2, 2 + len(frame))  # line numbers
    name_column = next((name for name in NAME_COLUMNS if name in frame), None)
    if name_column is None and options.features is not None:
        name_column = "filename"
        frame[name_column] = [f"row {row}" for row in range(len(frame))]
    if name_column is None:
        raise UserError(
            f"{path} has no column of file names. Its columns are "
            f"{shortened(list(frame.columns))}; name one of them {', '.join(NAME_COLUMNS[:-1])}"
        )
    empty = frame[name_column].isna()
    if empty.any():
        raise UserError(f"{path} line {empty.idxmax()}: the {name_column} is missing")
    names = frame[name_column].astype(str).to_numpy(str)
    split_column = next((name for name in SPLIT_COLUMNS if name in frame), None)
    columns = [name for name in frame if name not in (name_column, split_column)]
    for name in options.bins:
        if name not in columns:
            hint = did_you_mean(name, columns)
            raise UserError(f"exp.dataset.bins.{name}: {path.name} has no such column{hint}")
    codes, classes, unusable = {}, {}, {}
    for name in columns:
        try:
            own = encode(frame[name], options.bins.get(name), options.missing)
            codes[name], classes[name] = own
        except NotClasses as error:
            unusable[name] = str(error)
    small = all(len(values) < 128 for values in classes.values())
    matrix = np.empty((len(names), len(codes)), np.int8 if small else np.int16)
    for place, values in enumerate(codes.values()):
        matrix[:, place] = values
    splits = SPLITS
    if split_file is not None:
        split, splits, _ = split_by_file(names, split_file, path)
    elif split_column is None:
        shares = "-".join(f"{share:g}" for share in options.split_shares)
        file = cache_folder / f"split-{shares}-seed{options.split_seed}.csv"
        split = dealt_split(names, matrix, options.split_shares, options.split_seed, file)
    else:
        split, splits = read_split(path, frame[split_column])
    differs = pd.Series(split).groupby(names).transform("min").to_numpy() != split
    if differs.any():  # figures would be too good
        row = differs.argmax()
        raise UserError(f"{path}: {names[row]} is in {splits[split[row]]} and in another split")
    return Table(names, split, matrix, (*codes,), (*classes.values(),), splits, unusable)
