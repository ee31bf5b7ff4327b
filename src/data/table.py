"""A table of labelled examples: one row per image, one column per task or attribute."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from src.io import DAMAGE, UserError, atomic_path, did_you_mean, load_arrays

_COPY_VERSION = 4
SPLITS = ("train", "val", "test")
SPLIT_WORDS = {"0": 0, "train": 0, "1": 1, "val": 1, "valid": 1, "validation": 1, "2": 2, "test": 2}
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
        unusable: columns that cannot be a task or an attribute, with the reason.
    """

    names: np.ndarray
    split: np.ndarray
    codes: np.ndarray
    columns: tuple[str, ...]
    classes: tuple[tuple[str, ...], ...] = ()
    splits: tuple[str, ...] = SPLITS
    unusable: Mapping[str, str] = field(default_factory=dict)

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
        own = {"names": self.names[rows], "split": self.split[rows], "codes": self.codes[rows]}
        return replace(self, **own)

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


def cached_table(
    path: Path, sources: Sequence[Path], read: Callable[[], Table], options: str = ""
) -> Table:
    """Return the table of `read`, from a binary copy at `path` if there is one.

    The copy is used until the options, or size or mtime of a source file, change.
    """
    stats = [(source.name, source.stat()) for source in sources]
    key = json.dumps(
        [_COPY_VERSION, options, *((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)]
    )
    with suppress(*DAMAGE):
        arrays = load_arrays(path)
        about = json.loads(str(arrays["about"]))
        if about.pop("key") == key:
            columns, splits = tuple(about["columns"]), tuple(about["splits"])
            classes = tuple(map(tuple, about["classes"]))
            own = arrays["names"], arrays["split"], arrays["codes"]
            return Table(*own, columns, classes, splits, about["unusable"])
    table = read()
    about = {name: getattr(table, name) for name in ("columns", "classes", "splits", "unusable")}
    about["key"] = key
    arrays = {"names": table.names, "split": table.split, "codes": table.codes}
    with suppress(UserError), atomic_path(path) as partial, partial.open("wb") as file:
        np.savez(file, about=np.array(json.dumps(about)), **arrays)  # only a convenience
    return table
