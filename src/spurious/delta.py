"""How far each task's accuracy leans on each attribute: counts, delta, its error, p and q.

Arrays in, arrays out. For task t and attribute a the groups are those of the grouping `t:a`:
g0=(y0,a0) g1=(y0,a1) g2=(y1,a0) g3=(y1,a1). What is undefined (an empty group) is NaN.

Shapes: N examples, T tasks, A attributes.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

# Pairs with a smaller group are shown with a flag and left out of the tests.
SMALLEST_TESTED_GROUP = 10


def count_pairs(
    right: np.ndarray,
    labels: np.ndarray,
    attributes: np.ndarray,
    weights: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Correct predictions and examples of the four groups of every pair, by matrix products.

    Args:
        right: (N, T) whether the task's prediction is right.
        labels: (N, T) 0/1 of the tasks.
        attributes: (N, A) 0/1.
        weights: (N,) how often each example counts (a bootstrap resample); None is once.

    Returns:
        correct (T, A, 4) and total (T, A, 4), int64.
    """
    # float32 counts exactly up to 2^24 = 16.7 million examples, and runs at the speed of BLAS.
    with_attribute = attributes.astype(np.float32)  # (N, A)
    weight = np.ones(len(labels), np.float32) if weights is None else weights.astype(np.float32)
    positive = labels.astype(np.float32) * weight[:, None]  # (N, T)
    negative = weight[:, None] - positive

    def by_attribute(members: np.ndarray) -> np.ndarray:
        present = members.T @ with_attribute  # (T, A)
        absent = members.sum(0, dtype=np.float64)[:, None] - present
        return np.stack([absent, present], axis=2)  # (T, A, 2)

    def by_group(chosen: np.ndarray | float) -> np.ndarray:
        halves = by_attribute(negative * chosen), by_attribute(positive * chosen)
        return np.concatenate(halves, axis=2).round().astype(np.int64)

    return by_group(right.astype(np.float32)), by_group(np.float32(1))


@dataclass(frozen=True)
class Gaps:
    """Group gaps of pairs, all of one shape (...); NaN where a group is empty.

    signed: g0 + g3 - g1 - g2 of the accuracies in percent, -200..200; positive where the task is
    easier when its label and the attribute agree. delta: its size. se: its standard error.
    tested: no group is smaller than `SMALLEST_TESTED_GROUP`. p: two-sided, of "the gap is 0"; NaN
    where not tested.
    """

    signed: np.ndarray
    delta: np.ndarray
    se: np.ndarray
    tested: np.ndarray
    p: np.ndarray


def gaps(correct: np.ndarray, total: np.ndarray) -> Gaps:
    """Gaps of pairs from the counts (..., 4) of their groups.

    The standard error takes p_j = (x_j + 2) / (n_j + 4) (Agresti and Coull 1998), so that a group
    without a single mistake does not claim to be certain.
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
    """q-values of p-values of any shape, over those that are not NaN.

    q of the i-th smallest of m is min over j >= i of m p_j / j (Benjamini and Hochberg 1995): the
    false discovery rate at which it would just be called.
    """
    q = np.full(p.shape, np.nan)
    tested = ~np.isnan(p)
    values = p[tested]
    order = np.argsort(values, kind="stable")
    ratios = values[order] * len(values) / np.arange(1, len(values) + 1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum.accumulate(ratios[::-1])[::-1]
    q[tested] = adjusted
    return q


def label_association(joint: np.ndarray, total: int) -> tuple[np.ndarray, np.ndarray]:
    """How attributes go together in the labels alone.

    Args:
        joint: (A, A) examples in which both attributes are present; the diagonal counts each.
        total: all examples.

    Returns:
        phi (A, A), the correlation of two binary attributes, and the risk difference
        P(y=1 | a=1) - P(y=1 | a=0) (A, A), rows attributes a, columns tasks y. NaN where an
        attribute is constant.
    """
    joint = joint.astype(np.float64)
    present = np.diag(joint)  # (A,)
    absent = total - present
    spread = np.sqrt(present * absent)
    with np.errstate(invalid="ignore", divide="ignore"):
        phi = (total * joint - np.outer(present, present)) / np.outer(spread, spread)
        given_present = joint / present[:, None]
        given_absent = (present[None, :] - joint) / absent[:, None]
    return phi, given_present - given_absent


def knee(values: np.ndarray) -> float | None:
    """The value farthest below the chord between the ends of the sorted values.

    Where a few large values fall off to many small ones, this is where the fall ends. None where no
    value lies below the chord.
    """
    ordered = np.sort(values)[::-1]
    if len(ordered) < 3:
        return None
    below = np.linspace(ordered[0], ordered[-1], len(ordered)) - ordered
    # Rounding leaves some 1e-14 below the chord of a straight line.
    if below.max() <= 1e-9 * max(1.0, abs(ordered[0])):
        return None
    return float(ordered[np.argmax(below)])
