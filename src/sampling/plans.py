"""Index plans: which examples an epoch sees, with optional weights.

ERM, RWY, RWG, SUBY and SUBG follow Idrissi et al. 2022 ("Simple data balancing achieves competitive
worst-group-accuracy"), JTT follows Liu et al. 2021. For several tasks
`src/sampling/balance.py` finds the weights and subsets. Orders and draws are functions of
(seed, epoch): there is no state to save.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from src.data.groupings import Grouping
from src.data.table import Table
from src.io import UserError

SAMPLERS = ("rwy", "rwg")
SUBSAMPLE_TYPES = ("suby", "subg")
WARN_SHARE = 0.01  # fewer examples than this share of the split are too few to learn from
LONGEST_EPOCH = 2**31  # examples; their positions alone take 16 GiB
SHOWN = 20  # names listed in one note
# Keep the draws of one seed apart.
SUBSET_STREAM, EPOCH_STREAM, DROPOUT_STREAM, HALVES_STREAM = 1, 2, 3, 4
MIX_STREAM, PAIR_STREAM, EXPAND_STREAM, SHARE_STREAM = 5, 6, 7, 8
TASK_STREAM, KNOWN_STREAM, CONTRAST_STREAM, FOLD_STREAM = 9, 10, 11, 12


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


def stack_labels(rows: Table, groupings: Sequence[Grouping]) -> np.ndarray:
    """Return the labels (N, T) int64 of a split, -1 = unknown."""
    return np.stack([grouping.labels(rows) for grouping in groupings], axis=1)


def stack_groups(rows: Table, groupings: Sequence[Grouping]) -> np.ndarray:
    """Return the group ids (N, T) int64 of a split, -1 = unknown."""
    return np.stack([grouping.group_ids(rows) for grouping in groupings], axis=1)


@dataclass(frozen=True)
class Levels:
    """The levels that a method balances: classes (RWY, SUBY) or groups (RWG, SUBG).

    Attributes:
        method: `rwy`, `rwg`, `suby` or `subg`.
        values: (N, T) int64, -1 = unknown.
        tasks: names of the T tasks or groupings, for messages.
        names: names of the levels of each task.
    """

    method: str
    values: np.ndarray
    tasks: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]


def make_plan(
    labels: np.ndarray,
    groups: np.ndarray | None,
    groupings: Sequence[Grouping],
    *,
    sampler: str | None = None,
    subsample_type: str | None = None,
    multiplicities: np.ndarray | None = None,
    fraction: float = 1.0,
    seed: int,
) -> IndexPlan:
    """Return the index plan of a method; ERM with all defaults.

    First a subset is taken, then its examples are repeated, then weighted. So weights always
    describe the positions that are drawn from.

    Args:
        labels: (N, T) labels of the split, -1 = unknown.
        groups: (N, T) int64 group ids, -1 = unknown; None if group labels are switched off.
        groupings: the T groupings of the columns.
        sampler: None, `rwy` or `rwg`.
        subsample_type: None, `suby` or `subg`.
        multiplicities: (N,) int64, how often each example occurs (JTT); None for once.
        fraction: share of the examples that is used at all; not together with `subsample_type`.
        seed: selects the examples of a subset.

    Raises:
        UserError: an unknown method, groups needed but switched off, or tasks that cannot be
            balanced together.
    """
    if sampler not in (None, *SAMPLERS):
        raise UserError(f"exp.dataloader.sampler={sampler!r}: use null, rwy or rwg")
    if subsample_type not in (None, *SUBSAMPLE_TYPES):
        raise UserError(f"exp.dataset.subsample_type={subsample_type!r}: use null, suby or subg")
    plan = erm(len(labels))
    if fraction < 1:
        plan = IndexPlan(train_share(len(labels), fraction, seed))
    if subsample_type:
        plan = subsample(_levels(subsample_type, labels, groups, groupings), seed)
    if multiplicities is not None:
        plan = repeat(plan, multiplicities)
    if sampler:
        plan = reweight(plan, _levels(sampler, labels, groups, groupings))
    return plan


def erm(num_examples: int) -> IndexPlan:
    """Return the plan that sees every example once."""
    return IndexPlan(np.arange(num_examples))


def train_share(num_examples: int, fraction: float, seed: int) -> np.ndarray:
    """Return the positions of a random share of the train split, ascending; all for 1."""
    shuffled = np.random.default_rng([seed, SHARE_STREAM]).permutation(num_examples)
    return np.sort(shuffled[: round(fraction * num_examples)])


def subsample(levels: Levels, seed: int) -> IndexPlan:
    """Return SUBY or SUBG: a largest random subset with equally large levels in every task."""
    from src.sampling.balance import balance_subset, find_cells  # loads SciPy

    rows, notes = _known_rows(levels, np.arange(len(levels.values)))
    patterns, counts, cell = find_cells(levels.values[rows])
    kept = balance_subset(patterns, counts, levels.method, levels.tasks)  # (C,)
    drawn = _draw_members(cell, counts, kept, np.random.default_rng([seed, SUBSET_STREAM]))
    size = _size_notes(f"{levels.method} keeps", len(drawn), len(levels.values))
    return IndexPlan(rows[drawn], None, (*notes, *_empty_notes(levels, patterns), *size))


def repeat(plan: IndexPlan, multiplicities: np.ndarray) -> IndexPlan:
    """Return JTT's plan: each position as often as `multiplicities` (N,) of its example."""
    times = multiplicities[plan.positions]
    if times.sum() > LONGEST_EPOCH:
        raise UserError(
            f"jtt: an epoch of {times.sum():,} examples, at most {LONGEST_EPOCH:,} are possible: "
            "lower exp.dataloader.lambda_up"
        )
    positions = np.repeat(plan.positions, times)
    note = f"jtt: {len(plan.positions):,} examples, {len(positions):,} with repeats"
    return IndexPlan(positions, None, (*plan.notes, note))


