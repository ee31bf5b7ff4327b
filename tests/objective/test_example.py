"""Losses and weights of examples, with the worked numbers of CelebA's counts."""

import math

import pytest
import torch

from src.objective.example import level_weights
from src.objective.options import (
    FocalOptions,
    LDAMOptions,
    LevelWeights,
    ShiftOptions,
    VSOptions,
)
from tests.objective.build import make_objective, make_tables, whole_batch

# CelebA Blond_Hair:Male, train.
GROUPS = torch.tensor([[71629, 66874, 22880, 1387]])
CLASSES = torch.tensor([[138503, 24267]])


@pytest.mark.parametrize(
    ("scheme", "counts", "expected"),
    [
        ("inverse", GROUPS, [0.070367, 0.075370, 0.220294, 3.633969]),
        ("sqrt", GROUPS, [0.363947, 0.376664, 0.643953, 2.615436]),
        ("effective", GROUPS, [0.369428, 0.369603, 0.410823, 2.850146]),
        ("effective", CLASSES, [0.953802, 1.046198]),
    ],
)
def test_weights_of_celebas_groups_and_classes(scheme, counts, expected):
    weights = level_weights(counts, LevelWeights(scheme=scheme))
    torch.testing.assert_close(weights, torch.tensor([expected]), atol=1e-6, rtol=0)


def test_an_empty_level_has_weight_0_and_does_not_count():
    weights = level_weights(torch.tensor([[1, 3, 0]]), LevelWeights())
    torch.testing.assert_close(weights, torch.tensor([[1.5, 0.5, 0.0]]))


def test_each_task_has_the_weights_of_its_own_groups():
    # Task 0 has groups of 3 and 1 examples (weights 1/2, 3/2), task 1 of 2 and 2 (1, 1).
    labels = [[0, 0], [0, 0], [0, 1], [1, 1]]
    tables = make_tables(labels)
    weights = make_objective(tables, weights="group_weights").weights(whole_batch(tables, ZEROS))
    assert weights.tolist() == [[0.5, 1.0], [0.5, 1.0], [0.5, 1.0], [1.5, 1.0]]


ZEROS = torch.zeros(4, 2)


def test_weighted_losses_are_averaged_over_the_batch():
    # Losses are ln 2, ln 2, ln 2 and ln 4, of weights 1/2, 1/2, 1/2 and 3/2.
    tables = make_tables([[0], [0], [0], [1]])
    batch = whole_batch(tables, [[0.0], [0.0], [0.0], [-math.log(3)]])
    total, _ = make_objective(tables, weights="class_weights")(batch)
    expected = (3 * 0.5 * math.log(2) + 1.5 * math.log(4)) / 4
    torch.testing.assert_close(total, torch.tensor(expected))


def test_an_example_of_unknown_group_has_weight_0():
    tables = make_tables([[0], [0], [1]], groups=[[0], [-1], [3]])
    weights = make_objective(tables, weights="group_weights").weights(
        whole_batch(tables, torch.zeros(3, 1))
    )
    assert weights.tolist() == [[1.0], [0.0], [1.0]]


def test_weights_of_equal_groups_are_plain_erm():
    labels = [[0, 1], [1, 0], [0, 0], [1, 1]]
    tables = make_tables(labels)
    batch = whole_batch(tables, torch.arange(8.0).reshape(4, 2))
    plain, weighted = make_objective(tables), make_objective(tables, weights="group_weights")
    assert plain(batch)[0] == weighted(batch)[0]


F, Y = torch.tensor([[2.0], [-1.0], [0.5]]), [[1], [1], [0]]


def losses_of(tables, logits=F, **options):
    objective = make_objective(tables, **options)
    batch = whole_batch(tables, logits)
    return objective.example(batch if objective.shift is None else objective.shift(batch))[:, 0]


def test_the_focal_loss_by_hand():
    tables = make_tables(Y)
    bce = torch.tensor([0.126928, 1.313262, 0.974077])
    torch.testing.assert_close(losses_of(tables), bce, atol=1e-6, rtol=0)
    focal = losses_of(tables, example="focal", focal=FocalOptions(gamma=1.0))
    expected = torch.tensor([0.015130, 0.960071, 0.606323])
    torch.testing.assert_close(focal, expected, atol=1e-6, rtol=0)
    plain = losses_of(tables, example="focal", focal=FocalOptions(gamma=0.0))
    torch.testing.assert_close(plain, bce, atol=1e-6, rtol=0)


def celeba_tables(groups: list[list[int]] | None = None):
    """Three examples in a train split with CelebA's counts."""
    tables = make_tables(Y, groups=groups)
    tables.class_counts, tables.group_counts = CLASSES, GROUPS
    return tables


