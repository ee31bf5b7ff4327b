"""Which choices of an objective go together: one table, checked when a configuration is read.

An error stops the command, a note is printed when training starts. Whatever the table does not
name is allowed. This module imports no torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from src.objective.options import SOLVERS, ObjectiveOptions


@dataclass(frozen=True)
class Choices:
    """What the table looks at."""

    objective: ObjectiveOptions
    num_tasks: int
    static: bool  # all task weights are 1, and no LBTW
    method: str | None
    head: str
    balanced_by: Literal["groups", "classes"] | None  # of sampler or subset
    precision: str
    compile: bool

    @property
    def across(self) -> str:
        return self.objective.across or "static"

    @property
    def joint(self) -> bool:
        return self.objective.task == "dro" and self.objective.dro.scope == "joint"

    @property
    def cells(self) -> bool:
        name = self.objective.gradient
        return name in SOLVERS and getattr(self.objective, name).cells


class Rule(NamedTuple):
    verdict: Literal["error", "note"]
    applies: Callable[[Choices], bool]
    text: str  # with placeholders of `check`


def _solver(c: Choices) -> bool:
    return c.objective.gradient != "none"


def _torchjd(c: Choices) -> bool:
    return c.objective.gradient == "torchjd"


def _trims_all(c: Choices) -> bool:
    options = c.objective.torchjd
    return options.aggregator == "TrimmedMean" and c.num_tasks <= 2 * options.trim_number


def _corrects_twice(c: Choices) -> bool:
    level = {"groups": "group", "classes": "class"}.get(c.balanced_by or "")
    chosen = (c.objective.weights, c.objective.shift)
    return level is not None and any(name.startswith(f"{level}_") for name in chosen)


RULES = (
    Rule(
        "error",
        lambda c: _solver(c) and c.across not in ("static", "lbtw"),
        "objective.across={across} and objective.gradient={gradient} both weigh the tasks: set one "
        "of them (static weights and LBTW go with a solver)",
    ),
    Rule(
        "error",
        lambda c: c.joint and not (c.static and c.across == "static"),
        "objective.dro.scope=joint weighs the groups of all tasks already, so the tasks are "
        "summed: remove task weights and objective.across, or set scope=per_task",
    ),
    Rule(
        "error",
        lambda c: c.joint and _solver(c),
        "objective.dro.scope=joint and objective.gradient={gradient} both weigh tasks against each "
        "other: set scope=per_task, or gradient=none",
    ),
    Rule(
        "error",
        lambda c: _solver(c) and c.head == "prototypes",
        "objective.gradient={gradient} needs a head with a row per task: set model.head=linear",
    ),
    Rule(
        "error",
        lambda c: _solver(c) and c.method == "cnc",
        "exp={method} has a contrastive loss beside the tasks' losses, which no solver sees: set "
        "objective.gradient=none",
    ),
    Rule(
        "error",
        lambda c: c.cells and c.method in ("mixup", "lisa"),
        "objective.{gradient}.cells needs one group per image, and exp={method} mixes images",
    ),
    Rule(
        "error",
        lambda c: _torchjd(c) and c.compile,
        "objective.gradient=torchjd runs several backward passes, which torch.compile does not "
        "allow: set train.compile=false",
    ),
    Rule(
        "error",
        lambda c: _torchjd(c) and c.precision == "fp16",
        "objective.gradient=torchjd takes unscaled gradients, which vanish in fp16: use "
        "train.precision=bf16 or fp32",
    ),
    Rule(
        "error",
        lambda c: _torchjd(c) and _trims_all(c),
        "objective.torchjd.aggregator=TrimmedMean leaves trim_number rows out at each end, and "
        "there are {num_tasks} tasks: lower trim_number, or use another aggregator",
    ),
    Rule(
        "note",
        _corrects_twice,
        "an epoch is balanced by {balanced_by} already, and objective.weights={weights}, "
        "shift={shift} corrects the imbalance a second time",
    ),
    Rule(
        "note",
        lambda c: c.objective.task == "dro" and c.across in ("uw", "dwa", "famo", "gls", "log"),
        "objective.task=dro raises the weight of high losses and objective.across={across} lowers "
        "it or follows it: they can work against each other",
    ),
    Rule(
        "note",
        lambda c: c.num_tasks == 1 and (_solver(c) or c.across in ("rlw", "dwa", "task_dro")),
        "with one task, objective.across={across} and objective.gradient={gradient} are plain "
        "descent",
    ),
    Rule(
        "note",
        lambda c: _torchjd(c) and c.objective.torchjd.aggregator in ("NashMTL", "GradVac"),
        "this aggregator of TorchJD keeps a hidden state: a run that was stopped ends otherwise "
        "than one that was not",
    ),
)


def check(choices: Choices, verdict: Literal["error", "note"]) -> list[str]:
    """List the rules of a verdict that apply."""
    objective = choices.objective
    values = {
        "across": choices.across,
        "gradient": objective.gradient,
        "weights": objective.weights,
        "shift": objective.shift,
        "method": choices.method,
        "balanced_by": choices.balanced_by,
        "num_tasks": choices.num_tasks,
    }
    return [
        rule.text.format(**values)
        for rule in RULES
        if rule.verdict == verdict and rule.applies(choices)
    ]
