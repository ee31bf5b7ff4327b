"""How much each task's accuracy depends on each attribute: counts, delta, its error, p and q.

For task t and attribute a the groups are those of the grouping `t:a`: g0=(y0,a0) g1=(y0,a1)
g2=(y1,a0) g3=(y1,a1). Figures of a pair with an empty group are NaN.

Shapes: N examples, T tasks, A attributes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import false_discovery_control, norm

from src.data.table import Table
from src.io import UserError, did_you_mean

# Pairs with a smaller group are shown with a flag and are not tested.
SMALLEST_TESTED_GROUP = 10


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


def count_pairs(
    right: np.ndarray,
    labels: np.ndarray,
    attributes: np.ndarray,
    weights: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Count correct predictions and examples in the four groups of every pair.

    Args:
        right: (N, T) bool, whether the task's prediction is correct.
        labels: (N, T) 0 or 1; -1 (unknown) is not counted.
        attributes: (N, A) 0 or 1; -1 (unknown) is not counted.
        weights: (N,) how often each example counts, as in a bootstrap resample; None is once.

    Returns:
        correct (T, A, 4) and total (T, A, 4), int64.
    """
    # float32 counts exactly up to 2^24 = 16.7 million examples, at the speed of BLAS.
    weight = np.float32(1) if weights is None else weights.astype(np.float32)[:, None]
    by_value = np.concatenate([attributes == 0, attributes == 1], axis=1).astype(np.float32)
    by_class = np.concatenate([labels == 0, labels == 1], axis=1) * weight  # (N, 2T)

    def count(chosen: np.ndarray) -> np.ndarray:
        table = (chosen.T @ by_value).round().astype(np.int64)  # (2T, 2A)
        cells = table.reshape(2, labels.shape[1], 2, attributes.shape[1])
        return cells.transpose(1, 3, 0, 2).reshape(*cells.shape[1::2], 4)

    return count(by_class * np.tile(right, 2)), count(by_class)


@dataclass(frozen=True)
class Gaps:
    """Group gaps of pairs, all of one shape (...).

    Attributes:
        signed: g0 + g3 - g1 - g2 of the accuracies in percent, -200 to 200; positive if the task is
            easier where its label and the attribute agree.
        delta: absolute value of `signed`.
        se: standard error of `signed`.
        tested: whether every group has at least `SMALLEST_TESTED_GROUP` examples.
        p: two-sided, of "the gap is 0"; NaN if not tested.
    """

    signed: np.ndarray
    delta: np.ndarray
    se: np.ndarray
    tested: np.ndarray
    p: np.ndarray


def gaps(correct: np.ndarray, total: np.ndarray) -> Gaps:
    """Return the gaps of pairs from the counts (..., 4) of their groups.

    The standard error uses p_j = (x_j + 2) / (n_j + 4) (Agresti and Coull 1998), so that a group
    without a mistake does not count as certain.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = 100 * correct / total  # (..., 4)
        share = (correct + 2) / (total + 4)
        variance = share * (1 - share) / total  # inf for an empty group
    signed = accuracy @ np.array([1, -1, -1, 1])
    se = np.where(np.isnan(signed), np.nan, 100 * np.sqrt(variance.sum(-1)))
    tested = total.min(-1) >= SMALLEST_TESTED_GROUP
    p = np.where(tested, 2 * norm.sf(np.abs(signed) / se), np.nan)
    return Gaps(signed, np.abs(signed), se, tested, p)


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Return the q-values (Benjamini and Hochberg 1995) of p-values of any shape; NaN stays NaN."""
    q, tested = np.full(p.shape, np.nan), ~np.isnan(p)
    if tested.any():
        q[tested] = false_discovery_control(p[tested])
    return q


def label_association(total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how task and attribute are associated in the labels alone.

    Args:
        total: (..., 4) examples in the groups of each pair.

    Returns:
        phi (...), the correlation of two binary columns, and the risk difference (...)
        P(y=1 | a=1) - P(y=1 | a=0); NaN if a column is constant.
    """
    g0, g1, g2, g3 = np.moveaxis(total.astype(np.float64), -1, 0)
    spread_y = np.sqrt((g2 + g3) * (g0 + g1))
    spread_a = np.sqrt((g1 + g3) * (g0 + g2))
    with np.errstate(invalid="ignore", divide="ignore"):
        phi = (g0 * g3 - g1 * g2) / (spread_y * spread_a)
        difference = g3 / (g1 + g3) - g2 / (g0 + g2)
    return phi, difference


def knee(values: np.ndarray) -> float | None:
    """Return the value farthest below the chord between the ends of the sorted values.

    If a few large values fall off to many small ones, this is where the fall ends. None if no value
    lies below the chord.
    """
    ordered = np.sort(values)[::-1]
    if len(ordered) < 3:
        return None
    below = np.linspace(ordered[0], ordered[-1], len(ordered)) - ordered
    # Rounding leaves some 1e-14 below the chord of a straight line.
    if below.max() <= 1e-9 * max(1.0, abs(ordered[0])):
        return None
    return float(ordered[np.argmax(below)])
