"""Solvers for cells whose margins, the totals of each task's levels, have to be equal.

Sources: Deming and Stephan 1940 (raking); Csiszar 1975 (raking converges to the maximum-entropy
solution).
"""

from math import lcm

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csc_array, hstack

TOLERANCE = 1e-9  # error of a margin, as a share of the total weight
INTEGRAL = 1e-5  # numbers this close to an integer count as integers
RAKING_ROUNDS = 50
NEWTON_STEPS = 200
WINDOW = 8  # breakpoints on each side of a solution
MAX_ROUNDS = 60
FREE_CELLS = 200  # cells of the first integer program


def margins(patterns: np.ndarray) -> tuple[csc_array, np.ndarray]:
    """Return the incidence (M, C) of levels in cells, and the target share (M,) of each level."""
    rows, targets = [], []
    for task in patterns.T:
        values, level = np.unique(task, return_inverse=True)
        rows.append(level + len(targets))
        targets += [1 / len(values)] * len(values)
    row = np.concatenate(rows).astype(np.int32)  # HiGHS in every SciPy version takes int32
    column = np.tile(np.arange(len(patterns), dtype=np.int32), patterns.shape[1])
    shape = (len(targets), len(patterns))
    return csc_array((np.ones(len(row)), (row, column)), shape=shape), np.array(targets)


def support(incidence: csc_array, targets: np.ndarray) -> np.ndarray:
    """Return which cells (C,) have positive weight in some balanced weighting.

    One linear program finds them all: maximise sum(y), 0 <= y <= 1, with y + z balanced for some
    z >= 0. Balanced weightings form a cone. A cell that can be positive can therefore reach 1, and
    all such cells can do so at once.
    """
    num_cells = incidence.shape[1]
    total = csc_array(-targets[:, None])
    result = linprog(
        np.repeat([-1.0, 0.0], [num_cells, num_cells + 1]),
        A_eq=hstack([incidence, incidence, total], format="csc"),
        b_eq=np.zeros(len(targets)),
        bounds=[(0, 1)] * num_cells + [(0, None)] * (num_cells + 1),
        method="highs",
    )
    return result.x[:num_cells] > 0.5


