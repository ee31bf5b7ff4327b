"""Balance several tasks at once: the weights of RWY and RWG, the subsets of SUBY and SUBG.

A **cell** is a joint pattern of all tasks' levels (their classes or their groups) that occurs. All
is solved over the C cells, a few to a few thousand, never over the N examples. Levels without
examples take no part. Deming and Stephan 1940 (raking), Csiszar 1975 (its limit is the maximum
entropy solution).
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from math import comb, lcm

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csc_array, hstack

from src.io import UserError

TOLERANCE = 1e-9  # of a margin, as a share of all weight
INTEGRAL = 1e-5  # nearer than this to a whole number is one
DENSE = 1 << 22  # up to this many possible codes a table is faster than a sort
RAKING_ROUNDS = 50
NEWTON_STEPS = 200
WINDOW = 8  # breakpoints on each side of a solution
MAX_ROUNDS = 60
FREE_CELLS = 200  # in a first whole-number program
MAX_SEARCH = 1000  # sets of tasks tried in search of a smaller conflict


def find_cells(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The joint patterns that occur in `levels` (N, T), non-negative integers.

    Returns:
        patterns (C, T) int64 in lexicographic order, counts (C,) int64, and the cell (N,) int64 of
        each example.
    """
    cell, size = np.zeros(len(levels), np.int64), 1
    for task in range(levels.shape[1]):
        radix = int(levels[:, task].max(initial=0)) + 1
        if size * radix > DENSE:
            cell, size = _rank(cell, size)
        cell, size = cell * radix + levels[:, task], size * radix
    cell, size = _rank(cell, size)
    member = np.empty(size, np.int64)
    member[cell] = np.arange(len(cell))  # any one example of each cell
    return levels[member].astype(np.int64), np.bincount(cell, minlength=size), cell


def balance_weights(
    patterns: np.ndarray, counts: np.ndarray, method: str, names: Sequence[str]
) -> np.ndarray:
    """Weights (C,) of one example of each cell that make every task's levels equally likely.

    Of all such weightings the one of maximum entropy over examples; 0 for the cells that every such
    weighting sets to 0. Margins are met within 1e-9. The scale is free; for one task it is 1/n.

    Args:
        patterns: (C, T) int64, counts: (C,) int64, from `find_cells`.
        method, names (T,): for messages.

    Raises:
        UserError: there is no such weighting; names a smallest set of tasks in conflict.
    """
    if patterns.shape[1] == 1:
        return 1 / counts
    support = _support(*_margins(patterns))
    if not support.any():
        raise _conflict(
            f"{method}: no weights balance these tasks at once",
            names,
            patterns,
            lambda some, cell: _support(*_margins(some)).any(),
        )
    weights = np.zeros(len(counts))
    weights[support] = _maximum_entropy(patterns[support], counts[support])
    return weights


def balance_subset(
    patterns: np.ndarray, counts: np.ndarray, method: str, names: Sequence[str]
) -> np.ndarray:
    """How many examples (C,) int64 of each cell to keep, for every task's levels equally many.

    Of the largest such subsets the one nearest to the full split (least KL divergence).

    Raises:
        UserError: only the empty subset is balanced; names a smallest set of tasks in conflict.
    """
    if patterns.shape[1] == 1:
        return np.full(len(counts), counts.min())
    incidence, targets = _margins(patterns)
    size = _largest(incidence, targets, counts, whole=False)  # a bound, nearly always reached
    kept = _nearest(incidence, size * targets, counts) if size else None
    if kept is None:
        size = _largest(incidence, targets, counts, whole=True)
        if not size:
            raise _conflict(
                f"{method}: no subset balances these tasks at once",
                names,
                patterns,
                lambda some, cell: (
                    _largest(*_margins(some), np.bincount(cell, counts), whole=True) > 0
                ),
            )
        kept = _nearest(incidence, size * targets, counts, exact=True)
        if kept is None:
            raise RuntimeError(f"{method}: the solver lost the balanced subset of {size} examples")
    return kept


def effective_sample_size(weights: np.ndarray) -> float:
    """(sum w)^2 / sum w^2 over examples, from their weights (N,)."""
    return float(weights.sum() ** 2 / (weights @ weights))


def _rank(codes: np.ndarray, size: int) -> tuple[np.ndarray, int]:
    """Ranks (N,) of codes below `size` among those that occur, and how many occur."""
    if size > DENSE:
        values, ranks = np.unique(codes, return_inverse=True)
        return ranks, len(values)
    occurs = np.zeros(size, bool)
    occurs[codes] = True
    return (np.cumsum(occurs) - 1)[codes], int(occurs.sum())