def test_ldam_asks_for_margins_of_the_fourth_root():
    tables = celeba_tables()
    layer = make_objective(tables, example="ldam").example
    torch.testing.assert_close(layer.margins, torch.tensor([[0.323489, 0.5]]), atol=1e-6, rtol=0)
    # s (f - D_1) = 30 (2 - 0.5), 30 (-1 - 0.5), and s (f + D_0) = 30 (0.5 + 0.323489).
    expected = torch.nn.functional.softplus(torch.tensor([-45.0, 45.0, 24.70467]))
    torch.testing.assert_close(losses_of(tables, example="ldam"), expected, atol=1e-4, rtol=0)


def test_ldam_drw_weighs_classes_from_an_epoch_on():
    tables = celeba_tables()
    objective = make_objective(tables, example="ldam", ldam=LDAMOptions(drw_from_epoch=2))
    batch = whole_batch(tables, F)
    objective.start_epoch(1)
    before = objective.example(batch)
    objective.start_epoch(2)
    ratio = objective.example(batch)[1:] / before[1:]
    torch.testing.assert_close(ratio[:, 0], torch.tensor([1.046198, 0.953802]))
    assert "example.reweighs" in objective.state_dict()  # resumed in mid-epoch


def test_class_shift_is_the_log_odds_of_the_classes():
    tables = celeba_tables()
    shifted = losses_of(tables, shift="class_shift")
    torch.testing.assert_close(shifted, losses_of(tables, F - 1.741775), atol=1e-5, rtol=0)
    plain = losses_of(tables, shift="class_shift", class_shift=ShiftOptions(tau=0.0))
    assert torch.equal(plain, losses_of(tables))


def test_group_shift_is_the_log_odds_within_the_attribute_value():
    tables = celeba_tables(groups=[[2], [3], [1]])  # blond woman, blond man, other man
    shift = torch.tensor([[-1.141237], [-3.875667], [-3.875667]])
    shifted = losses_of(tables, shift="group_shift")
    torch.testing.assert_close(shifted, losses_of(tables, F + shift), atol=1e-5, rtol=0)


def test_group_shift_counts_one_more_where_a_group_is_empty():
    tables = celeba_tables(groups=[[2], [3], [-1]])
    tables.group_counts = torch.tensor([[9, 4, 3, 0]])
    shift = torch.tensor([[math.log(3 / 9)], [math.log(1 / 5)], [0.0]])  # unknown: none
    shifted = losses_of(tables, shift="group_shift")
    torch.testing.assert_close(shifted, losses_of(tables, F + shift))


def test_vs_scales_and_shifts_the_margin_of_a_group():
    tables = celeba_tables(groups=[[2], [3], [1]])
    scale = torch.tensor([0.710085, 0.306264, 0.979604])  # (n / n_max) ** 0.3
    margins = torch.tensor([2.0, -1.0, -0.5])  # (2y - 1) f
    for tau in (0.0, 1.0):
        iota = -tau * torch.log(torch.tensor([22880, 1387, 66874]) / 162770)
        expected = torch.nn.functional.softplus(iota - scale * margins)
        losses = losses_of(tables, example="vs", vs=VSOptions(tau=tau))
        torch.testing.assert_close(losses, expected, atol=1e-5, rtol=0)
    neutral = losses_of(tables, example="vs", vs=VSOptions(gamma=0.0))
    torch.testing.assert_close(neutral, losses_of(tables))


@pytest.mark.parametrize(
    "options",
    [
        {"example": "focal"},
        {"example": "ldam"},
        {"example": "vs", "vs": VSOptions(tau=1.0)},
        {"shift": "class_shift"},
        {"shift": "group_shift"},
    ],
    ids=lambda options: "-".join(str(v) for v in options.values() if isinstance(v, str)),
)
def test_two_logits_with_softmax_equal_one_with_sigmoid(options):
    """A task of three classes whose third never occurs, with logit -inf, is a binary one."""
    labels, groups = [[0], [1], [1], [0], [0]], [[0], [2], [3], [1], [0]]
    binary = make_tables(labels, groups=groups)
    three = make_tables(labels, groups=groups, classes=(3,))
    logits = torch.tensor([[0.3], [-1.0], [2.0], [0.1], [-0.2]])
    wide = torch.cat([torch.zeros(5, 1), logits, torch.full((5, 1), -1e4)], 1)
    torch.testing.assert_close(
        losses_of(three, wide, **options), losses_of(binary, logits, **options)
    )
