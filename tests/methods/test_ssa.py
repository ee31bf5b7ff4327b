"""SSA: thresholds by hand, what each part sees, and resume in mid-epoch."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from src.data.features import FeatureRows
from src.data.groupings import ATTRIBUTES, parse_groupings
from src.data.sources import ImageView
from src.data.table import Table
from src.io import UserError
from src.methods.options import SsaOptions
from src.methods.ssa import attribute_groupings, train_parts
from src.methods.ssa_fold import FoldData, FoldLabels, FoldSchedule, SsaFold, thresholds
from src.training.loop import Stopped
from tests.methods.test_found_groups import SmallData
from tests.tiny_training import MemoryImages, at, make_trainer, outcome

OPTIONS = SsaOptions(folds=2, interval=3, threshold=0.6)


def test_thresholds_let_all_groups_grow_to_one_size():
    # The smallest group has 3 rows and 3 confident predictions: all may grow to 6.
    confidence = np.array([0.96, 0.97, 0.99, 0.2, 0.6, 0.9, 0.7, 0.5, 0.4, 0.99])
    groups = np.array([2, 2, 2, 2, 0, 0, 0, 1, 1, 3])
    result = thresholds(np.array([5, 4, 3, 9]), confidence, groups, 1.0, 0.95)
    assert result.tolist() == [0.9, 0, 0.95, np.inf]  # 1 of 3, both, those above 0.95, none


def test_thresholds_leave_out_ties_and_count_rows_by_their_scale():
    tied = thresholds(np.array([2, 1]), np.array([0.8, 0.8, 0.99, 0.99]), np.array([0, 0, 1, 1]),
                      1.0, 0.95)  # fmt: skip
    assert 0.8 < tied[0] < 0.8001  # one may pass, but two are equally confident
    # Each row stands for two: the smallest group grows to 1 + 4, so the other may add 3 // 2 = 1.
    scaled = thresholds(np.array([2, 1]), np.array([0.8, 0.7, 0.99, 0.99]), np.array([0, 0, 1, 1]),
                        2.0, 0.95)  # fmt: skip
    assert scaled.tolist() == [0.8, 0.95]


def test_an_attribute_of_two_tasks_is_learnt_once():
    rows = celeba_rows()
    groupings = parse_groupings(["Young:Male+Bald", "Smiling:Male"])
    assert attribute_groupings(groupings, rows) == ["Male:Young+Smiling", "Bald:Young"]
    with pytest.raises(UserError, match="write groupings as Task:Attr"):
        attribute_groupings(parse_groupings(["Young"]), rows)


def test_an_attribute_of_many_tasks_joins_those_with_the_smallest_groups():
    rows, tasks = celeba_rows(), [name for name in ATTRIBUTES if name != "Male"][:12]
    for count, task in enumerate(tasks, start=3):  # of task i, 2 + i men have the attribute
        rows.codes[:, rows.columns.index(task)] = 0
        rows.codes[:count, rows.columns.index(task)] = 1
        rows.codes[40 : 40 + count, rows.columns.index(task)] = 1
    [found] = attribute_groupings(parse_groupings([f"{task}:Male" for task in tasks]), rows)
    assert found == f"Male:{'+'.join(tasks[:3])}"


def celeba_rows() -> Table:
    """80 rows with all attributes 0, half of them men."""
    codes = np.zeros((80, len(ATTRIBUTES)), np.int8)
    codes[:40, ATTRIBUTES.index("Male")] = 1
    return Table(np.arange(80).astype(str), np.zeros(80, np.uint8), codes, tuple(ATTRIBUTES))


def test_the_parts_of_train_are_disjoint_and_complete():
    parts = train_parts(10, 3, seed=1)
    assert sorted(np.concatenate(parts)) == list(range(10))
    assert list(map(len, parts)) == [4, 3, 3]


class SmallImages(SmallData):
    def images(self, split, full_frame=False):
        return MemoryImages(6 if split == "train" else 2)


def test_a_part_hides_the_attributes_of_train_and_its_own_rows():
    groupings = parse_groupings(["Male:Young"])
    data = FoldData(SmallImages(), groupings, OPTIONS, seed=0)
    own = train_parts(6, 2, seed=0)[0]
    train, val = data.split("train"), data.split("val")
    assert len(train) == 5 - len(val) and not set(own) & set(data.rows["train"][1][1])
    labelled = 2 - len(val)
    assert (train.column("Male")[labelled:] == -1).all()
    assert (train.column("Male")[:labelled] >= 0).all()
    labels = FoldLabels(data, groupings)
    assert (labels.groups("train")[:, 0] == train.column("Young")).all()  # classes
    assert (labels.groups("val") >= 0).all()


class WithoutAttribute(SmallImages):
    def split(self, split):
        rows = super().split(split)
        codes = rows.codes.copy()
        codes[:, rows.columns.index("Male")] = -1 if split == "train" else 0
        return replace(rows, codes=codes)


def test_classes_are_known_where_the_attribute_is_not():
    groupings = parse_groupings(["Male:Young"])
    data = FoldData(WithoutAttribute(), groupings, OPTIONS, seed=0)
    classes = FoldLabels(data, groupings).groups("train")[:, 0]
    assert (classes == data.split("train").column("Young")).all() and (classes >= 0).all()


def test_a_view_of_features_keeps_their_numbers():
    rows = FeatureRows(np.array([[0.25], [-1.5]], np.float32), np.arange(2))
    view = ImageView([(rows, np.array([1, 0]))])
    out = view.read(np.arange(2), np.empty((2, 1), np.float32))
    assert out[:, 0].tolist() == [-1.5, 0.25]


def test_a_view_reads_the_images_of_its_sources():
    first, second = MemoryImages(4), MemoryImages(9)
    view = ImageView([(first, np.array([3, 1])), (second, np.array([0, 8]))])
    out = view.read(np.array([3, 0, 1]), np.empty((3, *first.shape), np.uint8))
    expected = [second.images[8], first.images[3], first.images[1]]
    assert np.array_equal(out, np.stack(expected)) and view.sizes.shape == (4, 2)
    assert view.fingerprint != ImageView([(first, np.array([3, 1]))]).fingerprint


def test_batches_are_half_labelled_and_functions_of_seed_and_epoch():
    plan = FoldSchedule(np.arange(5), np.arange(5, 25), steps=4)
    batches = plan.batches(0, 1, 3)
    assert len(batches) == 4 and all(len(batch) == 6 for batch in batches)
    assert all((batch[:3] < 5).all() and (batch[3:] >= 5).all() for batch in batches)
    assert sorted(np.concatenate([batch[:3] for batch in batches])[:5]) == list(range(5))
    assert all(map(np.array_equal, batches, plan.batches(0, 1, 3)))
    assert not np.array_equal(batches[0], plan.batches(0, 2, 3)[0])


class HalfLabelled(SsaFold):
    """A network that knows the labels of the first half of train."""

    def __init__(self, options, tables, *arguments):
        tables.labels[10:], tables.groups[:], tables.all_labelled = -1, tables.groups % 2, False
        super().__init__(options, tables, *arguments)


def trainer(folder, hook=lambda trainer: None, options=OPTIONS):
    changes = {"method": HalfLabelled, "method_options": options, "batch_size": 4}
    return make_trainer(folder, hook=hook, **changes)


def test_a_run_that_is_stopped_in_mid_epoch_resumes_bit_for_bit(tmp_path):
    whole = trainer(tmp_path / "whole")
    whole.train()
    assert not (whole.method.thresholds == 0.6).all()
    stopped = trainer(tmp_path / "parts", at(4, lambda: setattr(stopped, "stop", lambda: 15)))
    with pytest.raises(Stopped):
        stopped.train()
    assert stopped.step == 5
    trainer(tmp_path / "parts").train()
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "parts")


def test_confident_predictions_count_as_labels(tmp_path):
    run = trainer(tmp_path)
    method, tables = run.method, run.method.tables
    logits = torch.tensor([[3.0, 0.1], [-2.0, 0.0], [4.0, 0.2], [-0.1, 5.0]])
    rows = torch.tensor([0, 1, 12, 13])
    arguments = (lambda _: logits, run.objective, torch.zeros(4, 1), rows)
    total, _ = method.loss(*arguments)
    labelled, _ = run.objective(tables.batch(logits[:2], rows[:2]))
    trusted = torch.tensor([[1, -1], [-1, 1]])  # probabilities 0.98, 0.55, 0.52, 0.99
    batch = replace(tables.batch(logits[2:], rows[2:]), labels=trusted)
    torch.testing.assert_close(total, labelled + run.objective(batch)[0])
    method.thresholds.fill_(torch.inf)  # nothing passes: the labelled rows alone
    torch.testing.assert_close(method.loss(*arguments)[0], labelled)


def test_thresholds_use_the_class_of_a_row(tmp_path):
    method = trainer(tmp_path).method
    logits, classes = torch.tensor([[3.0, -1.0]]), torch.tensor([[1, -1]])
    predicted, confidence, groups = method.pseudo_groups(logits, classes)
    assert predicted.tolist() == [[1, 0]] and groups.tolist() == [[3, -1]]
    assert confidence[0].tolist() == pytest.approx([0.952574, 0.731059], abs=1e-6)


def test_pseudo_groups_are_numbered_as_true_ones(monkeypatch):
    from src.methods import ssa

    data = SmallData()
    groupings = parse_groupings(["Young:Male", "Smiling:Male"])
    node = SimpleNamespace(run=SimpleNamespace(logits=lambda *_: None), epoch=lambda: 1)
    males = np.array([-1.0, 2, 3, -4, 5, 6])
    monkeypatch.setattr(ssa, "load_logits", lambda _: SimpleNamespace(of_task=lambda _: males))
    stages = SimpleNamespace(dataset=data, seed=0, groupings=groupings)
    found = ssa.pseudo_groups(stages, [node, node])
    assert found.environments["train"].tolist() == [[v, v] for v in (0, 1, 1, 0, 1, 1)]
    assert found.sizes == (2, 2) and set(found.environments) == {"train"}
