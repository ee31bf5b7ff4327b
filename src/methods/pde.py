"""PDE (Deng et al. 2023, "Progressive Data Expansion"): a balanced subset first, then more."""

import numpy as np

from src.sampling.draws import EXPAND_STREAM
from src.sampling.epochs import IndexPlan, Schedule
from src.sampling.plans import Levels, subsample
from src.training.method import Method


class PDE(Method):
    """Warm up on a subset with equal groups, then expand it step by step.

    After the warm-up, `same_across_class` replaces the subset by one with equal classes within each
    attribute value (CelebA: 2 x 22,880 women and 2 x 1,387 men). Then random unused examples are
    added at every interval, drawn with replacement. For several tasks the warm-up is SUBG's joint
    subset, and classes are balanced within each joint pattern of attribute values.
    """

    def schedule(self, plan: IndexPlan, seed: int) -> Schedule:
        groups = self.tables.groups.cpu().numpy()
        labels = self.tables.labels.cpu().numpy()
        names = tuple(
            tuple(f"g{group}" for group in range(count)) for count in self.tables.num_groups
        )
        warmup = subsample(Levels("subg", groups, tuple(self.tables.tasks), names), seed)
        grown = warmup.positions
        if self.options.expand == "same_across_class":
            values = [
                g // k for g, k in zip(self.tables.num_groups, self.tables.layout.num_classes)
            ]
            values = np.where(groups >= 0, groups % values, -1)
            grown = equal_classes_within(labels, values, self.tables.tasks, seed)
        notes = (*warmup.notes, f"pde expands the subset to {len(grown):,} examples")
        plans = [(1, IndexPlan(warmup.positions, None, notes))]
        epoch, rng = self.options.warmup_epochs + 1, np.random.default_rng([seed, EXPAND_STREAM])
        plans.append((epoch, IndexPlan(grown)))
        for _ in range(MOST_EXPANSIONS if self.options.num_added else 0):
            epoch += self.options.interval
            unused = np.setdiff1d(np.arange(len(labels)), grown)
            if not len(unused):
                break
            grown = np.sort(np.concatenate([grown, rng.choice(unused, self.options.num_added)]))
            plans.append((epoch, IndexPlan(grown)))
        return Schedule(tuple(plans))

    def lr_factor(self, epoch: int) -> float:
        return self.options.lr_factor if epoch > self.options.warmup_epochs else 1.0


MOST_EXPANSIONS = 100  # more epochs than anyone trains


def equal_classes_within(
    labels: np.ndarray, values: np.ndarray, tasks: list[str], seed: int
) -> np.ndarray:
    """Return positions of a subset with equal classes in each joint pattern of attribute values.

    Args:
        labels: (N, T) classes; rows with a -1 (unknown) are left out, here and below.
        values: (N, T) attribute values.
    """
    known = np.flatnonzero(((labels >= 0) & (values >= 0)).all(1))
    _, cell = np.unique(values[known], axis=0, return_inverse=True)
    chosen = []
    for number in range(cell.max(initial=-1) + 1):
        rows = known[cell.ravel() == number]
        own = labels[rows]
        if any(len(np.unique(column)) < len(np.unique(labels[known, task]))
               for task, column in enumerate(own.T)):  # fmt: skip
            continue  # a class is missing here
        names = tuple(tuple(f"{task}={k}" for k in range(own.max() + 1)) for task in tasks)
        subset = subsample(Levels("suby", own, tuple(tasks), names), seed + number)
        chosen.append(rows[subset.positions])
    return np.sort(np.concatenate(chosen)) if chosen else np.arange(0)
