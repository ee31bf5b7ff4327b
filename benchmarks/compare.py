"""Interleaved comparison, and what a row of the table holds."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        ours, theirs: medians, in `unit`; None where there is nothing to compare with.
        value: what is held against the target, a ratio or `ours` itself.
        target: None where a row only reports; `at_most` tells its direction.
        repeats: measurements of each side.
        note: what exactly is compared.
    """

    name: str
    unit: str
    ours: float
    theirs: float | None
    value: float
    target: float | None
    at_most: bool
    repeats: int
    note: str = ""

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target

    @property
    def score(self) -> float:
        """How far the target is met: 1 just so, 2 twice as good; a bare ratio without a target."""
        if self.target is None:
            return self.value
        return self.target / self.value if self.at_most else self.value / self.target


def interleave(
    ours: Callable[[], float], theirs: Callable[[], float], repeats: int
) -> list[tuple[float, float]]:
    """Measure A B A B ...: pairs taken next to each other, so that a busy machine slows both."""
    return [(ours(), theirs()) for _ in range(repeats)]


def compare(
    name: str,
    unit: str,
    pairs: list[tuple[float, float]],
    target: float | None,
    note: str = "",
    seconds: bool = False,
) -> Row:
    """A row from pairs (ours, theirs): the ratio is the median of the pairs' ratios.

    Args:
        seconds: the figures are times, so the ratio is theirs / ours.
    """
    ratios = [b / a if seconds else a / b for a, b in pairs]
    ours, theirs = (statistics.median(side) for side in zip(*pairs))
    ratio = statistics.median(ratios)
    return Row(name, unit, ours, theirs, ratio, target, False, len(pairs), note)


def median_interval(values: list[float]) -> tuple[float, float]:
    """Between which of the values the median lies with 95 % confidence (by the binomial)."""
    ordered, count = sorted(values), len(values)
    reach = 0.98 * math.sqrt(count)  # 1.96 standard deviations of how many lie below the median
    low = max(0, math.floor((count - 1) / 2 - reach))
    return ordered[low], ordered[count - 1 - low]


def absolute(
    name: str,
    unit: str,
    values: list[float],
    target: float | None,
    note: str = "",
    at_most: bool = True,
) -> Row:
    """A row whose own median is held against a target."""
    value = statistics.median(values)
    return Row(name, unit, value, None, value, target, at_most, len(values), note)
