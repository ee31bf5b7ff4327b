"""Contrastive units for CnC: anchors, positives, negatives and easy negatives."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from src.io import UserError
from src.sampling.draws import CONTRAST_STREAM
from src.sampling.epochs import FixedSchedule


class _Lists(NamedTuple):
    """Rows that units of a class are drawn from."""

    label: int  # the class
    anchors: np.ndarray  # of the class, predicted as it
    positives: np.ndarray  # of the class, predicted as another one
    negatives: np.ndarray  # of another class, predicted as this one
    others: np.ndarray  # of any other class


class ContrastSchedule(FixedSchedule):
    """Draws the contrastive units of each epoch.

    A batch holds `units` units, and a unit `size` rows of each list: anchors, positives, negatives,
    and easy negatives, which are the correct rows of the class that the first positive was taken
    for. A list that is empty is replaced by all rows of its class, or of the other classes; of a
    list that is shorter than `size` rows are drawn with replacement. With several tasks the steps
    take turns. The classes of the units are drawn in proportion to their anchors.

    Args:
        labels: (N, T), -1 = unknown.
        predicted: (N, T), classes that stage 1 predicts; -1 where the label is unknown.
        tasks: names of the tasks.
        size: rows of each list in a unit.
        units: of a step.
        share: of the anchors that an epoch uses.
        most: units of an epoch at most; None for no limit.
    """

    def __init__(
        self,
        labels: np.ndarray,
        predicted: np.ndarray,
        tasks: Sequence[str],
        size: int,
        units: int,
        share: float,
        most: int | None,
    ):
        self.predicted, self.size, self.units = predicted, size, units
        notes: list[str] = []
        self.correct = [
            {k: np.flatnonzero((y == k) & (p == k)) for k in np.unique(y[y >= 0])}
            for y, p in zip(labels.T, predicted.T)
        ]
        self.lists = [_lists(y, p, task, notes) for y, p, task in zip(labels.T, predicted.T, tasks)]
        self.notes = tuple(notes)
        anchors = max(sum(len(own.anchors) for own in lists) for lists in self.lists)
        wanted = round(share * anchors)
        self.steps_per_epoch = max(1, min(wanted, wanted if most is None else most) // units)
        self.known = np.flatnonzero((labels >= 0).any(axis=1))

    def batches(self, seed: int, epoch: int, batch_size: int) -> list[np.ndarray]:
        rng = np.random.default_rng([seed, CONTRAST_STREAM, epoch])
        first = (epoch - 1) * self.steps_per_epoch
        steps = range(first, first + self.steps_per_epoch)
        return [self._batch(rng, step % len(self.lists)) for step in steps]

    def _batch(self, rng: np.random.Generator, task: int) -> np.ndarray:
        lists = self.lists[task]
        sizes = np.array([len(own.anchors) for own in lists])
        chosen = rng.choice(len(lists), self.units, p=sizes / sizes.sum())
        return np.concatenate([self._unit(rng, task, lists[number]) for number in chosen])

    def _unit(self, rng: np.random.Generator, task: int, lists: _Lists) -> np.ndarray:
        def draw(rows: np.ndarray) -> np.ndarray:
            return rng.choice(rows, self.size, replace=len(rows) < self.size)

        positives = draw(lists.positives)
        taken_for = self.predicted[positives[0], task]
        easy = self.correct[task].get(taken_for, []) if taken_for != lists.label else []
        easy = draw(easy if len(easy) else lists.others)
        return np.concatenate([draw(lists.anchors), positives, draw(lists.negatives), easy])

    def steps(self, batch_size: int) -> int:
        return self.steps_per_epoch

    def rows(self, batch_size: int) -> int:
        return self.units * 4 * self.size

    def positions(self) -> np.ndarray:
        return self.known


def _lists(labels: np.ndarray, predicted: np.ndarray, task: str, notes: list[str]) -> list[_Lists]:
    """Return the lists of each class of a task, and note those that are replaced."""
    classes = np.unique(labels[labels >= 0])
    if len(classes) < 2:
        raise UserError(f"cnc: {task} has one class only on train; it needs examples of two")
    lists = []
    for k in classes:
        own, others = np.flatnonzero(labels == k), np.flatnonzero((labels >= 0) & (labels != k))
        anchors = own[predicted[own] == k]
        positives, negatives = own[predicted[own] != k], others[predicted[others] == k]
        found = {"anchors": anchors, "positives": positives, "negatives": negatives}
        for name in [name for name, rows in found.items() if not len(rows)]:
            notes.append(
                f"warning: cnc: stage 1 leaves no {name} for class {k} of {task}; all rows of "
                f"{'other classes' if name == 'negatives' else 'the class'} are used"
            )
            found[name] = others if name == "negatives" else own
        lists.append(_Lists(k, **found, others=others))
    return lists
