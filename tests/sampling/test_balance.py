import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from src.io import UserError
from src.sampling.balance import balance_subset, balance_weights, effective_sample_size, find_cells

NAMES = "abcdefghij"
SQUARE = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])


def weigh(patterns, counts):
    patterns = np.asarray(patterns)
    return balance_weights(patterns, np.asarray(counts), "rwg", NAMES[: patterns.shape[1]])


def subset(patterns, counts):
    patterns = np.asarray(patterns)
    return balance_subset(patterns, np.asarray(counts), "subg", NAMES[: patterns.shape[1]])


def margins(patterns, mass):
    """The mass of each level that occurs, task by task."""
    return [[mass[task == level].sum() for level in np.unique(task)] for task in patterns.T]


def is_balanced(patterns, weights, counts):
    mass = weights * counts / (weights @ counts)
    return all(np.abs(np.array(m) - 1 / len(m)).max() < 1e-9 for m in margins(patterns, mass))


def incidence(patterns):
    rows = [task == level for task in patterns.T for level in np.unique(task)]
    targets = [1 / len(np.unique(task)) for task in patterns.T for _ in np.unique(task)]
    return np.array(rows, float), np.array(targets)


def random_cells(seed, num_tasks, most, levels=2, cells=8):
    """Patterns and counts of a random small data set."""
    rng = np.random.default_rng(seed)
    patterns, _, _ = find_cells(rng.integers(levels, size=(cells, num_tasks)))
    return patterns, rng.integers(1, most + 1, len(patterns))


small_cells = st.builds(random_cells, st.integers(0, 9999), st.integers(2, 4), st.just(50))


# Cells


def test_cells_are_the_patterns_that_occur_in_order_with_their_counts():
    levels = np.array([[1, 0], [0, 3], [1, 0], [0, 1], [0, 3], [1, 0]])
    patterns, counts, cell = find_cells(levels)
    assert patterns.tolist() == [[0, 1], [0, 3], [1, 0]]
    assert counts.tolist() == [1, 2, 3]
    assert cell.tolist() == [2, 1, 2, 0, 1, 2]


def test_cells_of_forty_tasks_with_eight_levels_do_not_overflow():
    levels = np.random.default_rng(0).integers(8, size=(500, 40))
    patterns, counts, cell = find_cells(np.vstack([levels, levels[:100]]))
    assert len(patterns) == 500 and counts.sum() == 600 and (counts == 2).sum() == 100
    assert np.array_equal(patterns[cell[:500]], levels)
    assert np.array_equal(patterns, np.unique(levels, axis=0))


# Weights


def test_weights_of_one_task_are_one_over_n():
    weights = weigh([[0], [1], [2]], [10, 4, 5])
    assert weights.tolist() == [0.1, 0.25, 0.2]


def test_two_by_two_weights_keep_the_odds_ratio_and_balance_both_margins():
    # Odds ratio 8 * 4 / (2 * 1) = 16, so the cells' shares are x, 1/2-x, 1/2-x, x with
    # (x / (1/2 - x))^2 = 16: x = 0.4. Per example 0.4/8, 0.1/2, 0.1/1, 0.4/4.
    counts = np.array([8, 2, 1, 4])
    weights = weigh(SQUARE, counts)
    assert np.allclose(weights / weights.sum(), np.array([0.05, 0.05, 0.1, 0.1]) / 0.3, rtol=1e-9)
    # 1 / (8 * 0.0025 + 2 * 0.0025 + 1 * 0.01 + 4 * 0.01) = 1 / 0.075
    assert effective_sample_size(np.repeat(weights, counts)) == pytest.approx(40 / 3)


def test_a_cell_that_every_balanced_weighting_empties_gets_weight_zero():
    # Without (1, 0) the cell (1, 1) holds half of all, so (0, 1) is left with none.
    weights = weigh([[0, 0], [0, 1], [1, 1]], [5, 7, 2])
    assert weights[1] == 0
    assert weights[2] / weights[0] == pytest.approx(5 / 2)


