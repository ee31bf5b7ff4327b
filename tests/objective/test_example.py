"""Losses and weights of examples, with the worked numbers of CelebA's counts."""

import math

import pytest
import torch

from src.objective.example import level_weights
from src.objective.options import LevelWeights
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
