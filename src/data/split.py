"""Splits of a table: a column, a separate file, or drawn once and kept."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from src.data.table import SPLIT_WORDS, SPLITS
from src.data.text_files import AGAIN, check_names, first_lines, read_text_table, shortened
from src.io import UserError, write_atomic

if TYPE_CHECKING:
    import pandas as pd

GOLDEN = 0.6180339887498949  # successive multiples, modulo 1, spread evenly over every interval


def dealt_split(
    names: np.ndarray, codes: np.ndarray, shares: Sequence[float], seed: int, file: Path
) -> np.ndarray:
    """Return the split (N,) uint8 of each example, from `file` where it is noted there.

    Examples that are new are split among themselves, and noted: no example ever changes its split.

    Args:
        names: (N,) file names; the rows of one file stay together.
        codes: (N, C) class codes of all columns.
        shares: of train, val and test.

    Raises:
        UserError: the file cannot be read, or cannot be written.
    """
    import pandas as pd

    split, known = np.zeros(len(names), np.uint8), np.zeros(len(names), bool)
    lines = ""
    if file.exists():
        try:
            lines = file.read_text()
            noted = pd.read_csv(file, dtype=str).set_index("filename")["split"]
            places = noted.map({name: code for code, name in enumerate(SPLITS)}).reindex(names)
        except (OSError, ValueError, LookupError) as error:
            raise UserError(f"{file} is damaged ({error}): delete it for a new split") from error
        known = places.notna().to_numpy()
        split[known] = places[known].to_numpy(np.uint8)
    if known.all():
        return split
    first, row_of_name = np.unique(names[~known], return_index=True, return_inverse=True)[1:]
    dealt = deal(codes[~known][first], shares, seed)  # one per file name
    split[~known] = dealt[row_of_name]
    new = pd.DataFrame({"filename": names[~known][first], "split": np.array(SPLITS)[dealt]})
    write_atomic(file, lines + new.to_csv(index=False, header=not lines))
    counts = ", ".join(f"{name} {np.count_nonzero(split == c):,}" for c, name in enumerate(SPLITS))
    print(
        f"no split column: {counts} examples, drawn by seed {seed} and kept in {file}", flush=True
    )
    return split


def deal(codes: np.ndarray, shares: Sequence[float], seed: int) -> np.ndarray:
    """Return a stratified split (N,) uint8 of examples with class codes (N, C).

    The rows are sorted by their classes, ties at random, and dealt along this order. So every class
    of the first column, every pair of classes of the first two, and so on, is divided in these
    shares as exactly as whole examples allow.
    """
    rng = np.random.default_rng(seed)
    keys = [rng.random(len(codes)), *codes.T[::-1]]  # the last key is the first to sort by
    order = np.lexsort(keys)
    points = (rng.random() + GOLDEN * np.arange(len(codes))) % 1
    split = np.empty(len(codes), np.uint8)
    split[order] = np.searchsorted(np.cumsum(shares)[:-1], points, side="right")
    return split


def read_split(path: Path, column: "pd.Series") -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the split (N,) uint8 of each row, and the names of the splits.

    Words other than train, val and test are further splits for evaluation.

    Args:
        path: for messages, with the line numbers in the column's index.
    """
    import pandas as pd

    positions, values = pd.factorize(column)
    if (positions < 0).any():
        line = column.index[(positions < 0).argmax()]
        raise UserError(f"{path} line {line}: the {column.name} is missing: use train, val or test")
    splits, codes = list(SPLITS), []
    for value in values:
        word = str(int(value) if isinstance(value, float) else value).strip()
        code = SPLIT_WORDS.get(word.lower())
        if code is None:
            same_length = [known for known in SPLIT_WORDS if len(known) == len(word) > 2]
            near = difflib.get_close_matches(word.lower(), same_length, 1, cutoff=0.7)
            if near or len(splits) > 20:
                line = column.index[(positions == len(codes)).argmax()]
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


def read_split_file(path: Path) -> tuple["pd.Series", tuple[str, ...]]:
    """Return the split of each file name, and the names of the splits.

    The last two columns are the file name and its split; a first line of names is optional.
    CelebA's list_eval_partition.txt is such a file.
    """
    import pandas as pd

    position, line = first_lines(path, 1)[0]
    skip = position + (re.split(r"[\s,]+", line)[-1].strip('"').lower() not in SPLIT_WORDS)
    frame = read_text_table(path, header=None, skiprows=skip, dtype=str).iloc[:, -2:]
    if frame.shape[1] < 2:
        raise UserError(f"{path}: each row needs the name of an image and its split: {AGAIN}")
    frame.columns, frame.index = ["filename", "split"], range(skip + 1, skip + 1 + len(frame))
    check_names(path, frame["filename"])
    codes, splits = read_split(path, frame["split"])
    return pd.Series(codes, frame["filename"]), splits


def split_by_file(
    names: np.ndarray, path: Path, table: Path
) -> tuple[np.ndarray, tuple[str, ...], "pd.Index"]:
    """Return the split (N,) of file names, the names of the splits, and the names left over.

    Args:
        path: of the file that has the splits.
        table: the file that has the `names`, for messages.
    """
    codes, splits = read_split_file(path)
    split = codes.reindex(names)
    lonely = names[split.isna()]
    if len(lonely):
        raise UserError(
            f"{len(lonely):,} rows of {table.name} have no row in {path.name}: {shortened(lonely)}"
        )
    return split.to_numpy(np.uint8), splits, codes.index.difference(names)
