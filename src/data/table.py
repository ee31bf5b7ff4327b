"""A table of labelled examples: one row per image, one column per task or attribute."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from src.io import UserError, did_you_mean

SPLITS = ("train", "val", "test")
BINARY = ("0", "1")


@dataclass(frozen=True)
class Table:
    """Examples with their split and the class codes of their columns.

    Attributes:
        names: (N,) str, file names of the images.
        split: (N,) uint8, index into `splits`.
        codes: (N, C) int8 or int16, index of the class in each column; -1 = unknown.
        columns: names of the C columns.
        classes: class names of each column; by default all columns are binary.
        splits: names of the splits.
    """

    names: np.ndarray
    split: np.ndarray
    codes: np.ndarray
    columns: tuple[str, ...]
    classes: tuple[tuple[str, ...], ...] = ()
    splits: tuple[str, ...] = SPLITS

    def __post_init__(self):
        if not self.classes:
            object.__setattr__(self, "classes", (BINARY,) * len(self.columns))

    def __len__(self) -> int:
        return len(self.names)

    def of_split(self, split: str) -> "Table":
        """Return the rows of one split, in the same order.

        Raises:
            UserError: the table has no split of that name.
        """
        if split not in self.splits:
            raise UserError(f"split '{split}' does not exist: use {', '.join(self.splits)}")
        return self.select(self.split == self.splits.index(split))

    def select(self, rows: np.ndarray) -> "Table":
        """Return the rows of a boolean mask (N,) or of an index array."""
        return Table(
            self.names[rows],
            self.split[rows],
            self.codes[rows],
            self.columns,
            self.classes,
            self.splits,
        )

    def column(self, name: str) -> np.ndarray:
        """Return the class codes (N,) of a column; -1 = unknown.

        Raises:
            UserError: the table has no column of that name.
        """
        if name not in self.columns:
            raise UserError(f"column '{name}' does not exist{did_you_mean(name, self.columns)}")
        return np.ascontiguousarray(self.codes[:, self.columns.index(name)])

    @cached_property
    def identity(self) -> str:
        """Hash of the rows: equal for equal names, codes and splits in the same order."""
        digest = hashlib.sha256("\n".join(self.names.tolist()).encode())
        digest.update(np.ascontiguousarray(self.codes))
        digest.update(np.ascontiguousarray(self.split))
        return digest.hexdigest()[:16]
