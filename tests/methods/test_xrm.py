"""XRM: worked numbers, a planted environment, and draws that depend on seed and step only."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from src.data.groupings import parse_groupings
from src.data.table import Table
from src.methods import xrm
from src.methods.options import XrmOptions
from src.methods.xrm import (
    Setting,
    balanced_loss,
    draw_settings,
    errors,
    flip_probability,
    flip_rates,
    is_degenerate,
    train_twins,
)
from src.runs.signals import Stopped

SETTING = Setting(lr=0.05, weight_decay=1e-4, batch_size=64)


def planted(count: int = 600) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Features in which a shortcut is easier than the label; it is wrong for a tenth."""
    rng = np.random.default_rng(0)
    y, minority = rng.integers(0, 2, count), rng.random(count) < 0.1
    shortcut = np.where(minority, 1 - y, y)
    columns = [4 * shortcut - 2, *rng.normal(0, 1, (6, count))]
    x = np.stack(columns, axis=1).astype(np.float32)
    return torch.from_numpy(x), torch.from_numpy(y[:, None]), minority


def test_flip_probabilities_by_hand():
    c = torch.tensor([[0.5], [0.6], [0.9]])
    assert flip_probability(c, torch.tensor([2]))[:, 0].tolist() == pytest.approx([0, 0.2, 0.8])
    three = flip_probability(c[[0, 2]], torch.tensor([3]))
    assert three[:, 0].tolist() == pytest.approx([0.25, 0.85])
    f = torch.linspace(-4, 4, 9)  # of one logit f the flip probability is tanh(|f|/2)
    confidence = torch.sigmoid(f.abs())[:, None]
    expected = torch.tanh(f.abs() / 2).tolist()
    assert flip_probability(confidence, torch.tensor([2]))[:, 0].tolist() == pytest.approx(expected)


def test_the_balanced_loss_by_hand():
    f = torch.tensor([2.0, -1.0, 0.5])
    logits = torch.stack([f * 0, f], 1)[:, None]
    labels = torch.tensor([[1], [1], [0]])
    assert float(balanced_loss(logits, labels)) == pytest.approx(0.720095 + 0.974077, abs=1e-6)
    labels[2] = -1  # the only example of class 0 becomes unknown: the class has no term
    assert float(balanced_loss(logits, labels)) == pytest.approx(0.720095, abs=1e-6)


def test_twins_find_a_planted_environment():
    x, y, minority = planted()
    twins = train_twins(x, y, [2], SETTING, 300, (0, 0))
    found = errors(x, twins, y.numpy())[:, 0]
    assert (found[minority] == 1).mean() > 0.9 and (found[~minority] == 0).mean() > 0.9
    assert 0.05 < flip_rates(twins.labels.numpy(), y.numpy())[0] < 0.15


def test_each_task_has_the_twins_that_it_would_have_alone():
    x, y, _ = planted()
    other = 1 - y
    other[::7] = -1
    three = torch.from_numpy(np.random.default_rng(1).integers(0, 3, (len(y), 1)))
    both = train_twins(x, torch.cat([other, y, three], 1), [2, 2, 3], SETTING, 30, (0, 1))
    for task, (labels, classes) in enumerate([(other, 2), (y, 2), (three, 3)]):
        alone = train_twins(x, labels, [classes], SETTING, 30, (0, 1))
        assert torch.equal(alone.labels[:, 0], both.labels[:, task])
        own = both.weight[:, task, :classes]
        assert torch.allclose(alone.weight[:, 0], own, atol=1e-6)
    assert (both.labels[::7, 0] == -1).all() and both.labels[:, :2].max() == 1


def test_twins_are_a_function_of_the_seeds():
    x, y, _ = planted(100)
    first = train_twins(x, y, [2], SETTING, 20, (0, 0))
    again = train_twins(x, y, [2], SETTING, 20, (0, 0))
    assert torch.equal(first.weight, again.weight) and torch.equal(first.labels, again.labels)
    assert not torch.equal(first.weight, train_twins(x, y, [2], SETTING, 20, (1, 0)).weight)
    assert not torch.equal(first.weight, train_twins(x, y, [2], SETTING, 20, (0, 1)).weight)


