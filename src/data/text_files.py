"""Read tables from text files; name the cause if a file is not what it should be."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.io import UserError

if TYPE_CHECKING:
    import pandas as pd

AGAIN = "get it again"


def shortened(names: Sequence[Any]) -> str:
    """Return the first few names of a long list."""
    return ", ".join(map(str, names[:5])) + (", ..." if len(names) > 5 else "")


def first_lines(path: Path, count: int) -> list[str]:
    """Return up to `count` first lines that are not blank.

    Raises:
        UserError: the file cannot be read, is empty, or is a web page.
    """
    lines: list[str] = []
    try:
        with path.open(encoding="utf-8-sig") as file:
            while len(lines) < count and (line := file.readline()):
                lines += [line.strip()] if line.strip() else []
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: save it as UTF-8, or {AGAIN}") from error
    if not lines:
        raise UserError(f"{path} is empty: {AGAIN}")
    if lines[0].startswith("<"):
        raise UserError(
            f"{path} is a web page, such as a host shows when too many people download a file, "
            f"not a table: {AGAIN}"
        )
    if lines[0].startswith("version https://git-lfs"):
        raise UserError(
            f"{path} is a pointer of Git LFS, not the table: fetch it with git lfs pull"
        )
    return lines


def read_text_table(path: Path, **options: Any) -> "pd.DataFrame":
    """Read a .csv or .tsv file, or a .txt file with columns separated by spaces, with pandas.

    Args:
        options: of `pandas.read_csv`.

    Raises:
        UserError: no rows, rows of different lengths, or another encoding than UTF-8.
    """
    import pandas as pd  # slow to import, and not needed for the cached copy

    first_lines(path, 1)
    separator = r"\s+" if path.suffix == ".txt" else "\t" if path.suffix == ".tsv" else ","
    # Classes may be called None or NA: only an empty cell is a missing value.
    words = {"keep_default_na": False, "na_values": ["", "nan", "NaN"]}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pd.errors.DtypeWarning)
            frame = pd.read_csv(path, sep=separator, encoding="utf-8-sig", **words, **options)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        reason = str(error).strip().rpartition("error: ")[2] or "rows of different lengths"
        raise UserError(f"{path} is not a table ({reason}): {AGAIN}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: save it as UTF-8, or {AGAIN}") from error
    if not len(frame):
        raise UserError(f"{path} has no rows: {AGAIN}")
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes cells left over as an index
        raise UserError(f"{path}: its rows have more cells than the first line has names: {AGAIN}")
    return frame


def check_names(path: Path, names: "pd.Series") -> None:
    """Raise a UserError if a file name occurs twice."""
    twice = names[names.duplicated()]
    if len(twice):
        others = f" (and {len(twice) - 1:,} others)" if len(twice) > 1 else ""
        raise UserError(f"{path}: {twice.iloc[0]} is there a second time{others}")