def maximum_entropy(patterns: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return weights (C,) per example with balanced margins: exp(sum of one number per level).

    Raking alone can need very many rounds. A few rounds are therefore followed by Newton's method
    on the convex dual sum(n exp(B'x)) - b'x, where the rows of B are a basis of the incidence rows.
    """
    log_weights = np.full(len(counts), -np.log(counts.sum()))
    tasks = [np.unique(task, return_inverse=True) for task in patterns.T]
    for _ in range(RAKING_ROUNDS):
        for values, level in tasks:
            totals = np.bincount(level, counts * np.exp(log_weights))
            log_weights -= np.log(len(values) * totals)[level]
    incidence, targets = margins(patterns)
    incidence = incidence.toarray()
    vectors, sizes, _ = np.linalg.svd(incidence @ incidence.T)
    basis = vectors[:, sizes > 1e-9 * sizes[0]].T  # (R, M)
    reduced, goal = basis @ incidence, basis @ targets  # (R, C), (R,)
    for _ in range(NEWTON_STEPS):
        mass = counts * np.exp(log_weights)  # (C,)
        if np.abs(incidence @ mass - targets).max() < TOLERANCE / 1000:
            break
        gradient = reduced @ mass - goal
        step = -np.linalg.solve((reduced * mass) @ reduced.T, gradient)
        move = step @ reduced
        length = min(1.0, 2.0 / np.abs(move).max())
        while mass @ np.expm1(length * move) > length * (goal @ step + 0.1 * gradient @ step):
            length /= 2
        log_weights += length * move
    weights = np.exp(log_weights)
    if np.abs(incidence @ (counts * weights) - targets).max() > TOLERANCE:
        raise RuntimeError(f"balanced weights did not converge in {NEWTON_STEPS} Newton steps")
    return weights


def largest(incidence: csc_array, targets: np.ndarray, counts: np.ndarray, whole: bool) -> int:
    """Return the size of the largest balanced subset.

    Args:
        whole: False allows fractions of examples, which gives an upper bound.
    """
    unit = lcm(*np.rint(1 / targets).astype(int).tolist())  # balanced sizes are multiples of this
    size = csc_array(-unit * targets[:, None])
    result = milp(
        np.append(np.zeros(len(counts)), -1.0),
        constraints=LinearConstraint(hstack([incidence, size], format="csc"), 0, 0),
        bounds=Bounds(0, np.append(counts, counts.sum() // unit)),
        integrality=int(whole),
        options={"mip_rel_gap": 0},
    )
    return unit * int(result.x[-1] + INTEGRAL)


def nearest(
    incidence: csc_array, margins: np.ndarray, counts: np.ndarray, exact: bool = False
) -> np.ndarray | None:
    """Return integers 0 <= s <= n (C,) with given margins (M,) that minimise sum(s log(s / n)).

    The cost is convex in each s. Straight pieces between breakpoints make it a linear program. The
    breakpoints close in on the solution until they are adjacent integers and no s lies at the edge
    of its window. By convexity, no solution farther away is then better.

    For two tasks (a transport problem) the solution is an integer already. Otherwise an integer
    program fixes the fractional cells together with the largest cells, where a change costs least.

    Args:
        exact: if that program fails, solve for all cells at once; if False, return None.
    """
    offsets = np.arange(-WINDOW, WINDOW + 1)
    steps, points = counts, np.rint(counts[:, None] * 2.0 ** np.arange(-17, 1))  # (C,), (C, K)
    for _ in range(MAX_ROUNDS):
        solution = _solve_pieces(incidence, margins, counts, points)
        if solution is None:
            return None
        kept = np.floor(solution + 0.5)
        at_edge = (kept <= points[:, 0]) & (kept > 0) | (kept >= points[:, -1]) & (kept < counts)
        if steps.max() == 1 and not at_edge.any():
            break
        finer = np.ceil(np.minimum(steps, kept) / WINDOW)
        steps = np.where(at_edge, 2 * steps, np.maximum(finer, 1))
        points = kept[:, None] + steps[:, None] * offsets
    free = np.abs(solution - kept) > INTEGRAL  # fractional
    if free.any():
        free[np.argsort(-kept, kind="stable")[:FREE_CELLS]] = True
        rest = margins - incidence[:, ~free] @ kept[~free]
        near = kept[:, None] + np.arange(-2, 3)
        integers = _solve_pieces(incidence[:, free], rest, counts[free], near[free], whole=True)
        if integers is not None:
            kept[free] = integers
        elif exact:
            kept = _solve_pieces(incidence, margins, counts, near, whole=True)
        else:
            return None
    return np.rint(kept).astype(np.int64)


def _solve_pieces(
    incidence: csc_array,
    margins: np.ndarray,
    counts: np.ndarray,
    points: np.ndarray,
    whole: bool = False,
) -> np.ndarray | None:
    """Minimise the cost of `nearest`, made linear between the breakpoints 0, `points` (C, K), n.

    Returns:
        s (C,), or None if the margins cannot be met.
    """
    points = np.column_stack([np.zeros(len(counts)), points.clip(0, counts[:, None]), counts])
    cost = points * np.log(points.clip(1) / counts[:, None])  # 0 at 0
    width = np.diff(points)
    cell, piece = np.nonzero(width)
    width = width[cell, piece]
    result = milp(
        np.diff(cost)[cell, piece] / width,
        constraints=LinearConstraint(incidence[:, cell], margins, margins),
        bounds=Bounds(0, width),
        integrality=int(whole),
        options={"mip_rel_gap": 0},
    )
    return None if result.x is None else np.bincount(cell, result.x, minlength=len(counts))