def test_settings_lie_in_the_ranges_of_the_paper():
    settings = draw_settings(200, seed=0)
    assert all(1e-5 <= s.lr <= 1e-3 and 1e-6 <= s.weight_decay <= 1e-3 for s in settings)
    assert {32 <= s.batch_size <= 128 for s in settings} == {True}


def test_one_environment_in_a_class_is_degenerate():
    labels = {"train": np.array([[0], [0], [1], [1]]), "val": np.array([[0], [0], [1], [1]])}
    full = {split: np.array([[0], [1], [0], [1]]) for split in labels}
    assert not is_degenerate(0, full, labels)
    assert is_degenerate(0, full | {"val": np.array([[0], [1], [1], [1]])}, labels)
    rare = {"train": np.array([[0], [0], [1]])}  # one row cannot be in both
    assert not is_degenerate(0, {"train": np.array([[0], [1], [1]])}, rare)


def test_a_complete_setting_goes_before_one_with_more_flips(monkeypatch):
    stages = PlantedStages()
    half = {"train": np.arange(400) % 2, "val": np.arange(200) % 2}
    none = {split: np.zeros_like(rows) for split, rows in half.items()}
    results = [none, half, none, none]  # environments of the settings; and their rates:
    rates = iter([[0.2], [0.1], [0.3], [0.2]])
    monkeypatch.setattr(xrm, "draw_settings", lambda *_: [SETTING] * 4)
    monkeypatch.setattr(xrm, "train_twins", lambda *_: SimpleNamespace(labels=torch.zeros(1)))
    monkeypatch.setattr(xrm, "flip_rates", lambda *_: next(rates))
    given = iter([found for found in results for _ in range(2)])  # train, then val

    def errors(features, *_):
        found = next(given)
        return found["train" if len(features) == len(found["train"]) else "val"][:, None]

    monkeypatch.setattr(xrm, "errors", errors)
    found = xrm.find_environments(stages, stages.node(monkeypatch))
    assert found.environments["train"].sum() == 200  # of the second setting


class PlantedStages:
    """A run on the planted features; a third of them is validation."""

    tasks, seed, options = ["Young"], 0, XrmOptions(settings=2, steps=40)
    groupings = parse_groupings(["Young:Male"])

    def __init__(self):
        x, y, self.minority = planted()
        self.rows = {"train": slice(200, None), "val": slice(0, 200)}
        self.x, self.y, self.dataset = x, y.numpy(), self

    def split(self, split):
        codes = self.y[self.rows[split]].astype(np.int8)
        names = np.array([f"{split}{row}.jpg" for row in range(len(codes))])
        return Table(names, np.zeros(len(codes), np.uint8), codes, ("Young",))

    def node(self, monkeypatch):
        features = {split: self.x[rows].half().numpy() for split, rows in self.rows.items()}
        monkeypatch.setattr(xrm, "load_features", lambda s: SimpleNamespace(values=features[s]))
        return SimpleNamespace(
            run=SimpleNamespace(features=lambda split, _: split), epoch=lambda: 1
        )


def test_environments_of_validation_are_found_too(monkeypatch, capsys):
    settings = [SETTING, Setting(lr=1e-9, weight_decay=0.0, batch_size=64)]
    monkeypatch.setattr(xrm, "draw_settings", lambda *_: settings)
    stages = PlantedStages()
    stages.options = XrmOptions(settings=2, steps=300)
    found = xrm.find_environments(stages, stages.node(monkeypatch))
    for split, rows in stages.rows.items():
        right = (found.environments[split][:, 0] == 1) == stages.minority[rows]
        assert right.mean() > 0.9
    assert found.sizes == (2,) and "flip rates" in capsys.readouterr().out


def test_a_stopped_search_begins_again(monkeypatch):
    stages = PlantedStages()
    node = stages.node(monkeypatch)
    answers = iter([None, 15, 15])  # a signal after the first setting
    with pytest.raises(Stopped):
        xrm.find_environments(stages, node, lambda: next(answers))
    first, again = (xrm.find_environments(stages, node) for _ in range(2))
    for split in ("train", "val"):
        assert np.array_equal(first.environments[split], again.environments[split])
