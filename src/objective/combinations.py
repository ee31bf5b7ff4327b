"""Which choices of an objective go together: one table, checked when a configuration is read.

An error stops the command, a note is printed when training starts. Whatever the table does not
name is allowed. This module imports no torch.
"""

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
    applies: bool
    text: str


def rules(c: Choices) -> list[Rule]:
    """Return all rules, and whether they apply."""
    o, across, gradient = c.objective, c.across, c.objective.gradient
    solver, torchjd = gradient != "none", gradient == "torchjd"
    trimmed = 2 * o.torchjd.trim_number if o.torchjd.aggregator == "TrimmedMean" else 0
    level = {"groups": "group_", "classes": "class_"}.get(c.balanced_by or "", "no level")
    return [
        Rule(
            "error",
            solver and across not in ("static", "lbtw"),
            f"objective.across={across} and objective.gradient={gradient} both weigh the tasks: "
            "set one of them (static weights and LBTW go with a solver)",
        ),
        Rule(
            "error",
            c.joint and not (c.static and across == "static"),
            "objective.dro.scope=joint weighs the groups of all tasks already, so the tasks are "
            "summed: remove task weights and objective.across, or set scope=per_task",
        ),
        Rule(
            "error",
            c.joint and solver,
            f"objective.dro.scope=joint and objective.gradient={gradient} both weigh tasks against "
            "each other: set scope=per_task, or gradient=none",
        ),
        Rule(
            "error",
            solver and c.head == "prototypes",
            f"objective.gradient={gradient} needs a row per task: set model.head=linear",
        ),
        Rule(
            "error",
            solver and c.method == "cnc",
            "exp=cnc has a contrastive loss beside the tasks' losses, which no solver sees: set "
            "objective.gradient=none",
        ),
        Rule(
            "error",
            c.cells and c.method in ("mixup", "lisa"),
            f"objective.{gradient}.cells needs one group per image; exp={c.method} mixes images",
        ),
        Rule(
            "error",
            torchjd and c.compile,
            "objective.gradient=torchjd runs several backward passes, which torch.compile does not "
            "allow: set train.compile=false",
        ),
        Rule(
            "error",
            torchjd and c.precision == "fp16",
            "objective.gradient=torchjd takes unscaled gradients, which vanish in fp16: use "
            "train.precision=bf16 or fp32",
        ),
        Rule(
            "error",
            torchjd and c.num_tasks <= trimmed,
            "objective.torchjd.aggregator=TrimmedMean leaves trim_number rows out at each end, and "
            f"there are {c.num_tasks} tasks: lower trim_number, or use another aggregator",
        ),
        Rule(
            "note",
            any(name.startswith(level) for name in (o.weights, o.shift)),
            f"an epoch is balanced by {c.balanced_by} already, and objective.weights={o.weights}, "
            f"shift={o.shift} corrects the imbalance a second time",
        ),
        Rule(
            "note",
            o.task == "dro" and across in ("uw", "dwa", "famo", "gls", "log"),
            f"objective.task=dro raises the weight of high losses and objective.across={across} "
            "lowers it or follows it: they can work against each other",
        ),
        Rule(
            "note",
            c.num_tasks == 1 and (solver or across in ("rlw", "dwa", "task_dro")),
            f"with one task, objective.across={across} and objective.gradient={gradient} are plain "
            "descent",
        ),
        Rule(
            "note",
            torchjd and o.torchjd.aggregator in ("NashMTL", "GradVac"),
            "this aggregator of TorchJD keeps a hidden state: a run that was stopped ends "
            "otherwise than one that was not",
        ),
    ]


def check(choices: Choices, verdict: Literal["error", "note"]) -> list[str]:
    """List the rules of a verdict that apply."""
    return [r.text for r in rules(choices) if r.verdict == verdict and r.applies]
