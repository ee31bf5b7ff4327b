"""The columns of a table that tasks and attributes are taken from."""

from collections.abc import Sequence

import numpy as np

from src.data.table import Table
from src.io import UserError, did_you_mean


def binary_columns(table: Table, names: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the binary columns of a table, or check that the named ones are.

    Raises:
        UserError: a named column does not exist or is not binary; or the table has no binary one.
    """
    classes = dict(zip(table.columns, map(len, table.classes)))
    problems = [
        f"column '{name}' does not exist{did_you_mean(name, classes)}"
        if name not in classes
        else f"column '{name}' has {classes[name]} classes: delta needs a task and an attribute "
        "with two"
        for name in names or ()
        if classes.get(name) != 2
    ]
    found = tuple(names or [name for name, count in classes.items() if count == 2])
    if not found:
        problems.append("the data set has no binary column: delta needs columns with two classes")
    if problems:
        raise UserError(problems)
    return found


def codes(table: Table, names: Sequence[str]) -> np.ndarray:
    """Return the class codes (N, len(names)) of some columns; -1 = unknown."""
    return table.codes[:, [table.columns.index(name) for name in names]]
