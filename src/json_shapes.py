"""What a JSON file must look like, written as a value of the same form.

    {"epochs": {"*": {"*": Number}}, "selected": {"*": int}}

A dict lists the keys that are needed (others may be there too), `{"*": shape}` is a table with any
keys, `[shape]` a list, a type itself, and `Or(a, b)` either of two. `Number` is int or float, never
a bool, NaN or infinity.
"""

import math
from dataclasses import dataclass
from typing import Any

Number = (int, float)
_NAMES = {dict: "a table", list: "a list", str: "a text", int: "a whole number", bool: "a boolean"}


@dataclass(frozen=True)
class Or:
    """Either of two shapes; `Or(str, None)` may be null."""

    one: Any
    other: Any


def misfit(value: Any, shape: Any, where: str = "") -> str | None:
    """What of `value` does not fit `shape`, in a few words; None where all of it does."""
    if isinstance(shape, Or):
        first = misfit(value, shape.one, where)
        return first and misfit(value, shape.other, where) and first
    if isinstance(shape, dict):
        return _misfit_table(value, shape, where)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{where or 'it'} is not a list"
        entries = ((entry, f"{where}[{place}]") for place, entry in enumerate(value))
        return next((found for e, w in entries if (found := misfit(e, shape[0], w))), None)
    if shape is None:
        return None if value is None else f"{where or 'it'} is not null"
    odd = isinstance(value, float) and not math.isfinite(value)  # YAML has them
    if isinstance(value, shape) and (shape is bool or not isinstance(value, bool)) and not odd:
        return None
    return f"{where or 'it'} is not {_NAMES.get(shape, 'a number')}"


def _misfit_table(value: Any, shape: dict[str, Any], where: str) -> str | None:
    if not isinstance(value, dict):
        return f"{where or 'it'} is not a table"
    wanted = dict.fromkeys(value, shape["*"]) if "*" in shape else shape
    for key, inner in wanted.items():
        here = f"{where}.{key}".lstrip(".")[:80]
        if key not in value:
            return f"{here} is missing"
        found = misfit(value[key], inner, here)
        if found:
            return found
    return None
