"""Counts first, division last: accuracies of tasks and groups with honest intervals.

A group without examples has no accuracy: None here, `null` in JSON, `-` in a table.
"""

from typing import Any

import numpy as np
from scipy.special import ndtri

from src.data.groupings import Grouping


def count_groups(
    right: np.ndarray, groups: np.ndarray, num_groups: int
) -> tuple[np.ndarray, np.ndarray]:
    """Count correct predictions and examples per group of one task.

    Args:
        right: (N,) bool, whether the prediction is correct.
        groups: (N,) group ids; -1 (unknown) is not counted.

    Returns:
        correct (G,) and total (G,), int64.
    """
    total = np.bincount(groups[groups >= 0], minlength=num_groups)
    correct = np.bincount(groups[right & (groups >= 0)], minlength=num_groups)
    return correct, total


def wilson(correct: int, total: int, level: float = 0.95) -> tuple[float, float] | None:
    """Wilson's score interval (1927) for a proportion, as fractions; None without examples."""
    if total == 0:
        return None
    z = float(ndtri(0.5 + level / 2))  # quantile of the normal distribution
    share = correct / total
    centre = share + z**2 / (2 * total)
    margin = z * np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    scale = 1 + z**2 / total
    # At 0 and 1 the limits are exact; rounding must not put them a hair outside of [0, 1].
    low = 0.0 if correct == 0 else (centre - margin) / scale
    high = 1.0 if correct == total else (centre + margin) / scale
    return float(low), float(high)


def worst_group(correct: np.ndarray, total: np.ndarray, level: float = 0.95) -> dict | None:
    """The non-empty group of lowest accuracy (the first of several), with its interval.

    The minimum of several noisy accuracies is biased downwards, so its interval is
    `[min_g L_g, min_g U_g]` over Wilson limits at level 1 - (1 - level) / G (Bonferroni).
    """
    present = np.flatnonzero(total)
    if not len(present):
        return None
    accuracy = correct[present] / total[present]
    limits = [
        wilson(int(correct[g]), int(total[g]), 1 - (1 - level) / len(present)) for g in present
    ]
    return {
        "id": int(present[np.argmin(accuracy)]),
        "acc": float(accuracy.min()),
        "low": min(low for low, _ in limits),
        "high": min(high for _, high in limits),
    }


def summarise(
    grouping: Grouping, correct: np.ndarray, total: np.ndarray, loss: float | None
) -> dict[str, Any]:
    """The evaluation of one grouping as it stands in the JSON files; accuracies are fractions."""
    groups = []
    for group, name in enumerate(grouping.group_names):
        right, count = int(correct[group]), int(total[group])
        low, high = wilson(right, count) or (None, None)
        groups.append(
            {
                "id": group,
                "name": name,
                "correct": right,
                "total": count,
                "acc": right / count if count else None,
                "low": low,
                "high": high,
            }
        )
    count = int(total.sum())
    return {
        "avg_acc": int(correct.sum()) / count if count else None,
        "loss": loss,
        "groups": groups,
        "worst_group": worst_group(correct, total),
    }
