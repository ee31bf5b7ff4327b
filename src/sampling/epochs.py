"""Epochs: the order of the examples, and its batches; functions of (seed, epoch)."""

from dataclasses import dataclass

import numpy as np

from src.sampling.draws import EPOCH_STREAM


@dataclass(frozen=True)
class IndexPlan:
    """The examples an epoch is made of.

    Attributes:
        positions: (P,) int64 rows of the split, repeats allowed.
        weights: (P,) float64 of any scale, or None. Without weights an epoch is one shuffled pass
            over the positions; with weights it is P draws with replacement.
        notes: lines to print at the start of a run; warnings begin with `warning:`.
    """

    positions: np.ndarray
    weights: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def steps(self, batch_size: int) -> int:
        """Return the number of batches of an epoch."""
        return len(_batch_starts(len(self.positions), batch_size))


@dataclass(frozen=True)
class Schedule:
    """Which plan each epoch follows.

    Attributes:
        plans: (first epoch, plan) in ascending order; the first begins with epoch 1.
    """

    plans: tuple[tuple[int, IndexPlan], ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines to print at the start of a run."""
        return self.plans[0][1].notes

    def plan(self, epoch: int) -> IndexPlan:
        """Return the plan of an epoch (from 1)."""
        return [plan for first, plan in self.plans if first <= epoch][-1]

    def batches(self, seed: int, epoch: int, batch_size: int) -> list[np.ndarray]:
        """Return the positions (B,) of each batch of an epoch, in order."""
        return split_batches(epoch_positions(self.plan(epoch), seed, epoch), batch_size)

    def total_steps(self, epochs: int, batch_size: int) -> int:
        """Return the number of batches of the first `epochs` epochs."""
        ends = [first for first, _ in self.plans[1:]] + [epochs + 1]
        return sum(
            max(min(end, epochs + 1) - first, 0) * plan.steps(batch_size)
            for (first, plan), end in zip(self.plans, ends)
        )

    def epoch_of(self, step: int, batch_size: int) -> int:
        """Return the epoch (from 1) that a step (from 1) belongs to."""
        for (first, plan), (end, _) in zip(self.plans, [*self.plans[1:], (None, None)]):
            epochs = -(-step // plan.steps(batch_size))
            if end is None or epochs <= end - first:
                return first + epochs - 1
            step -= (end - first) * plan.steps(batch_size)
        raise AssertionError("the last plan has no end")

    def rows(self, batch_size: int) -> int:
        """Return the number of rows of a full batch."""
        return batch_size

    def positions(self) -> np.ndarray:
        """Return all positions that some epoch may see, ascending, each once."""
        return np.unique(np.concatenate([plan.positions for _, plan in self.plans]))


class FixedSchedule:
    """Epochs with the same number of steps, whose batches a method draws; used like `Schedule`.

    A method defines `steps`, `batches`, `rows` and `positions`; see `IndexPlan` and `Schedule`.
    """

    notes: tuple[str, ...] = ()

    def total_steps(self, epochs: int, batch_size: int) -> int:
        """Return the number of batches of the first `epochs` epochs."""
        return epochs * self.steps(batch_size)

    def epoch_of(self, step: int, batch_size: int) -> int:
        """Return the epoch (from 1) that a step (from 1) belongs to."""
        return -(-step // self.steps(batch_size))


def epoch_positions(plan: IndexPlan, seed: int, epoch: int) -> np.ndarray:
    """Return the positions (P,) int64 of one epoch in order: a function of (seed, epoch)."""
    rng = np.random.default_rng([seed, EPOCH_STREAM, epoch])
    if plan.weights is None:
        return rng.permutation(plan.positions)
    # Example i owns [ends[i-1], ends[i]): an empty interval if its weight is 0.
    ends = np.cumsum(plan.weights)
    points = np.sort(rng.random(len(ends))) * ends[-1]  # sorted, as searching is faster then
    draws = rng.permutation(np.searchsorted(ends, points, side="right"))
    last = np.flatnonzero(plan.weights)[-1]  # a product may round up to ends[-1] itself
    return plan.positions[np.minimum(draws, last)]


def split_batches(positions: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut an epoch into batches, including the last partial one.

    A single leftover example joins the batch before it: batch norm cannot train on one.
    """
    starts = _batch_starts(len(positions), batch_size)
    return [positions[a:b] for a, b in zip(starts, [*starts[1:], len(positions)])]


def _batch_starts(length: int, batch_size: int) -> list[int]:
    starts = list(range(0, length, batch_size))
    if batch_size > 1 and len(starts) > 1 and length - starts[-1] == 1:
        starts.pop()
    return starts
