"""Measure two sides in turn; what a row of the table holds."""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        ours, theirs: medians, in `unit`; None if there is nothing to compare with.
        value: what is held against the target: a ratio, or `ours` itself.
        target: None if the row only reports.
        at_most: whether the target is an upper limit.
        note: what exactly is compared.
    """

    name: str
    unit: str
    ours: float
    theirs: float | None
    value: float
    target: float | None
    at_most: bool = False
    note: str = ""

    @property
    def score(self) -> float | None:
        """How many times better than the target; 1 meets it exactly."""
        if self.target is None:
            return None
        return self.target / self.value if self.at_most else self.value / self.target


Pairs = list[tuple[float, float]]


def interleave(ours: Callable[[], float], theirs: Callable[[], float], repeats: int) -> Pairs:
    """Measure both sides in turn, so that a busy machine slows both."""
    return [(ours(), theirs()) for _ in range(repeats)]


def compare(name: str, unit: str, pairs: Pairs, target: float | None, note: str = "") -> Row:
    """Return a row of pairs (ours, theirs); its ratio is the median of the pairs' ratios."""
    ours, theirs = (median(side) for side in zip(*pairs))
    return Row(name, unit, ours, theirs, median(a / b for a, b in pairs), target, note=note)


def absolute(name: str, unit: str, values: list[float], target: float | None, note: str) -> Row:
    """Return a row whose own median has an upper limit."""
    value = median(values)
    return Row(name, unit, value, None, value, target, True, note)


def seconds(call: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_new_process(function: Callable, *args: Any) -> Any:
    """Return function(*args), computed in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()
