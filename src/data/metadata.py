"""Any table of pictures: metadata.csv (or .tsv, .parquet), one row per example.

A column named `filename`, `img_filename`, `image_id`, `file`, `file_name` or `path` says where the
picture is, `split` whether it belongs to train, val or test (as words or 0, 1, 2). Every other
column can be a task or an attribute; see src/data/encode.py for what may stand in it. Without a
split column the rows are split at random, the same way in every run.
"""

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from src.data.adapters import Adapter
from src.data.encode import NotClasses, encode
from src.data.images import ImageFiles, without_bad_images
from src.data.patterns import read_by_pattern
from src.data.split import dealt_split
from src.data.table import SPLIT_WORDS, SPLITS, Table, cached_table
from src.data.text_files import first_lines, read_named_table, shortened, with_rest
from src.io import UserError, did_you_mean, expand

if TYPE_CHECKING:
    import pandas as pd

FILES = ("metadata.csv", "metadata.parquet", "metadata.tsv")
NAME_COLUMNS = ("filename", "img_filename", "image_id", "file_name", "file", "path", "Path")
SPLIT_COLUMNS = ("split", "partition")
IMAGE_FOLDERS = ("", "images", "image", "imgs", "img", "images.zip")
SUFFIXES = (None, ".jpg", ".png", ".jpeg", ".webp")


