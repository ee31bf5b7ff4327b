"""Which examples an epoch sees: every method is an index plan, positions with optional weights.

ERM, RWY, RWG, SUBY and SUBG follow Idrissi et al. 2022 ("Simple data balancing achieves competitive
worst-group-accuracy"), JTT follows Liu et al. 2021. For several tasks
`src/sampling/balance.py` finds the weights and subsets. Orders and draws are functions of
(seed, epoch): there is no state to save.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from src.data.groupings import Grouping
from src.io import UserError

SAMPLERS = ("rwy", "rwg")
SUBSAMPLE_TYPES = ("suby", "subg")
WARN_SHARE = 0.01  # fewer examples than this share of the split are too few to learn from
LONGEST_EPOCH = 2**31  # examples; their positions alone take 16 GiB
SHOWN = 20  # names listed in one note
SUBSET_STREAM, EPOCH_STREAM, DROPOUT_STREAM = 1, 2, 3  # keep the draws of one seed apart


@dataclass(frozen=True)
class IndexPlan:
    """The examples an epoch is made of.

    Attributes:
        positions: (P,) int64 rows of the split, repeats allowed.
        weights: (P,) float64, of any scale, or None. Without weights an epoch is one shuffled pass
            over the positions; with weights it is P draws with replacement.
        notes: lines to print at the start of a run; those that begin with `warning:` are warnings.
    """

    positions: np.ndarray
    weights: np.ndarray | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Levels:
    """What a method balances: the class (RWY, SUBY) or group (RWG, SUBG) of each example.

    Attributes:
        method: `rwy`, `rwg`, `suby` or `subg`.
        values: (N, T) int64.
        tasks: the names of the T tasks or groupings, for messages.
        names: for each task the names of its levels.
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
    seed: int,
) -> IndexPlan:
    """The index plan of a method: ERM with everything at its default.

    A subset is taken first, then its examples are repeated, then weighted: weights always describe
    the positions they are drawn from.

    Args:
        labels: (N, T) uint8, the labels of the split.
        groups: (N, T) int64 group ids, or None where group labels are switched off.
        groupings: the T groupings the columns belong to.
        sampler: None, `rwy` or `rwg`.
        subsample_type: None, `suby` or `subg`.
        multiplicities: (N,) int64, how often each example occurs (JTT), or None for once.
        seed: decides which examples a subset keeps.

    Raises:
        UserError: an unknown method, groups needed but switched off, or tasks that cannot be
            balanced together.
    """
    if sampler not in (None, *SAMPLERS):
        raise UserError(f"exp.dataloader.sampler={sampler!r}: use null, rwy or rwg")
    if subsample_type not in (None, *SUBSAMPLE_TYPES):
        raise UserError(f"exp.dataset.subsample_type={subsample_type!r}: use null, suby or subg")
    plan = erm(len(labels))
    if subsample_type:
        plan = subsample(_levels(subsample_type, labels, groups, groupings), seed)
    if multiplicities is not None:
        plan = repeat(plan, multiplicities)
    if sampler:
        plan = reweight(plan, _levels(sampler, labels, groups, groupings))
    return plan


def erm(num_examples: int) -> IndexPlan:
    """Every example once."""
    return IndexPlan(np.arange(num_examples))


def subsample(levels: Levels, seed: int) -> IndexPlan:
    """SUBY, SUBG: the largest random subset in which every task's levels are equally large."""
    from src.sampling.balance import (  # loads SciPy, which ERM can start without
        balance_subset,
        find_cells,
    )

    patterns, counts, cell = find_cells(levels.values)
    kept = balance_subset(patterns, counts, levels.method, levels.tasks)  # (C,)
    positions = _draw_members(cell, counts, kept, np.random.default_rng([seed, SUBSET_STREAM]))
    size = _size_notes(f"{levels.method} keeps", len(positions), len(levels.values))
    return IndexPlan(positions, None, (*_empty_notes(levels, patterns), *size))


def repeat(plan: IndexPlan, multiplicities: np.ndarray) -> IndexPlan:
    """JTT: each position as often as `multiplicities` (N,) says of its example."""
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
    """RWY, RWG: weights over the plan's positions that make every task's levels equally likely.

    For one task the weight is 1/n(level). `levels` are those of the whole split.
    """
    from src.sampling.balance import balance_weights, effective_sample_size, find_cells

    levels = replace(levels, values=levels.values[plan.positions])  # (P, T)
    patterns, counts, cell = find_cells(levels.values)
    weights = balance_weights(patterns, counts, levels.method, levels.tasks)  # (C,)
    weight = weights[cell]  # (P,)
    examples = np.bincount(plan.positions, weight)  # (N,) the repeats of one are one example
    size, whole = effective_sample_size(examples), np.count_nonzero(np.bincount(plan.positions))
    notes = [
        *plan.notes,
        *_empty_notes(levels, patterns),
        *_never_drawn_notes(levels, patterns, counts, weights),
        *_size_notes(f"{levels.method} has an effective sample size of", size, whole),
    ]
    return IndexPlan(plan.positions, weight, tuple(notes))


def epoch_positions(plan: IndexPlan, seed: int, epoch: int) -> np.ndarray:
    """The positions (P,) int64 of one epoch in order: a function of (seed, epoch) alone."""
    rng = np.random.default_rng([seed, EPOCH_STREAM, epoch])
    if plan.weights is None:
        return rng.permutation(plan.positions)
    ends = np.cumsum(
        plan.weights
    )  # example i owns [ends[i-1], ends[i]): empty where its weight is 0
    at = np.sort(rng.random(len(ends))) * ends[-1]  # a sorted search is far kinder to the caches
    draws = rng.permutation(np.searchsorted(ends, at, side="right"))
    last = np.flatnonzero(plan.weights)[-1]  # a product may round up to ends[-1] itself
    return plan.positions[np.minimum(draws, last)]


def split_batches(positions: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut an epoch into batches, the last partial one included.

    A single leftover example joins the batch before: batch norm cannot train on one.
    """
    starts = list(range(0, len(positions), batch_size))
    if batch_size > 1 and len(starts) > 1 and len(positions) - starts[-1] == 1:
        starts.pop()
    return [positions[a:b] for a, b in zip(starts, [*starts[1:], len(positions)])]


def _levels(
    method: str, labels: np.ndarray, groups: np.ndarray | None, groupings: Sequence[Grouping]
) -> Levels:
    """The classes (..y) or groups (..g) that a method balances.

    Tasks are put in the order of their names, so that their order in a config changes nothing.
    """
    order = sorted(range(len(groupings)), key=lambda task: groupings[task].name)
    if method.endswith("y"):
        tasks = tuple(groupings[t].task for t in order)
        names = tuple((f"{task}=0", f"{task}=1") for task in tasks)
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