def _margins(patterns: np.ndarray) -> tuple[csc_array, np.ndarray]:
    """Incidence (M, C) of the M levels of all tasks that occur, and their target shares (M,)."""
    rows, targets = [], []
    for task in patterns.T:
        values, level = np.unique(task, return_inverse=True)
        rows.append(level + len(targets))
        targets += [1 / len(values)] * len(values)
    row = np.concatenate(rows).astype(np.int32)  # the indices that every SciPy's HiGHS takes
    column = np.tile(np.arange(len(patterns), dtype=np.int32), patterns.shape[1])
    shape = (len(targets), len(patterns))
    return csc_array((np.ones(len(row)), (row, column)), shape=shape), np.array(targets)


def _support(incidence: csc_array, targets: np.ndarray) -> np.ndarray:
    """Cells (C,) bool that some balanced weighting uses: one linear program finds them all.

    Balanced weightings of any total form a cone, so where a cell can be positive it can be 1, and
    all at once. Maximise sum(y), 0 <= y <= 1, with y + z balanced for some z >= 0.
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


def _maximum_entropy(patterns: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Weights (C,) of one example: exp(sum of one number per level), with balanced margins.

    A few rounds of raking, then Newton's method on the convex dual sum(n exp(B'x)) - b'x, since
    raking alone can need very many rounds. The rows of B are a basis of those of the incidence.
    """
    log_weights = np.full(len(counts), -np.log(counts.sum()))
    tasks = [np.unique(task, return_inverse=True) for task in patterns.T]
    for _ in range(RAKING_ROUNDS):
        for values, level in tasks:
            margins = np.bincount(level, counts * np.exp(log_weights))
            log_weights -= np.log(len(values) * margins)[level]
    incidence, targets = _margins(patterns)
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


def _largest(incidence: csc_array, targets: np.ndarray, counts: np.ndarray, whole: bool) -> int:
    """The size of the largest subset with equally many examples in all levels of every task.

    With `whole` false an upper bound: parts of examples are allowed.
    """
    unit = lcm(*np.rint(1 / targets).astype(int).tolist())  # a balanced size is a multiple of it
    size = csc_array(-unit * targets[:, None])
    result = milp(
        np.append(np.zeros(len(counts)), -1.0),
        constraints=LinearConstraint(hstack([incidence, size], format="csc"), 0, 0),
        bounds=Bounds(0, np.append(counts, counts.sum() // unit)),
        integrality=int(whole),
        options={"mip_rel_gap": 0},
    )
    return unit * int(result.x[-1] + INTEGRAL)


def _nearest(
    incidence: csc_array, margins: np.ndarray, counts: np.ndarray, exact: bool = False
) -> np.ndarray | None:
    """Whole numbers 0 <= s <= n (C,) with these margins (M,) and the least sum(s log(s / n)).

    The cost is convex in each s, so with straight pieces between breakpoints a program is linear.
    Breakpoints close in on the solution until they are neighbouring whole numbers and no s lies at
    the edge of its window: by convexity nothing farther away can then be better. For two tasks (a
    transport problem) this is whole already. Otherwise a whole-number program settles the rest,
    over the large cells, where a change costs least; if that fails, with `exact` over all, else
    None.
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
    free = np.abs(solution - kept) > INTEGRAL
    if free.any():
        free[np.argsort(-kept, kind="stable")[:FREE_CELLS]] = True
        rest = margins - incidence[:, ~free] @ kept[~free]
        near = kept[:, None] + np.arange(-2, 3)
        settled = _solve_pieces(incidence[:, free], rest, counts[free], near[free], whole=True)
        if settled is not None:
            kept[free] = settled
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
    """Minimise the cost of `_nearest`, linear between the breakpoints `points` (C, K), 0 and n."""
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


def _conflict(
    problem: str,
    names: Sequence[str],
    patterns: np.ndarray,
    feasible: Callable[[np.ndarray, np.ndarray], bool],
) -> UserError:
    """An error that names a smallest set of tasks in conflict.

    `feasible` takes the patterns of some tasks and the one that each of `patterns` (C, T) falls in.
    """

    def conflict(tasks: Sequence[int]) -> bool:
        some, _, cell = find_cells(patterns[:, list(tasks)])
        return not feasible(some, cell)

    everything = range(len(names))
    tasks = next(everything[:k] for k in range(2, len(names) + 1) if conflict(everything[:k]))
    for task in tasks[-2::-1]:  # the last one is needed; leave out those that are not
        rest = [other for other in tasks if other != task]
        if conflict(rest):
            tasks = rest
    for size in range(2, len(tasks)):  # several such sets can exist; look for a smaller one
        if comb(len(names), size) > MAX_SEARCH:
            break
        smaller = next(filter(conflict, combinations(everything, size)), None)
        if smaller:
            tasks = smaller
            break
    listed = ", ".join(names[task] for task in tasks)
    return UserError(f"{problem}: {listed}; leave one of them out, or use another method")
