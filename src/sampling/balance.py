"""Balance several tasks at once: the weights of RWY and RWG, the subsets of SUBY and SUBG.

A level is a class or a group of a task. A **cell** is a combination of levels, one per task, that
occurs in the data. The solvers (src/sampling/margins.py) work on the C cells (a few to a few
thousand), never on the N examples. Levels without examples are ignored.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from src.io import UserError
from src.sampling.margins import largest, margins, maximum_entropy, nearest, support


def find_cells(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the combinations that occur in `levels` (N, T), which are non-negative integers.

    Returns:
        patterns (C, T) int64 in lexicographic order, counts (C,) int64, and the cell (N,) int64 of
        each example.
    """
    cell, size = np.zeros(len(levels), np.int64), 1
    for values in levels.T.astype(np.int64):
        cell, codes = pd.factorize(cell * (values.max(initial=0) + 1) + values, sort=True)
        size = len(codes)
    member = np.empty(size, np.int64)
    member[cell] = np.arange(len(cell))  # some example of each cell
    return levels[member].astype(np.int64), np.bincount(cell, minlength=size), cell


def balance_weights(
    patterns: np.ndarray, counts: np.ndarray, method: str, names: Sequence[str]
) -> np.ndarray:
    """Return weights (C,), per example, that make the levels of every task equally likely.

    Of all such weights these have maximum entropy over examples. A cell has weight 0 only if all
    solutions give it 0. Margins are exact within 1e-9. The scale is arbitrary; for one task the
    weights are 1/n.

    Args:
        patterns, counts: (C, T) and (C,) int64, from `find_cells`.
        method: for error messages.
        names: (T,) of the tasks, for error messages.

    Raises:
        UserError: there is no solution.
    """
    if patterns.shape[1] == 1:
        return 1 / counts
    possible = support(*margins(patterns))  # (C,)
    if not possible.any():
        raise _conflict(f"{method}: no weights balance these tasks at once", names)
    weights = np.zeros(len(counts))
    weights[possible] = maximum_entropy(patterns[possible], counts[possible])
    return weights


def balance_subset(
    patterns: np.ndarray, counts: np.ndarray, method: str, names: Sequence[str]
) -> np.ndarray:
    """Return how many examples (C,) int64 of each cell to keep, so that all tasks are balanced.

    In a balanced subset, all levels of a task have equally many examples. Of the largest balanced
    subsets, this one is nearest to the full split (smallest KL divergence).

    Args:
        patterns, counts, method, names: see `balance_weights`.

    Raises:
        UserError: only the empty subset is balanced.
    """
    if patterns.shape[1] == 1:
        return np.full(len(counts), counts.min())
    incidence, targets = margins(patterns)
    size = largest(incidence, targets, counts, whole=False)  # upper bound, nearly always met
    kept = nearest(incidence, size * targets, counts) if size else None
    if kept is None:
        size = largest(incidence, targets, counts, whole=True)
        if not size:
            raise _conflict(f"{method}: no subset balances these tasks at once", names)
        kept = nearest(incidence, size * targets, counts, exact=True)
    return kept


def effective_sample_size(weights: np.ndarray) -> float:
    """Return (sum w)^2 / sum w^2 for the weights (N,) of examples."""
    return float(weights.sum() ** 2 / (weights @ weights))


def _conflict(problem: str, names: Sequence[str]) -> UserError:
    return UserError(f"{problem}: {', '.join(names)}; leave one of them out, or use another method")
