"""What a JSON file must look like, written as a value of the same form.

    {"epochs": {"*": {"*": Number}}, "selected": {"*": int}}

A dict lists the keys that are needed (others may be there too), `{"*": shape}` is a table with any
keys, `[shape]` a list, a type itself, and `Or(a, b)` either of two. `Number` is int or float, never
a bool, NaN or infinity; no whole number reaches `TOO_LARGE`.
"""

import math
from dataclasses import dataclass
from typing import Any

Number = (int, float)
TOO_LARGE = 2**63  # does not fit NumPy's int64; from 10**309 on there is no float for it, either
_NAMES = {dict: "a table", list: "a list", str: "a text", int: "a whole number", bool: "a boolean"}


@dataclass(frozen=True)
class Or:
    """Either of two shapes; `Or(str, None)` may be null."""

    one: Any
    other: Any


def misfit(value: Any, shape: Any, where: str = "") -> str | None:
    """What of `value` does not fit `shape`, in a few words; None where all of it does.

    Args:
        where: what `value` is called in them.
    """
    found = _misfit(value, shape)
    if found is None:
        return None
    place, problem = found
    return f"{(where + place).lstrip('.')[:80] or 'it'} {problem}"


def _misfit(value: Any, shape: Any) -> tuple[str, str] | None:
    """The first place that does not fit, such as `.epochs.3`, and what is wrong there."""
    if isinstance(shape, dict):
        return _misfit_table(value, shape)
    if isinstance(shape, list):
        return _misfit_list(value, shape[0])
    if isinstance(shape, Or):
        found = _misfit(value, shape.one)
        return found and _misfit(value, shape.other) and found
    if shape is None:
        return None if value is None else ("", "is not null")
    if isinstance(value, int) and abs(value) >= TOO_LARGE and shape in (int, Number):
        return "", "is too large a number"
    odd = isinstance(value, float) and not math.isfinite(value)  # YAML has them
    if isinstance(value, shape) and (shape is bool or not isinstance(value, bool)) and not odd:
        return None
    return "", f"is not {_NAMES.get(shape, 'a number')}"


def _misfit_table(value: Any, shape: dict[str, Any]) -> tuple[str, str] | None:
    if not isinstance(value, dict):
        return "", "is not a table"
    wanted = dict.fromkeys(value, shape["*"]) if "*" in shape else shape
    for key, inner in wanted.items():
        found = _misfit(value[key], inner) if key in value else ("", "is missing")
        if found:
            return f".{key}{found[0]}", found[1]
    return None


def _misfit_list(value: Any, shape: Any) -> tuple[str, str] | None:
    if not isinstance(value, list):
        return "", "is not a list"
    for place, entry in enumerate(value):
        found = _misfit(entry, shape)
        if found:
            return f"[{place}]{found[0]}", found[1]
    return None
