"""Batches of pairs for LISA: anchors from every group equally often, each with a partner."""

from collections.abc import Sequence

import numpy as np

from src.io import UserError
from src.sampling.draws import PAIR_STREAM
from src.sampling.epochs import FixedSchedule


class PairSchedule(FixedSchedule):
    """Draws the pairs of each epoch.

    A batch holds B anchors, then their B partners, with B a multiple of the number of groups. In a
    step that mixes one label, the partner has the same class and another attribute value; else the
    same attribute value and another class. With several tasks the steps take turns: the pairs of a
    step are those of one task. As in the authors' code, an epoch ends with the smallest group.

    Args:
        groups: (N, T) group ids, -1 = unknown.
        num_values: attribute values of each task.
        num_groups: groups of each task.
        same_label: share of the steps that mix one label.
    """

    def __init__(
        self,
        groups: np.ndarray,
        num_values: Sequence[int],
        num_groups: Sequence[int],
        same_label: float,
    ):
        self.same_label, self.num_values = same_label, num_values
        self.members = [
            [np.flatnonzero(groups[:, task] == group) for group in range(count)]
            for task, count in enumerate(num_groups)
        ]

    def _partner_groups(self, task: int, group: int) -> tuple[list[int], list[int]]:
        """Return the groups of the same class, and those of the same attribute value."""
        values, members = self.num_values[task], self.members[task]
        label, value = divmod(group, values)
        others = [g for g in range(len(members)) if g != group and len(members[g])]
        same_class = [g for g in others if g // values == label]
        same_value = [g for g in others if g % values == value]
        return same_class, same_value

    def _per_group(self, task: int, batch_size: int) -> int:
        present = sum(len(rows) > 0 for rows in self.members[task])
        if batch_size < present:
            raise UserError(
                f"lisa needs one example of each group in a batch: set "
                f"exp.dataloader.batch_size to at least {present} (now {batch_size})"
            )
        return batch_size // present

    def steps(self, batch_size: int) -> int:
        smallest = [min(len(rows) for rows in members if len(rows)) for members in self.members]
        return max(1, min(n // self._per_group(t, batch_size) for t, n in enumerate(smallest)))

    def batches(self, seed: int, epoch: int, batch_size: int) -> list[np.ndarray]:
        rng = np.random.default_rng([seed, PAIR_STREAM, epoch])
        count = self.steps(batch_size)
        steps = range((epoch - 1) * count, epoch * count)
        return [self._batch(rng, step % len(self.members), batch_size) for step in steps]

    def _batch(self, rng: np.random.Generator, task: int, batch_size: int) -> np.ndarray:
        count, kind = self._per_group(task, batch_size), int(rng.random() >= self.same_label)
        anchors, partners = [], []
        for group, rows in enumerate(self.members[task]):
            if not len(rows):
                continue
            anchors.append(rng.choice(rows, count))
            # A group without such a partner is mixed with itself.
            groups = self._partner_groups(task, group)[kind] or [group]
            chosen = rng.choice(groups, count)
            partners.append(np.array([rng.choice(self.members[task][g]) for g in chosen]))
        return np.concatenate([*anchors, *partners])

    def rows(self, batch_size: int) -> int:
        return max(
            2 * self._per_group(task, batch_size) * sum(len(rows) > 0 for rows in members)
            for task, members in enumerate(self.members)
        )

    def positions(self) -> np.ndarray:
        rows = [rows for members in self.members for rows in members]
        return np.unique(np.concatenate(rows))
