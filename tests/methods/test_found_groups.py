"""Found groups as a file and in the tables of a run; EIIL's environments."""

import numpy as np
import pytest
import torch

from src.data.groupings import parse_groupings
from src.data.table import Table
from src.io import UserError
from src.methods.eiil import penalty, scale_derivatives, search
from src.methods.found_groups import (
    FoundGroups,
    GroupLabels,
    identify,
    load_found_groups,
    save_found_groups,
)
from src.sampling.draws import known_share

TASKS = ("Young", "Smiling")
COLUMNS = ("Young", "Smiling", "Male")


class SmallData:
    """Six train rows and two of validation."""

    def __init__(self, last: int = 1):
        codes = [[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0], [0, 0, 1], [1, 1, last]]
        self.codes = np.array(codes, np.int8)

    def split(self, split: str) -> Table:
        codes = self.codes if split == "train" else self.codes[:2]
        names = np.array([f"{split}{row}.jpg" for row in range(len(codes))])
        return Table(names, np.zeros(len(codes), np.uint8), codes, COLUMNS)


DATA = SmallData()
GROUPINGS = parse_groupings(["Young:Male", "Smiling:Male"])
TRAIN = np.array([[0, 1], [1, 0], [0, 0], [1, 1], [-1, 0], [0, 1]])


@pytest.fixture
def saved(tmp_path):
    data = {split: identify(DATA, split) for split in ("train", "val")}
    environments = {"train": TRAIN, "val": TRAIN[:2]}
    save_found_groups(tmp_path / "f.npz", TASKS, FoundGroups(environments, (2, 2), data))
    return tmp_path / "f.npz"


def test_saved_groups_return_in_the_order_of_the_tasks(saved):
    assert load_found_groups(saved, TASKS, DATA).environments["train"].tolist() == TRAIN.tolist()
    swapped = load_found_groups(saved, TASKS[::-1], DATA)
    assert swapped.environments["train"].tolist() == TRAIN[:, ::-1].tolist()


def test_groups_of_other_data_or_tasks_are_refused(saved, tmp_path):
    with pytest.raises(UserError, match="were made from other data"):
        load_found_groups(saved, TASKS, SmallData(last=0))
    with pytest.raises(UserError, match="of the tasks Young, Smiling, but the run trains Bald"):
        load_found_groups(saved, ["Bald"], DATA)
    with pytest.raises(UserError, match="is missing"):
        load_found_groups(tmp_path / "no.npz", TASKS, DATA)
    saved.write_bytes(saved.read_bytes()[:200])
    with pytest.raises(UserError, match="cannot be read"):
        load_found_groups(saved, TASKS, DATA)


def test_found_groups_are_class_and_environment(saved):
    labels = GroupLabels(DATA, GROUPINGS, found=saved)
    assert labels.groups("train").tolist() == [[0, 1], [1, 2], [2, 0], [3, 3], [-1, 0], [2, 3]]
    rows, groupings = labels.split("val")
    assert groupings[0].group_names[3] == "Young=1 Young environment=1"
    assert rows.column("Male").tolist() == [0, 1]
    assert labels.has_groups("train") and labels.has_groups("val")


def test_without_labels_groups_are_the_classes(saved):
    labels = GroupLabels(DATA, GROUPINGS, use=False)
    assert labels.groups("train").tolist() == DATA.codes[:, :2].tolist()
    assert not labels.has_groups("train") and not labels.has_groups("val")
    found = GroupLabels(DATA, GROUPINGS, use=False, found=saved)
    assert found.has_groups("val") and found.groups("val").tolist() == [[0, 1], [1, 2]]


def test_hidden_groups_are_unknown_in_train_only():
    labels = GroupLabels(DATA, GROUPINGS, known=0.0)
    assert (labels.groups("train") == -1).all() and not labels.has_groups("train")
    assert labels.groups("val").tolist() == [[0, 0], [1, 3]] and labels.has_groups("val")


def test_a_known_share_keeps_each_joint_group():
    groups = np.repeat([[0, 1], [2, 3], [1, 0]], [50, 21, 1], axis=0)
    kept = known_share(groups, 0.1, seed=0)
    assert [(kept[:, 0] == g).sum() for g in (0, 2, 1)] == [5, 3, 1]  # rounded up
    assert (kept[kept[:, 0] >= 0] == groups[kept[:, 0] >= 0]).all()
    assert np.array_equal(kept, known_share(groups, 0.1, seed=0))
    assert not np.array_equal(kept, known_share(groups, 0.1, seed=1))
    assert np.array_equal(known_share(groups, 1.0, seed=0), groups)


def test_derivatives_of_eiil_by_hand():
    binary = scale_derivatives(np.array([2.0, -1.0, 0.5, 3.0]), np.array([1, 1, 0, -1]))
    assert binary == pytest.approx([-0.238406, 0.731059, 0.311230, 0.0], abs=1e-6)
    two = np.array([[0, 2.0], [1.0, 0], [0, 0.5]])  # the same odds as two logits
    assert scale_derivatives(two, np.array([1, 1, 0])) == pytest.approx(binary[:3], abs=1e-12)
    f = torch.tensor([0.3, -1.0, 2.0], requires_grad=True)
    scale = torch.ones((), requires_grad=True)
    loss = torch.nn.functional.cross_entropy(scale * f[None], torch.tensor([0]))
    (slope,) = torch.autograd.grad(loss, scale)
    one = scale_derivatives(f.detach().numpy()[None], np.array([0]))
    assert one[0] == pytest.approx(float(slope), abs=1e-6)


def test_the_exact_environments_have_the_largest_penalty():
    rng = np.random.default_rng(0)
    f, y = rng.normal(0, 2, 12), rng.integers(0, 2, 12)
    R = scale_derivatives(f, y)
    assert ((R > 0) == ((f > 0) != y)).all()  # the errors of the network
    masks = (np.arange(2**12)[:, None] >> np.arange(12)) & 1
    values = [float(penalty(torch.from_numpy(q.astype(float)), torch.from_numpy(R))) for q in masks]
    exact = float(penalty(torch.from_numpy((R > 0).astype(float)), torch.from_numpy(R)))
    assert exact == pytest.approx(max(values), abs=1e-12)


def test_adam_finds_the_exact_environments():
    rng = np.random.default_rng(1)
    f, y = rng.normal(1, 2, 200), rng.integers(0, 2, 200)
    R = scale_derivatives(f, y)
    found = search(R, lr=0.1, steps=300, seed=0)
    assert max((found == (R > 0)).mean(), (found == (R < 0)).mean()) == 1
