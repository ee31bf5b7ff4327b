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
from src.data.text_files import shortened
from src.io import UserError
from src.sampling.draws import SUBSET_STREAM, draw_members, train_share
from src.sampling.epochs import IndexPlan

WARN_SHARE = 0.01  # fewer examples than this share of the split are too few to learn from


def stack_labels(rows: Table, groupings: Sequence[Grouping]) -> np.ndarray:
    """Return the labels (N, T) int64 of a split, -1 = unknown."""
    return np.stack([grouping.labels(rows) for grouping in groupings], axis=1)


def stack_groups(rows: Table, groupings: Sequence[Grouping]) -> np.ndarray:
    """Return the group ids (N, T) int64 of a split, -1 = unknown, or that groups overlap."""
    none = np.full(len(rows), -1)
    return np.stack([none if g.overlapping else g.group_ids(rows) for g in groupings], axis=1)


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
        UserError: groups are needed but switched off, or tasks cannot be balanced together.
    """
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


def subsample(levels: Levels, seed: int) -> IndexPlan:
    """Return SUBY or SUBG: a largest random subset with equally large levels in every task."""
    from src.sampling.balance import balance_subset, find_cells  # loads SciPy

    rows, notes = _known_rows(levels, np.arange(len(levels.values)))
    patterns, counts, cell = find_cells(levels.values[rows])
    kept = balance_subset(patterns, counts, levels.method, levels.tasks)  # (C,)
    drawn = draw_members(cell, counts, kept, np.random.default_rng([seed, SUBSET_STREAM]))
    size = _size_notes(f"{levels.method} keeps", len(drawn), len(levels.values))
    return IndexPlan(rows[drawn], None, (*notes, *_empty_notes(levels, patterns), *size))


def repeat(plan: IndexPlan, multiplicities: np.ndarray) -> IndexPlan:
    """Return JTT's plan: each position as often as `multiplicities` (N,) of its example."""
    times = multiplicities[plan.positions]
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
        *_never_drawn_notes(levels, counts, weights),
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


def _levels(
    method: str, labels: np.ndarray, groups: np.ndarray | None, groupings: Sequence[Grouping]
) -> Levels:
    """The classes (..y) or groups (..g) that a method balances.

    Tasks are put in the order of their names, so that their order in a config changes nothing.
    """
    if method.endswith("y"):
        values, levels = labels, [grouping.without_attributes() for grouping in groupings]
    elif groups is None:
        raise UserError(f"{method} needs group labels: set exp.dataset.subgroup_labels=true")
    else:
        values, levels = groups, groupings
    order = sorted(range(len(groupings)), key=lambda task: groupings[task].name)
    tasks = tuple(levels[task].name for task in order)
    names = tuple(tuple(levels[task].group_names) for task in order)
    return Levels(method, values[:, order].astype(np.int64), tasks, names)


def _size_notes(claim: str, size: float, whole: int) -> list[str]:
    text = f"{claim} {size:,.0f} of {whole:,} examples ({100 * size / whole:.2f} %)"
    if size >= WARN_SHARE * whole:
        return [text]
    return [text, f"warning: {text}, under 1 %: balance fewer tasks, or their classes only"]


def _never_drawn_notes(levels: Levels, counts: np.ndarray, weights: np.ndarray) -> list[str]:
    lost = counts[weights == 0].sum()
    claim = f"warning: {levels.method} never draws {lost:,} of {counts.sum():,} examples"
    return [f"{claim}, as no balanced weighting can"] * bool(lost)


def _empty_notes(levels: Levels, patterns: np.ndarray) -> list[str]:
    """Name the levels that occur in none of the cells' patterns (C, T)."""
    empty = [
        names[level]
        for names, values in zip(levels.names, patterns.T, strict=True)
        for level in np.flatnonzero(np.bincount(values, minlength=len(names)) == 0)
    ]
    method = levels.method
    return [f"warning: {method} leaves out what has no examples: {shortened(empty)}"] * bool(empty)
