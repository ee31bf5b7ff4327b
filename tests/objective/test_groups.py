"""Losses of a task to one number: group DRO with the worked numbers of its definition."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.objective.batch import Batch
from src.objective.groups import GroupDRO, group_means
from src.objective.options import GroupDROOptions, ObjectiveOptions
from tests.objective.build import make_tables

# CelebA Blond_Hair:Male, train.
COUNTS = [71629, 66874, 22880, 1387]


def tables_of(*counts: list[int]):
    """Tables of tasks whose groups have these sizes."""
    tables = make_tables([[0] * len(counts)], groups=[[0] * len(counts)])
    tables.group_counts = torch.tensor(counts)
    return tables


def dro(*counts: list[int], **options) -> GroupDRO:
    chosen = ObjectiveOptions(dro=GroupDROOptions(**options))
    return GroupDRO(chosen, tables_of(*counts))


def step(layer: GroupDRO, *means: list[float], finite: bool = True) -> list[float]:
    """One step in which each group of a task has one example with this loss; None: absent."""
    size = max(map(len, means))
    losses = torch.zeros(size, len(means))
    groups = torch.full((size, len(means)), -1)
    for task, row in enumerate(means):
        for group, loss in enumerate(row):
            if loss is not None:
                losses[group, task], groups[group, task] = loss, group
    nothing = torch.zeros(size, len(means))
    batch = Batch(nothing, groups, groups, torch.arange(size))
    scalars = layer(losses, None, batch)
    layer.commit(torch.tensor(finite))
    return scalars.tolist()


def q(layer: GroupDRO) -> list[list[float]]:
    return layer.log_q.exp().tolist()


LOSSES = [0.2, 0.4, 0.6, 2.0]


@pytest.mark.parametrize(
    ("options", "losses", "expected", "scalar"),
    [
        ({}, LOSSES, [0.248498, 0.248996, 0.249494, 0.253012], 0.805018),
        ({"adjustment": 1.0}, LOSSES, [0.248482, 0.248980, 0.249485, 0.253054], 0.805086),
        (
            {"adjustment": 1.0, "normalize": True},
            LOSSES,
            [0.249532, 0.249686, 0.249842, 0.250940],
            None,
        ),
        ({}, [0.2, 0.4, 0.6, None], [0.2497495, 0.2502495, 0.2507505, 0.2492505], None),
    ],
    ids=["plain", "adjusted", "normalised", "a group is absent"],
)
def test_q_and_the_scalar_of_one_step(options, losses, expected, scalar):
    layer = dro(COUNTS, eta=0.01, **options)
    (found,) = step(layer, losses)
    assert q(layer)[0] == pytest.approx(expected, abs=1e-6)
    if scalar is not None:
        assert found == pytest.approx(scalar, abs=1e-6)


def test_two_tasks_have_a_q_each_or_one_together():
    losses = (LOSSES, [0.3, 0.3, 0.9, 1.2])
    each = dro(COUNTS, COUNTS, eta=0.01)
    assert step(each, *losses) == pytest.approx([0.8050, 0.6765], abs=1e-4)
    assert q(each)[1] == pytest.approx([0.2491, 0.2491, 0.2506, 0.2513], abs=1e-4)
    joint = dro(COUNTS, COUNTS, eta=0.01, scope="joint")
    assert sum(step(joint, *losses)) == pytest.approx(1.4816, abs=1e-4)
    assert q(joint)[0] == pytest.approx([0.1243, 0.1246, 0.1248, 0.1266], abs=1e-4)
    assert q(joint)[1] == pytest.approx([0.1245, 0.1245, 0.1252, 0.1256], abs=1e-4)


def test_a_large_eta_finds_the_worst_group():
    losses = (LOSSES, [0.3, 0.3, 0.9, 1.2])
    assert step(dro(COUNTS, COUNTS, eta=1e4), *losses) == pytest.approx([2.0, 1.2])
    assert sum(step(dro(COUNTS, COUNTS, eta=1e4, scope="joint"), *losses)) == pytest.approx(4.0)


def test_eta_0_is_the_mean_over_groups():
    layer = dro(COUNTS, eta=0.0)
    assert step(layer, LOSSES) == pytest.approx([0.8])
    assert q(layer) == [pytest.approx([0.25] * 4)]


def test_a_group_without_train_examples_has_no_weight():
    layer = dro([5, 0, 5, 5], eta=1.0)
    step(layer, [1.0, None, 1.0, 1.0])
    assert q(layer) == [pytest.approx([1 / 3, 0, 1 / 3, 1 / 3])]


def test_a_step_that_is_not_finite_leaves_q_as_it_was():
    layer = dro(COUNTS)
    step(layer, [float("nan"), 0.4, 0.6, 2.0], finite=False)
    assert q(layer) == [pytest.approx([0.25] * 4)]


def test_the_automatic_adjustment_is_the_generalisation_gap():
    layer = dro([4, 16, 0, 25], eta=0.0, automatic_adjustment=True)
    step(layer, [0.5, 1.0, None, 2.0])
    step(layer, [1.5, None, None, 3.0])  # means 0.9 * 0.5 + 0.1 * 1.5 = 0.6, 1.0, 2.1
    layer.end_epoch(torch.tensor([[0.8, 0.9, float("nan"), 2.5]]))
    # (0.8 - 0.6) 2, (0.9 - 1.0) 4, nothing for the empty group, (2.5 - 2.1) 5.
    torch.testing.assert_close(layer.adjustment, torch.tensor([[0.4, -0.4, 0.0, 2.0]]))


@given(st.permutations(range(6)))
def test_the_order_of_examples_does_not_matter(order):
    losses = torch.tensor([[0.1], [0.5], [0.9], [1.3], [0.2], [2.0]])
    groups = torch.tensor([[0], [1], [1], [3], [3], [-1]])
    order = list(order)
    means, sizes = group_means(losses[order], None, groups[order], 4)
    torch.testing.assert_close(means, torch.tensor([[0.1, 0.7, 0.0, 0.75]]))
    assert sizes.tolist() == [[1, 2, 0, 2]]


def test_20_steps_equal_a_naive_implementation():
    """Written from the equations: exponentiated gradient ascent on q, descent on the weights."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, 3, generator=generator), torch.randint(0, 2, (64,), generator=generator)
    a = torch.randint(0, 2, (64,), generator=generator)
    groups = 2 * y + a
    ours, naive = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    layer = GroupDRO(
        ObjectiveOptions(dro=GroupDROOptions(eta=0.1)),
        make_tables(y[:, None].tolist(), groups=groups[:, None].tolist()),
    )
    weights = [0.25] * 4
    for _ in range(20):
        rows = torch.randperm(64, generator=generator)[:16]
        losses = torch.nn.functional.softplus((1 - 2 * y[rows]) * (x[rows] @ ours))[:, None]
        batch = Batch(losses, y[rows, None], groups[rows, None], rows)
        (gradient,) = torch.autograd.grad(layer(losses, None, batch).sum(), ours)
        layer.commit(torch.tensor(True))
        ours = (ours - 0.5 * gradient).detach().requires_grad_()

        plain = torch.nn.functional.softplus((1 - 2 * y[rows]) * (x[rows] @ naive))
        present = [plain[groups[rows] == g].mean() if (groups[rows] == g).any() else plain.sum() * 0
                   for g in range(4)]  # fmt: skip
        weights = [w * float(torch.exp(0.1 * mean.detach())) for w, mean in zip(weights, present)]
        weights = [w / sum(weights) for w in weights]
        total = sum(w * mean for w, mean in zip(weights, present))
        (gradient,) = torch.autograd.grad(total, naive)
        naive = (naive - 0.5 * gradient).detach().requires_grad_()
    torch.testing.assert_close(ours, naive, atol=1e-6, rtol=1e-5)
    assert q(layer)[0] == pytest.approx(weights, abs=1e-6)
