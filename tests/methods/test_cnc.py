"""CnC: the loss by hand, the units' rows, parts of a batch, resume in mid-epoch."""

import math

import numpy as np
import pytest
import torch

from src.io import UserError
from src.methods.cnc import CnC, contrast, contrastive_loss
from src.methods.options import CncOptions
from src.sampling.contrast import ContrastSchedule
from src.training.loop import Stopped
from tests.tiny_training import at, make_trainer, outcome

LABELS = np.array([0] * 30 + [1] * 20)[:, None]
PREDICTED = np.array([0] * 24 + [1] * 6 + [0] * 8 + [1] * 12)[:, None]


def schedule(labels=LABELS, predicted=PREDICTED, tasks=("t",), most=None) -> ContrastSchedule:
    return ContrastSchedule(labels, predicted, tasks, 4, 3, 0.5, most)


def lists_of_units(batch: np.ndarray) -> list[list[np.ndarray]]:
    """Split a batch into units of four lists."""
    return [np.split(unit, 4) for unit in np.split(batch, len(batch) // 16)]


def test_the_contrast_by_hand():
    anchor = torch.tensor([1.0, 0])
    positives = torch.tensor([[1.0, 0], [0, 1]])  # cosines 1 and 0
    negatives = torch.tensor([[0.6, 0.8]])  # cosine 0.6
    below = math.exp(2) + 1 + math.exp(1.2)  # temperature 0.5
    expected = -(math.log(math.exp(2) / below) + math.log(1 / below)) / 2
    assert float(contrast(anchor, positives, negatives, 0.5)) == pytest.approx(expected)


def test_both_sides_of_a_unit_by_hand():
    # One row of each list; lengths do not matter.
    unit = torch.tensor([[2.0, 0], [0, 3.0], [5.0, 0], [0, -1.0]])
    one = -math.log(1 / (1 + math.e))  # anchor: positive 0, negative 1
    other = -math.log(1 / (1 + math.exp(-1)))  # positive: anchor 0, easy negative -1
    assert float(contrastive_loss(unit, 1.0)) == pytest.approx(one + other)


def test_a_unit_contrasts_what_stage_1_confuses():
    plan = schedule()
    assert plan.steps_per_epoch == 6 and plan.notes == ()  # half of 36 correct rows, 3 a step
    for batch in plan.batches(seed=0, epoch=1, batch_size=8):
        for anchors, positives, negatives, easy in lists_of_units(batch):
            k = LABELS[anchors[0], 0]
            assert (LABELS[anchors] == k).all() and (PREDICTED[anchors] == k).all()
            assert (LABELS[positives] == k).all() and (PREDICTED[positives] != k).all()
            assert (LABELS[negatives] != k).all() and (PREDICTED[negatives] == k).all()
            assert (LABELS[easy] != k).all() and (PREDICTED[easy] != k).all()
            assert len(set(anchors)) == 4


def test_units_are_a_function_of_seed_and_epoch():
    first, again = (schedule().batches(3, 2, 8) for _ in range(2))
    assert all(map(np.array_equal, first, again))
    assert not np.array_equal(first[0], schedule().batches(3, 1, 8)[0])


def test_an_empty_list_is_replaced_with_a_note():
    plan = schedule(predicted=LABELS)  # stage 1 makes no error
    assert len(plan.notes) == 4 and "no positives for class 0 of t" in plan.notes[0]
    for anchors, positives, negatives, easy in lists_of_units(plan.batches(0, 1, 8)[0]):
        k = LABELS[anchors[0], 0]
        assert (LABELS[positives] == k).all()
        assert (LABELS[negatives] != k).all() and (LABELS[easy] != k).all()


def test_the_steps_of_tasks_take_turns_and_leave_out_unknown_labels():
    labels = np.concatenate([LABELS, LABELS[::-1]], 1)
    labels[:5, 1] = -1
    predicted = np.concatenate([PREDICTED, PREDICTED[::-1]], 1)
    plan = schedule(labels, np.where(labels < 0, -1, predicted), ("a", "b"))
    for number, batch in enumerate(plan.batches(0, 1, 8)):
        anchors = lists_of_units(batch)[0][0]
        assert len(set(labels[anchors, number % 2])) == 1
        assert (labels[batch, number % 2] >= 0).all()


def test_easy_negatives_are_of_the_class_that_the_first_positive_was_taken_for():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 3, (90, 1)), rng.integers(0, 3, (90, 1))
    for batch in schedule(labels, predicted).batches(0, 1, 8):
        for anchors, positives, _, easy in lists_of_units(batch):
            taken_for = predicted[positives[0], 0]
            assert taken_for != labels[anchors[0], 0]
            assert (labels[easy] == taken_for).all() and (predicted[easy] == taken_for).all()


def test_units_of_an_epoch_are_limited():
    assert schedule(most=7).steps_per_epoch == 2 and schedule(most=1).steps_per_epoch == 1
    assert schedule(most=7).total_steps(3, 8) == 6 and schedule(most=7).epoch_of(5, 8) == 3


def test_one_class_alone_is_refused():
    with pytest.raises(UserError, match="t has one class only"):
        schedule(labels=LABELS * 0)


OPTIONS = CncOptions(rows=2, units=3, anchor_share=1.0, contrastive_weight=0.5)


def trainer(folder, hook=lambda trainer: None, options=OPTIONS, **changes):
    return make_trainer(folder, method=CnC, method_options=options, hook=hook, **changes)


def test_a_run_that_is_stopped_in_mid_epoch_resumes_bit_for_bit(tmp_path):
    trainer(tmp_path / "whole").train()
    stopped = trainer(tmp_path / "parts", at(1, lambda: setattr(stopped, "stop", lambda: 15)))
    with pytest.raises(Stopped):
        stopped.train()
    assert stopped.step == 2 and stopped.batch != 0
    trainer(tmp_path / "parts").train()
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "parts")


def test_parts_of_a_batch_have_the_gradient_of_their_mean(tmp_path):
    run = trainer(tmp_path)
    run.model.train()
    images = torch.randn(24, 3, 6, 6)
    positions = torch.arange(24) % 20
    losses = [
        run.method.loss(run.compute.network, run.objective, *part)[0]
        for part in zip(images.chunk(3), positions.chunk(3))
    ]
    parameters = list(run.model.parameters())
    expected = torch.autograd.grad(torch.stack(losses).mean(), parameters)
    for group in run.optimizer.param_groups:
        group["lr"] = 0.0
    run.compute(images, positions)
    for parameter, gradient in zip(parameters, expected):
        torch.testing.assert_close(parameter.grad, gradient)


def test_without_contrast_the_loss_is_that_of_the_objective(tmp_path):
    run = trainer(tmp_path, options=CncOptions(rows=2, units=1, contrastive_weight=0.0))
    run.model.train()
    images, positions = torch.randn(8, 3, 6, 6), torch.arange(8)
    total, _ = run.method.loss(run.compute.network, run.objective, images, positions)
    run.model.eval()  # batch norm keeps its first statistics in training, too
    plain, _ = run.objective(run.method.tables.batch(run.model(images), positions))
    torch.testing.assert_close(total, plain)
