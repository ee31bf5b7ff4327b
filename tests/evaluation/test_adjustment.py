"""Logit adjustment of saved logits, by hand."""

import numpy as np
import pytest

from src.data.groupings import Grouping
from src.data.table import Table
from src.evaluation.adjustment import adjust, log_priors, with_known_groups
from src.evaluation.logits import Logits, Source
from src.io import UserError

COUNTS = {(0, 0): 71629, (0, 1): 66874, (1, 0): 22880, (1, 1): 1387}  # CelebA, blond and male
GROUPING = Grouping("Blond", ("Male",))
SOURCE = Source("test", "1", "w", "r")


def table(cells: list[tuple[int, ...]], columns=("Blond", "Male"), classes=()) -> Table:
    codes = np.array(cells, np.int8)
    names = np.arange(len(codes)).astype(str)
    return Table(names, np.zeros(len(codes), np.uint8), codes, columns, classes)


TRAIN = table([cell for cell, count in COUNTS.items() for _ in range(count)])
ROWS = table([(0, 0), (1, 1), (1, -1)])


def shifts(by: str, tau: float = 1.0) -> list[float]:
    logits = Logits(np.ones((3, 1), np.float32), ("Blond",), (2,), SOURCE)
    return (1 - adjust(logits, [GROUPING], TRAIN, ROWS, tau, by).values[:, 0]).tolist()


def test_shifts_of_celeba():
    assert shifts("class") == pytest.approx([-1.741775] * 3, abs=1e-5)
    assert shifts("class", 0.5) == pytest.approx([-0.870887] * 3, abs=1e-5)
    assert shifts("group") == pytest.approx([-1.141237, -3.875667, 0], abs=1e-5)
    assert shifts("class", 0.0) == [0, 0, 0] == shifts("group", 0.0)


def test_an_empty_cell_counts_one_more():
    train = table([(0, 0), (0, 0), (1, 0), (0, 1), (0, 1), (0, 1)])
    assert np.exp(log_priors(GROUPING, train)).round(6).tolist() == [[2, 4], [1, 1]]


def test_groups_that_the_run_did_not_know_have_no_priors():
    # Half of each group, rounded up: the ratios, and with them the shifts, stay.
    half = with_known_groups(TRAIN, [GROUPING], 0.5, seed=0)
    counts = np.bincount(GROUPING.group_ids(half), minlength=4)
    assert counts.tolist() == [-(-count // 2) for count in COUNTS.values()]
    assert len(with_known_groups(TRAIN, [GROUPING], 1.0, seed=0)) == len(TRAIN)
    with pytest.raises(UserError, match="use --adjust_by class"):
        with_known_groups(TRAIN, [GROUPING], 0.0, seed=0)


def test_classes_of_a_task_and_their_order():
    classes = (("a", "b", "c"), ("0", "1"))
    train = table([(0, 0)] * 6 + [(1, 0)] * 3 + [(2, 1)], ("Kind", "Male"), classes)
    groupings = [Grouping("Kind", (), classes[:1]), Grouping("Male")]
    values = np.zeros((1, 4), np.float32)
    logits = Logits(values, ("Kind", "Male"), (3, 2), SOURCE)
    adjusted = adjust(logits, groupings, train, train.select(np.array([0])), 1.0)
    expected = [-np.log(6), -np.log(3), 0, -np.log(1 / 9)]
    assert adjusted.values[0].tolist() == pytest.approx(expected)