@given(small_cells)
@settings(max_examples=40, deadline=None)
def test_forced_zeros_are_those_of_one_linear_program_per_cell(cells):
    patterns, counts = cells
    rows, targets = incidence(patterns)
    largest = [linprog(-unit, A_eq=rows, b_eq=targets) for unit in np.eye(len(counts))]
    assume(largest[0].status == 0)
    possible = [-result.fun > 1e-6 for result in largest]
    assert (weigh(patterns, counts) > 0).tolist() == possible


@pytest.mark.parametrize("seed", range(4))
def test_weights_have_the_maximum_entropy_a_general_solver_finds(seed):
    patterns, counts = random_cells(seed, 3, 30, levels=3, cells=60)
    rows, targets = incidence(patterns)
    weights = weigh(patterns, counts)
    mass = weights * counts / (weights @ counts)
    independent = [0, 1, 2, 3, 4, 6, 7]  # one level of the second and third task follows
    found = minimize(
        lambda q: q @ np.log(q / counts),
        np.full(len(counts), 1 / len(counts)),
        jac=lambda q: np.log(q / counts) + 1,
        method="SLSQP",
        bounds=[(1e-9, 1)] * len(counts),
        constraints={"type": "eq", "fun": lambda q: (rows @ q - targets)[independent]},
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    assert found.success and len(rows) == 9
    assert np.abs(found.x - mass).max() < 1e-4
    assert mass @ np.log(mass / counts) <= found.fun + 1e-6


def test_margins_are_met_where_raking_alone_would_need_many_thousand_rounds():
    for counts in ([1000, 1, 1, 100_000], [10**6, 1, 30, 10**9]):
        assert is_balanced(SQUARE, weigh(SQUARE, counts), counts)
    # A chain that barely supports its last cell.
    patterns = np.array([[0, 0], [0, 1], [1, 1], [1, 2], [2, 2], [2, 0]])
    counts = [10**6, 1, 10**6, 1, 10**6, 1]
    weights = weigh(patterns, counts)
    assert is_balanced(patterns, weights, counts) and (weights > 0).all()


@given(small_cells, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_weights_are_balanced_or_refused_and_follow_any_order(cells, random):
    patterns, counts = cells
    tasks = random.sample(range(patterns.shape[1]), patterns.shape[1])
    order = random.sample(range(len(counts)), len(counts))
    try:
        weights = weigh(patterns, counts)
    except UserError:
        with pytest.raises(UserError):
            weigh(patterns[order][:, tasks], counts[order])
        return
    assert is_balanced(patterns, weights, counts)
    again = weigh(patterns[order][:, tasks], counts[order])
    assert np.allclose(again / again.sum(), (weights / weights.sum())[order], rtol=1e-6, atol=1e-12)


# Subsets


def test_subsets_of_one_task_take_the_smallest_level_of_each():
    assert subset([[0], [1], [2]], [10, 4, 5]).tolist() == [4, 4, 4]


def test_two_by_two_subset_by_hand():
    # Equal margins need s00 = s11 and s01 = s10: at most min(8, 4) and min(2, 1) of each.
    assert subset(SQUARE, [8, 2, 1, 4]).tolist() == [4, 1, 1, 4]


def test_of_the_largest_subsets_the_nearest_to_the_split_is_taken():
    # Class 0 of task a is kept whole (8); class 1 of a gives 8 of its 40 in proportion to its
    # cells, as far as task b allows: 4 with b=0 and 4 with b=1, each halved over c.
    patterns = np.array([[0, 0, 0], [0, 1, 1], *itertools.product([1], [0, 1], [0, 1])])
    kept = subset(patterns, [4, 4, 10, 10, 10, 10])
    assert kept.tolist() == [4, 4, 2, 2, 2, 2]


def enumerate_best(patterns, counts):
    """The largest balanced total and its least KL cost, by trying every subset size."""
    grids = np.meshgrid(*[np.arange(n + 1) for n in counts], indexing="ij")
    choices = np.stack([grid.ravel() for grid in grids], 1)  # (all, C)
    balanced = np.ones(len(choices), bool)
    for task in patterns.T:
        sizes = np.stack([choices[:, task == level].sum(1) for level in np.unique(task)], 1)
        balanced &= (sizes == sizes[:, :1]).all(1)
    choices = choices[balanced]
    choices = choices[choices.sum(1) == choices.sum(1).max()]
    return choices[0].sum(), cost(choices, counts).min()


def cost(kept, counts):
    return (kept * np.log(np.maximum(kept, 1) / counts)).sum(-1)


@given(st.integers(0, 9999), st.integers(2, 3), st.integers(2, 3))
@settings(max_examples=60, deadline=None)
def test_subsets_are_the_largest_and_nearest_of_all_that_enumeration_finds(seed, tasks, levels):
    patterns, counts = random_cells(seed, tasks, 4, levels, cells=7)
    size, least = enumerate_best(patterns, counts)
    if size == 0:
        with pytest.raises(UserError, match="subg: no subset balances these tasks at once: "):
            subset(patterns, counts)
        return
    kept = subset(patterns, counts)
    assert kept.sum() == size
    assert all(len(set(m)) == 1 for m in margins(patterns, kept))
    assert cost(kept, counts) == pytest.approx(least, abs=1e-6)


@given(
    st.integers(0, 9999), st.integers(2, 5), st.integers(1, 5000), st.randoms(use_true_random=False)
)
@settings(max_examples=40, deadline=None)
def test_subsets_are_exactly_balanced_and_their_size_follows_any_order(seed, tasks, most, random):
    patterns, counts = random_cells(seed, tasks, most, cells=40)
    columns = random.sample(range(tasks), tasks)
    order = random.sample(range(len(counts)), len(counts))
    try:
        kept = subset(patterns, counts)
    except UserError:
        with pytest.raises(UserError):
            subset(patterns[order][:, columns], counts[order])
        return
    assert all(len(set(m)) == 1 for m in margins(patterns, kept))
    assert ((kept >= 0) & (kept <= counts)).all()
    again = subset(patterns[order][:, columns], counts[order])
    assert again.sum() == kept.sum()
    assert cost(again, counts[order]) == pytest.approx(cost(kept, counts), rel=1e-4, abs=1e-6)


def test_xor_patterns_are_kept_equally_often():
    # s000 + s011 = s101 + s110 for a, and likewise for b and c, so all four are equal.
    patterns = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]])
    assert subset(patterns, [1, 2, 2, 2]).tolist() == [1, 1, 1, 1]
    with pytest.raises(UserError, match="a, b, c"):
        subset(patterns[1:], [2, 2, 2])


def test_where_only_parts_of_examples_reach_a_size_the_next_one_is_found():
    # Half examples would keep 4, whole ones keep 2.
    patterns = [[0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]
    patterns, counts = np.array(patterns), np.array([2, 1, 1, 1, 1, 1])
    assert enumerate_best(patterns, counts)[0] == 2
    kept = subset(patterns, counts)
    assert kept.sum() == 2 and all(m == [1, 1] for m in margins(patterns, kept))


def test_ten_tasks_are_balanced_at_once():
    rng = np.random.default_rng(0)
    hidden = rng.random((20_000, 1))
    rates = rng.uniform(0.2, 0.8, 10)
    levels = (0.7 * rng.random((20_000, 10)) + 0.3 * hidden < rates).astype(np.int64)
    patterns, counts, _ = find_cells(levels)
    weights, kept = weigh(patterns, counts), subset(patterns, counts)
    assert is_balanced(patterns, weights, counts)
    assert all(len(set(m)) == 1 for m in margins(patterns, kept)) and kept.sum() > 1000
