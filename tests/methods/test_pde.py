"""PDE's plans: a balanced subset, equal classes within each attribute value, then more."""

import numpy as np
import pytest
import torch

from src.data.celeba import load_annotations
from src.data.groupings import parse_groupings
from src.methods.options import PdeOptions
from src.methods.pde import PDE
from src.objective.batch import TrainTables
from src.objective.logits import LogitLayout
from src.sampling.plans import erm, stack_groups, stack_labels


def pde(groups: np.ndarray, **options) -> PDE:
    """PDE for tasks of four groups each; groups (N, T)."""
    tasks = groups.shape[1]
    labels, groups = torch.from_numpy(groups // 2), torch.from_numpy(groups)
    names = [f"t{task}" for task in range(tasks)]
    tables = TrainTables(LogitLayout([2] * tasks), labels, groups, [4] * tasks, names)
    return PDE(PdeOptions(**options), tables, 8, (4, 4))


# 40 women without, 20 men without, 10 women with, 4 men with the label.
GROUPS = np.repeat([0, 1, 2, 3], [40, 20, 10, 4])[:, None]


def sizes(plan) -> list[int]:
    return np.bincount(GROUPS[plan.positions, 0], minlength=4).tolist()


def test_the_subset_grows_from_equal_groups_to_equal_classes():
    schedule = pde(GROUPS, warmup_epochs=3, interval=2, num_added=5).schedule(erm(74), seed=0)
    assert sizes(schedule.plan(1)) == sizes(schedule.plan(3)) == [4, 4, 4, 4]
    assert sizes(schedule.plan(4)) == sizes(schedule.plan(5)) == [10, 4, 10, 4]
    assert len(schedule.plan(6).positions) == 33 and len(schedule.plan(8).positions) == 38
    added = np.setdiff1d(schedule.plan(6).positions, schedule.plan(4).positions)
    assert 1 <= len(added) <= 5


def test_the_learning_rate_may_drop_after_the_warm_up():
    method = pde(GROUPS, warmup_epochs=3, lr_factor=0.01)
    assert [method.lr_factor(epoch) for epoch in (1, 3, 4)] == [1.0, 1.0, 0.01]


def test_several_tasks_balance_classes_within_joint_attribute_values():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 4, (400, 2))
    schedule = pde(groups, warmup_epochs=1, num_added=0).schedule(erm(400), seed=0)
    chosen = groups[schedule.plan(2).positions]
    for values in ([0, 0], [0, 1], [1, 0], [1, 1]):
        cell = chosen[(chosen % 2 == values).all(axis=1)]
        for task in (0, 1):
            assert np.bincount(cell[:, task] // 2).tolist() == [len(cell) // 2] * 2


@pytest.mark.slow
@pytest.mark.celeba
def test_celeba_grows_to_48534_examples(celeba_root, tmp_path):
    root = celeba_root.resolve().parent / "celeba_annotations"
    if not root.is_dir():
        pytest.skip("needs the complete annotations beside CELEBA_ROOT")
    rows = load_annotations(root, tmp_path).of_split("train")
    groupings = parse_groupings(["Blond_Hair:Male"])
    labels, groups = stack_labels(rows, groupings), stack_groups(rows, groupings)
    assert np.array_equal(labels, groups // 2)
    schedule = pde(groups).schedule(erm(len(rows)), seed=0)
    assert len(schedule.plan(16).positions) == 5_548
    assert len(schedule.plan(17).positions) == 48_534
