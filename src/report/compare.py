"""Compare networks of several tasks with networks of one task, on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from src.evaluation.intervals import paired_difference
from src.evaluation.resampled import Right
from src.report.rows import SAME_FOR_ONE_TASK, Row, own_rule, task_key


@dataclass(frozen=True)
class Answers:
    """Predictions of the networks of one setting, each at one epoch, on one grouping.

    Rules that select the same epochs share these, and their rows share the figures.

    Attributes:
        right: for each group (S, N_g), which predictions are right.
        data: identity of the images.
        figures: see `intervals.over_seeds`.
    """

    right: Right
    data: str
    figures: dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """A row of the report, its predictions, and what must be equal for a comparison."""

    row: Row
    answers: Answers
    comparable: dict[str, Any]


def interval_kind(seeds: int) -> str:
    return "seeds and images" if seeds > 1 else "test-set variation only"


def compare(
    together: Sequence[Measured], alone: dict[tuple, list[Measured]]
) -> list[dict[str, Any]]:
    """Compare rows of several tasks with the same tasks alone, on the same images.

    Rows without a counterpart are left out. `matched` is true if only the other tasks differ;
    else `differs` maps each setting that differs to its values [together, alone].

    Args:
        alone: rows of networks of one task by `comparison_key`.
    """
    found = [(row, counterpart(row, alone)) for row in together]
    pairs = [(row, *match) for row, match in found if match is not None]
    # Rules that select the same epochs share their answers, and the difference.
    unique = {
        (id(row.answers), id(single.answers)): (row.answers.right, single.answers.right)
        for row, single, _ in pairs
    }
    gaps = {key: paired_difference(*rights) for key, rights in unique.items()}
    keys = ("split", "rule", "method", "weighting", "settings", "grouping", "groupings", "seeds")
    keys += ("runs",)
    return [
        {key: of.row[key] for key in keys}
        | {
            "alone": single.row["runs"],
            "interval": interval_kind(min(len(of.row["seeds"]), len(single.row["seeds"]))),
            "matched": not (differs := difference(of.comparable, single.comparable)),
            "differs": differs,
            "candidates": candidates,
        }
        | gaps[id(of.answers), id(single.answers)]
        for of, single, candidates in pairs
    ]


def counterpart(
    together: Measured, alone: dict[tuple, list[Measured]]
) -> tuple[Measured, int] | None:
    """Find the row of the same task alone: the one whose settings differ least, then the one with
    most seeds; also return how many rows were as close."""
    own = own_rule(together.row)
    found = alone.get(comparison_key(together, SAME_FOR_ONE_TASK.get(own, own)), [])
    if not found:
        return None
    distance = {id(row): len(difference(together.comparable, row.comparable)) for row in found}
    nearest = [row for row in found if distance[id(row)] == min(distance.values())]
    return max(nearest, key=lambda row: len(row.row["seeds"])), len(nearest)


def difference(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, list[Any]]:
    """Return the settings that differ, with both values."""
    if ours == theirs:
        return {}
    return {
        key: [ours.get(key), theirs.get(key)]
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key)
    }


def comparison_key(measured: Measured, rule: str) -> tuple:
    return rule, measured.answers.data, *task_key(measured.row)