def reweight(plan: IndexPlan, levels: Levels) -> IndexPlan:
    """Return RWY or RWG: weights that make the levels of every task equally likely.

    For one task the weight is 1/n(level). `levels` are those of the whole split.
    """
    from src.sampling.balance import balance_weights, effective_sample_size, find_cells

    positions, unknown = _known_rows(levels, plan.positions)
    patterns, counts, cell = find_cells(levels.values[positions])
    weights = balance_weights(patterns, counts, levels.method, levels.tasks)  # (C,)
    weight = weights[cell]  # (P,)
    per_example = np.bincount(positions, weight)  # repeats of an example count as one
    size = effective_sample_size(per_example)
    whole = np.count_nonzero(np.bincount(positions))
    notes = [
        *plan.notes,
        *unknown,
        *_empty_notes(levels, patterns),
        *_never_drawn_notes(levels, patterns, counts, weights),
        *_size_notes(f"{levels.method} has an effective sample size of", size, whole),
    ]
    return IndexPlan(positions, weight, tuple(notes))


def _known_rows(levels: Levels, positions: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Leave out positions with an unknown level in some task, and note how many."""
    known = (levels.values[positions] >= 0).all(axis=1)
    unknown = len(known) - np.count_nonzero(known)
    kind = "class" if levels.method.endswith("y") else "group"
    notes = (
        [f"{levels.method} leaves out {unknown:,} examples of unknown {kind}"] if unknown else []
    )
    if not known.any():
        raise UserError(f"{levels.method}: every example has an unknown {kind}")
    return positions[known], notes


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


def epoch_positions(plan: IndexPlan, seed: int, epoch: int) -> np.ndarray:
    """Return the positions (P,) int64 of one epoch in order: a function of (seed, epoch)."""
    rng = np.random.default_rng([seed, EPOCH_STREAM, epoch])
    if plan.weights is None:
        return rng.permutation(plan.positions)
    # Example i owns [ends[i-1], ends[i]): an empty interval if its weight is 0.
    ends = np.cumsum(plan.weights)
    points = (
        np.sort(rng.random(len(ends))) * ends[-1]
    )  # sorted: a search that is kind to the caches
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


def stratified_halves(groups: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split the rows of a split in two halves, each with half of every joint group.

    The halves of validation are `val_fit` (to fit on) and `val_select` (to select with). Of a group
    of odd size, `val_fit` gets one more.

    Args:
        groups: (N, T) int64.

    Returns:
        Positions of both halves, ascending.
    """
    _, cell, counts = np.unique(groups, axis=0, return_inverse=True, return_counts=True)
    rng = np.random.default_rng([seed, HALVES_STREAM])
    fit = _draw_members(cell.ravel(), counts, (counts + 1) // 2, rng)  # NumPy 2.0 adds an axis
    return fit, np.setdiff1d(np.arange(len(groups)), fit)


def known_share(groups: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return groups (N, T) with -1 for all rows but a random share of each joint group.

    Of each joint group the share is rounded up, so that no group is lost; 0 hides all.
    """
    _, cell, counts = np.unique(groups, axis=0, return_inverse=True, return_counts=True)
    rng = np.random.default_rng([seed, KNOWN_STREAM])
    known = _draw_members(cell.ravel(), counts, np.ceil(share * counts).astype(np.int64), rng)
    hidden = np.full_like(groups, -1)
    hidden[known] = groups[known]
    return hidden


def _levels(
    method: str, labels: np.ndarray, groups: np.ndarray | None, groupings: Sequence[Grouping]
) -> Levels:
    """The classes (..y) or groups (..g) that a method balances.

    Tasks are put in the order of their names, so that their order in a config changes nothing.
    """
    order = sorted(range(len(groupings)), key=lambda task: groupings[task].name)
    if method.endswith("y"):
        tasks = tuple(groupings[t].task for t in order)
        names = tuple(tuple(groupings[t].without_attributes().group_names) for t in order)
        return Levels(method, labels[:, order].astype(np.int64), tasks, names)
    if groups is None:
        raise UserError(f"{method} needs group labels: set exp.dataset.subgroup_labels=true")
    tasks = tuple(groupings[t].name for t in order)
    names = tuple(tuple(groupings[t].group_names) for t in order)
    return Levels(method, groups[:, order], tasks, names)


def _draw_members(
    cell: np.ndarray, counts: np.ndarray, kept: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw `kept` (C,) of the `counts` (C,) members of each cell; positions in ascending order."""
    shuffled = rng.permutation(len(cell))
    narrow = cell.astype(np.min_scalar_type(len(counts)))  # a radix sort, where 16 bits are enough
    by_cell = shuffled[np.argsort(narrow[shuffled], kind="stable")]
    rank = np.arange(len(cell)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(by_cell[rank < np.repeat(kept, counts)])


def _size_notes(claim: str, size: float, whole: int) -> list[str]:
    text = f"{claim} {size:,.0f} of {whole:,} examples ({100 * size / whole:.2f} %)"
    if size >= WARN_SHARE * whole:
        return [text]
    return [text, f"warning: {text}, under 1 %: balance fewer tasks, or their classes only"]


def _empty_notes(levels: Levels, patterns: np.ndarray) -> list[str]:
    """Of levels that occur in none of the cells' patterns (C, T)."""
    empty = [
        names[level]
        for names, values in zip(levels.names, patterns.T, strict=True)
        for level in np.flatnonzero(np.bincount(values, minlength=len(names)) == 0)
    ]
    return [_listing(f"{levels.method} leaves out what has no examples", empty)] if empty else []


def _never_drawn_notes(
    levels: Levels, patterns: np.ndarray, counts: np.ndarray, weights: np.ndarray
) -> list[str]:
    cells = np.flatnonzero(weights == 0)
    if not len(cells):
        return []
    lines = []
    for cell in cells[np.argsort(-counts[cells], kind="stable")]:
        parts = " ".join(names[level] for names, level in zip(levels.names, patterns[cell]))
        name = " ".join(dict.fromkeys(parts.split()))  # a shared attribute is named once
        lines.append(f"{name} ({counts[cell]:,} examples)")
    drawn = f"{counts[cells].sum():,} of {counts.sum():,} examples"
    return [_listing(f"{levels.method} never draws {drawn}, as no balanced weighting can", lines)]


def _listing(problem: str, lines: Sequence[str]) -> str:
    more = len(lines) - SHOWN
    shown = [*lines[:SHOWN], *([f"and {more:,} more"] if more > 0 else [])]
    return "\n    ".join([f"warning: {problem}:", *shown])