@dataclass(frozen=True)
class TableOptions:
    """How a table is read.

    Attributes:
        metadata: the table's file, if it is not FILES in the root.
        bins: limits that cut a column of numbers into classes, by column.
        filename_pattern: reads labels from file names instead; see src/data/patterns.py.
        features: file of features (N, D) that take the place of pictures.
        missing: values that count as missing, besides empty cells.
        split_shares: of train, val and test, if the table has no split column.
        split_seed: of that split.
    """

    metadata: str | None = None
    filename_pattern: str | None = None
    features: str | None = None
    bins: dict[str, list[float]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    split_shares: tuple[float, ...] = (0.7, 0.1, 0.2)
    split_seed: int = 0


class TableLayout:
    """A folder with a table and pictures; see `src.data.dataset.Layout`.

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
        about = f"{self.root.resolve()} {self.options.metadata}"
        tag = hashlib.sha256(about.encode()).hexdigest()
        self.cache_folder = expand(cache_dir or "data/cache") / tag[:12]

    def _find_sources(self) -> list[Path]:
        """Return the files of the table; none if a pattern reads file names."""
        given = self.options.metadata
        if self.options.filename_pattern is not None:
            return []
        if self.adapter is not None and given is None:
            return self.adapter.find(self.root)
        paths = [self.root / name for name in ([expand(given)] if given else FILES)]
        found = [path for path in paths if path.is_file()]
        if not found:
            raise UserError(
                f"no table in '{self.root}': {' or '.join(path.name for path in paths)} is not "
                f"there. Name its folder with exp.dataset.root=..., or the file with "
                f"exp.dataset.metadata=..."
            )
        return found[:1]

    def table(self) -> Table:
        """Return all rows, except those of images that `prepare_data --skip_bad` left out."""
        if self.sources:
            copy, options = self.cache_folder / "table.npz", repr((self.adapter, self.options))
            table = cached_table(copy, self.sources, self._read, options)
        else:  # folders do not show that a file below them changed
            table = self._read()
        return without_bad_images(table, lambda: self.files(table.names), self.cache_folder)

    def _read(self) -> Table:
        if self.options.filename_pattern is not None:
            frame = read_by_pattern(self.root, self.options.filename_pattern)
        elif self.adapter is not None:
            frame = self.adapter.read(self.sources)
        else:
            frame = read_frame(self.sources[0])
        path = self.sources[0] if self.sources else self.root
        return make_table(frame, path, self.options, self.cache_folder)

    def files(self, names: np.ndarray) -> ImageFiles:
        """Find the pictures of `names`: in the root or in images/ there, with or without suffix."""
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


def read_frame(path: Path) -> "pd.DataFrame":
    """Read a .csv, .tsv or .parquet file with pandas; file names are texts."""
    import pandas as pd

    if path.suffix != ".parquet":
        first_lines(path, 1)
        return read_named_table(path, dict.fromkeys(NAME_COLUMNS, str))
    try:
        return pd.read_parquet(path)
    except ImportError as error:
        raise UserError(f"{path}: reading parquet needs pyarrow: `pip install pyarrow`") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a parquet file ({error})") from error


def make_table(
    frame: "pd.DataFrame", path: Path, options: TableOptions, cache_folder: Path
) -> Table:
    """Encode the rows of a table.

    Args:
        path: of the table, for messages.
        cache_folder: where a split that is drawn is kept.

    Raises:
        UserError: missing columns or values, unknown splits, or an example in two splits.
    """
    frame = frame.drop(columns=[name for name in frame if str(name).startswith("Unnamed:")])
    frame.columns = [str(name).strip() for name in frame.columns]
    if options.features is not None and not {*NAME_COLUMNS} & {*frame}:
        frame["filename"] = [f"row {row}" for row in range(len(frame))]
    name_column = _name_column(path, frame)
    split_column = next((name for name in SPLIT_COLUMNS if name in frame), None)
    empty = frame[name_column].isna()
    if empty.any():
        raise UserError(f"{path} line {int(empty.argmax()) + 2}: the {name_column} is missing")
    names = frame[name_column].astype(str).to_numpy(str)
    columns = [name for name in frame if name not in (name_column, split_column)]
    unknown = [name for name in options.bins if name not in columns]
    if unknown:
        hint = did_you_mean(unknown[0], columns)
        raise UserError(f"exp.dataset.bins.{unknown[0]}: {path.name} has no such column{hint}")
    codes, classes, unusable = {}, {}, {}
    for name in columns:
        try:
            codes[name], classes[name] = encode(
                frame[name], options.bins.get(name), options.missing
            )
        except NotClasses as error:
            unusable[name] = str(error)
    small = all(len(values) < 128 for values in classes.values())
    matrix = np.empty((len(names), len(codes)), np.int8 if small else np.int16)
    for place, values in enumerate(codes.values()):
        matrix[:, place] = values
    if split_column is None:
        shares = "-".join(f"{share:g}" for share in options.split_shares)
        file = cache_folder / f"split-{shares}-seed{options.split_seed}.csv"
        split = dealt_split(names, matrix, options.split_shares, options.split_seed, file)
        splits = SPLITS
    else:
        split, splits = read_split(path, frame[split_column])
    _check_one_split(path, names, split, splits)
    return Table(names, split, matrix, (*codes,), (*classes.values(),), splits, unusable)


def _name_column(path: Path, frame: "pd.DataFrame") -> str:
    found = next((name for name in NAME_COLUMNS if name in frame), None)
    if found is None:
        columns = shortened(list(frame.columns))
        semicolons = ": it is separated by ';', save it with commas" if ";" in columns else ""
        raise UserError(
            f"{path} has no column of file names{semicolons}. Its columns are {columns}; name one "
            f"of them {', '.join(NAME_COLUMNS[:-1])}"
        )
    return found


def read_split(path: Path, column: "pd.Series") -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the split (N,) uint8 of each row, and the names of the splits.

    Words other than train, val and test are further splits for evaluation.
    """
    import pandas as pd

    positions, values = pd.factorize(column)
    if (positions < 0).any():
        line = int((positions < 0).argmax()) + 2
        raise UserError(f"{path} line {line}: the {column.name} is missing: use train, val or test")
    splits, codes = list(SPLITS), []
    for value in values:
        word = str(int(value) if isinstance(value, float) else value).strip()
        code = SPLIT_WORDS.get(word.lower())
        if code is None:
            same_length = [known for known in SPLIT_WORDS if len(known) == len(word) > 2]
            near = difflib.get_close_matches(word.lower(), same_length, 1, cutoff=0.7)
            if near or len(splits) > 20:
                line = int((positions == len(codes)).argmax()) + 2
                hint = f" (did you mean {near[0]}?)" if near else ""
                raise UserError(
                    f"{path} line {line}: the {column.name} is '{word}': use train, val, test or "
                    f"0, 1, 2{hint}"
                )
            if word not in splits:
                splits.append(word)
            code = splits.index(word)
        codes.append(code)
    return np.array(codes, np.uint8)[positions], tuple(splits)


def _check_one_split(
    path: Path, names: np.ndarray, split: np.ndarray, splits: Sequence[str]
) -> None:
    """Raise a UserError if a picture is in two splits: figures would be too good."""
    import pandas as pd

    rows = pd.DataFrame({"name": names, "split": split}).drop_duplicates()
    twice = rows[rows.duplicated("name")]
    problems = [
        f"{path}: {row.name} is in {splits[row.split]} and in another split"
        for row in twice.iloc[:10].itertuples(index=False)
    ]
    if problems:
        raise UserError(with_rest(problems, len(twice)))
