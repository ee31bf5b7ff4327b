"""Columns of a table as class codes: what people write to classes 0, 1, 2, ...

-1/1, 0/1 and true/false are binary. Whole numbers and texts are one class per value, in the order
of the numbers or of the alphabet; a pandas or parquet category keeps its own order. Other numbers
must be cut into classes by `bins`.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from src.data.table import BINARY
from src.io import UserError

if TYPE_CHECKING:
    import pandas as pd

MOST_CLASSES = 1000  # of a column


class NotClasses(Exception):
    """A column that cannot be a task or an attribute; the message says why, and what to do."""


def encode(
    column: "pd.Series", bins: Sequence[float] | None = None, missing: Sequence[str] = ()
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the class codes (N,) int16 of a column, -1 = missing, and the class names.

    Args:
        bins: ascending limits; [20, 40] gives the classes `<20`, `20-40` and `>=40`.
        missing: values that count as missing, besides empty cells.

    Raises:
        NotClasses: the column has too many values, or one only.
        UserError: `bins` is given for a column that holds texts.
    """
    import pandas as pd

    name = column.name
    positions, values = pd.factorize(column)  # (N,), -1 = empty
    if bins is None and len(values) > MOST_CLASSES:
        raise NotClasses(_too_many(column, values))
    texts = pd.Series([_spell(value) for value in values], dtype=object)
    texts[texts.isin(["", *map(_spell, missing)])] = np.nan
    numbers = pd.to_numeric(texts, errors="coerce")
    if bins is not None:
        wrong = texts[numbers.isna()].dropna()
        if len(wrong):
            raise UserError(
                f"exp.dataset.bins.{name}: '{wrong.iloc[0]}' in column '{name}' is not a number; "
                f"correct it, or count it as missing: exp.dataset.missing=['{wrong.iloc[0]}']"
            )
        codes = np.where(numbers.isna(), -1, np.digitize(numbers, bins))
        classes = bin_names(bins)
    else:
        found = texts.dropna().unique().tolist()
        if isinstance(column.dtype, pd.CategoricalDtype):
            own = dict.fromkeys(map(_spell, column.cat.categories))
            found = [text for text in own if text in found]
        elif found and numbers[texts.notna()].notna().all():
            if set(numbers.dropna()) <= {-1, 1} or set(numbers.dropna()) <= {0, 1}:
                texts, found = numbers.clip(lower=0).map({0: "0", 1: "1"}), [*BINARY]
            elif (numbers % 1 > 0).any():
                raise NotClasses(
                    f"column '{name}' holds numbers such as {texts[numbers % 1 > 0].iloc[0]}: cut "
                    f"it into classes with exp.dataset.bins.{name}=[0.5]"
                )
            found.sort(key=float)
        else:
            found.sort()
        if found and {*found} <= {"false", "true"}:
            found = ["false", "true"]
        if len(found) < 2:
            only = f"one value only, '{found[0]}'" if found else "no values"
            raise NotClasses(f"column '{name}' has {only}: a task or attribute needs two or more")
        codes, classes = pd.Index(found).get_indexer(texts), tuple(found)
    return np.append(codes, -1).astype(np.int16)[positions], classes  # the last one: empty cells


def bin_names(bins: Sequence[float]) -> tuple[str, ...]:
    """Return the names of the classes between limits: `<20`, `20-40`, `>=40`."""
    limits = [f"{limit:g}" for limit in bins]
    inner = [f"{low}-{high}" for low, high in pairwise(limits)]
    return (f"<{limits[0]}", *inner, f">={limits[-1]}")


def _spell(value: Any) -> str:
    """Return a value as a class name: 1.0 is 1, True is true."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    text = str(value).strip()
    return text.lower() if text.lower() in ("true", "false") else text


def _too_many(column: "pd.Series", values: Any) -> str:
    many = f"column '{column.name}' has {len(values):,} different values, at most {MOST_CLASSES:,}"
    if column.dtype.kind not in "iuf":
        return f"{many} are possible: name another column"
    limits = ",".join(f"{limit:g}" for limit in np.unique(np.quantile(values, [0.25, 0.5, 0.75])))
    return (
        f"{many} are possible: cut it into classes with exp.dataset.bins.{column.name}=[{limits}]"
    )
