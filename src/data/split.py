"""Split a table that has no splits: at random, stratified, and the same way for ever."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from src.data.table import SPLITS
from src.io import UserError, write_atomic

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
