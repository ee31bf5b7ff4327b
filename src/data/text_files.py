"""Read tables from text files; name the cause if a file is not what it should be."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.io import UserError

if TYPE_CHECKING:
    import pandas as pd

AGAIN = "get it again"


def shortened(names: Sequence[Any]) -> str:
    """Return the first few names of a long list."""
    return ", ".join(map(str, names[:5])) + (", ..." if len(names) > 5 else "")


def with_rest(problems: list[str], total: int) -> list[str]:
    """Add how many more problems there are than those shown."""
    rest = total - len(problems)
    return [*problems, f"... and {rest:,} more"] if rest > 0 else problems


def check_names(path: Path, names: "pd.Series") -> None:
    """Raise a UserError if a file name occurs twice; the index holds line numbers."""
    twice = names[names.duplicated()]
    problems = [
        f"{path} line {line}: {name} is there a second time"
        for line, name in twice.iloc[:10].items()
    ]
    if problems:
        raise UserError(with_rest(problems, len(twice)))


def first_lines(path: Path, count: int) -> list[tuple[int, str]]:
    """Return the first lines that are not blank, with their positions in the file.

    Raises:
        UserError: the file cannot be read, is empty, or is a web page.
    """
    lines = []
    try:
        with path.open(encoding="utf-8-sig") as file:
            for position, line in enumerate(file):
                if line.strip():
                    lines.append((position, line.strip()))
                if len(lines) == count:
                    break
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: save it as UTF-8, or {AGAIN}") from error
    if not lines:
        raise UserError(f"{path} is empty: {AGAIN}")
    start = lines[0][1].lower()
    if start.startswith("<"):
        raise UserError(
            f"{path} is a web page, such as a host shows when too many people download a file, "
            f"not a table: {AGAIN}"
        )
    if start.startswith("version https://git-lfs"):
        raise UserError(
            f"{path} is a pointer of Git LFS, not the table: fetch it with git lfs pull"
        )
    return lines


def read_text_table(path: Path, **options: Any) -> "pd.DataFrame":
    """Read a CSV file, or a .txt file with columns separated by spaces, with pandas.

    Args:
        options: of `pandas.read_csv`.

    Raises:
        UserError: no rows, rows of different lengths, or another encoding than UTF-8.
    """
    import pandas as pd  # slow to import, and not needed for the cached copy

    separator = r"\s+" if path.suffix == ".txt" else "\t" if path.suffix == ".tsv" else ","
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pd.errors.DtypeWarning)
            # Classes may be called None or NA: only an empty cell is a missing value.
            words = {"keep_default_na": False, "na_values": ["", "nan", "NaN"]}
            frame = pd.read_csv(path, sep=separator, **words, **options)
    except pd.errors.ParserError as error:
        reason = str(error).strip().rpartition("error: ")[2] or "rows of different lengths"
        raise UserError(f"{path} is not a table ({reason}): {AGAIN}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: save it as UTF-8, or {AGAIN}") from error
    except pd.errors.EmptyDataError:
        frame = pd.DataFrame()
    if not len(frame):
        raise UserError(f"{path} has no rows: {AGAIN}")
    return frame


def read_csv(path: Path, types: Mapping[str, type] | None = None) -> "pd.DataFrame":
    """Read a table whose first line names all columns; check first that it is one.

    Args:
        types: of some columns; those of the others are found.

    Raises:
        UserError: as `read_text_table`, or the rows have more cells than the first line.
    """
    first_lines(path, 1)
    frame = read_text_table(path, dtype=types, low_memory=False)
    if not frame.index.equals(frame.reset_index(drop=True).index):
        raise UserError(f"{path}: its rows have more cells than the first line has names: {AGAIN}")
    return frame
