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

    positions, values = pd.factorize(column)  # (N,), -1 = empty
    ordered = isinstance(column.dtype, pd.CategoricalDtype)
    values = list(column.cat.categories[values.codes] if ordered else values)
    if bins is None and len(values) > MOST_CLASSES:
        raise NotClasses(_too_many(str(column.name), values))
    texts = [_spell(value) for value in values]
    omitted = {"", *(_spell(value) for value in missing)}
    kept = [text for text in texts if text not in omitted]
    if bins is not None:
        numbers = _numbers(column.name, texts, kept)
        codes_of_values = np.where(np.isnan(numbers), -1, np.digitize(numbers, bins))
        classes = bin_names(bins)
    else:
        if ordered:
            kept = [text for text in map(_spell, column.cat.categories) if text in kept]
        classes, code_of = _classes(str(column.name), kept, ordered)
        codes_of_values = np.array([code_of.get(text, -1) for text in texts], np.int64)
    table = np.append(codes_of_values, -1).astype(np.int16)  # the last one is for empty cells
    return table[positions], classes


def bin_names(bins: Sequence[float]) -> tuple[str, ...]:
    """Return the names of the classes between limits: `<20`, `20-40`, `>=40`."""
    limits = [f"{limit:g}" for limit in bins]
    inner = [f"{low}-{high}" for low, high in pairwise(limits)]
    return (f"<{limits[0]}", *inner, f">={limits[-1]}")


def _spell(value: Any) -> str:
    """Return a value as a class name: 1.0 is 1, True is true."""
    if isinstance(value, (bool, np.bool_)):
        return str(value).lower()
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    text = str(value).strip()
    return text.lower() if text.lower() in ("true", "false") else text


def _numbers(name: Any, texts: list[str], kept: list[str]) -> np.ndarray:
    """Return texts as numbers; those that are not kept are NaN."""
    import pandas as pd

    numbers = pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce").to_numpy(np.float64)
    kept_set = set(kept)
    wrong = [text for text, number in zip(texts, numbers) if text in kept_set and np.isnan(number)]
    if wrong:
        raise UserError(
            f"exp.dataset.bins.{name}: '{wrong[0]}' in column '{name}' is not a number; correct "
            f"it, or count it as missing: exp.dataset.missing=['{wrong[0]}']"
        )
    return np.where(np.isin(texts, kept), numbers, np.nan)


def _classes(name: str, texts: list[str], ordered: bool) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the class names of a column, and the code of each text."""
    texts = list(dict.fromkeys(texts))
    numbers = {text: _as_number(text) for text in texts}
    if texts and None not in numbers.values() and not ordered:
        if set(numbers.values()) <= {-1, 1} or set(numbers.values()) <= {0, 1}:
            return BINARY, {text: int(number == 1) for text, number in numbers.items()}
        fraction = next((text for text, number in numbers.items() if number % 1), None)
        if fraction is not None:
            raise NotClasses(
                f"column '{name}' holds numbers such as {fraction}: cut it into classes with "
                f"exp.dataset.bins.{name}=[0.5]"
            )
        texts.sort(key=numbers.get)
    elif not ordered:
        texts.sort()
    if texts and set(texts) <= {"true", "false"}:
        texts = ["false", "true"]
    if len(texts) < 2:
        found = f"one value only, '{texts[0]}'" if texts else "no values"
        raise NotClasses(f"column '{name}' has {found}: a task or attribute needs two or more")
    return tuple(texts), {text: code for code, text in enumerate(texts)}


def _as_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _too_many(name: str, values: list[Any]) -> str:
    many = f"column '{name}' has {len(values):,} different values, at most {MOST_CLASSES:,} are "
    if all(_as_number(str(value)) is not None for value in values[:1000]):
        limits = np.unique(np.quantile([float(v) for v in values[:1000]], [0.25, 0.5, 0.75]))
        shown = ",".join(f"{limit:g}" for limit in limits)
        return f"{many}possible: cut it into classes with exp.dataset.bins.{name}=[{shown}]"
    return f"{many}possible: name another column"
