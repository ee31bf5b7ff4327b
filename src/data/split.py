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

    lines, split = "", np.full(len(names), -1)
    if file.exists():
        try:
            lines = file.read_text()
            noted = pd.read_csv(file, dtype=str).set_index("filename")["split"]
            split = pd.Index(SPLITS).get_indexer(noted.reindex(names))  # -1 if it is not noted
        except (OSError, ValueError, LookupError) as error:
            raise UserError(f"{file} is damaged ({error}): delete it for a new split") from error
    new = split < 0
    if new.any():
        first, row_of_name = np.unique(names[new], return_index=True, return_inverse=True)[1:]
        dealt = deal(codes[new][first], shares, seed)  # one per file name
        split[new] = dealt[row_of_name]
        table = pd.DataFrame({"filename": names[new][first], "split": np.array(SPLITS)[dealt]})
        write_atomic(file, lines + table.to_csv(index=False, header=not lines))
        counts = ", ".join(f"{name} {(split == code).sum():,}" for code, name in enumerate(SPLITS))
        print(f"no split column: {counts} examples, drawn by seed {seed} and kept in {file}")
    return split.astype(np.uint8)


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

    Raises:
        UserError: an empty cell, or a word that looks like a misspelt one.
    """
    import pandas as pd

    positions, values = pd.factorize(column, use_na_sentinel=False)
    splits, codes = list(SPLITS), []
    for position, value in enumerate(values):
        word = str(int(value) if isinstance(value, float) and value % 1 == 0 else value).strip()
        same_length = [known for known in SPLIT_WORDS if len(known) == len(word) > 2]
        known = word.lower() in SPLIT_WORDS
        near = difflib.get_close_matches(word.lower(), same_length, 1, cutoff=0.7)
        if pd.isna(value) or (not known and (near or len(splits) > 20)):
            line = column.index[(positions == position).argmax()]
            found = "missing" if pd.isna(value) else f"'{word}'"
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise UserError(
                f"{path} line {line}: the {column.name} is {found}: use train, val, test or "
                f"0, 1, 2{hint}"
            )
        if not known and word not in splits:
            splits.append(word)
        codes.append(SPLIT_WORDS[word.lower()] if known else splits.index(word))
    return np.array(codes, np.uint8)[positions], tuple(splits)


def split_by_file(
    names: np.ndarray, path: Path, table: Path
) -> tuple[np.ndarray, tuple[str, ...], "pd.Index"]:
    """Return the split (N,) of file names, the names of the splits, and the names left over.

    Args:
        path: of the file that has the splits. Its last two columns are the file name and the split;
            a first line of names is optional. CelebA's list_eval_partition.txt is such a file.
        table: the file that has the `names`, for messages.
    """
    import pandas as pd

    last = re.split(r"[\s,]+", first_lines(path, 1)[0])[-1].strip('"').lower()
    header = None if last in SPLIT_WORDS else 0
    frame = read_text_table(path, header=header, dtype=str).iloc[:, -2:]
    if frame.shape[1] < 2:
        raise UserError(f"{path}: each row needs the name of an image and its split: {AGAIN}")
    frame.columns = ["filename", "split"]
    frame.index += 1 if header is None else 2  # line numbers
    check_names(path, frame["filename"])
    codes, splits = read_split(path, frame["split"])
    own = pd.Index(frame["filename"])
    rows = own.get_indexer(names)
    lonely = names[rows < 0]
    if len(lonely):
        raise UserError(
            f"{len(lonely):,} rows of {table.name} have no row in {path.name}: {shortened(lonely)}"
        )
    return codes[rows], splits, own.difference(names)
