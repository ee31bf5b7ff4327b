"""Which choices of an objective go together, checked when a configuration is read.

Errors stop the command, notes are printed when training starts. Whatever is not named here is
allowed. This module imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from src.objective.options import SOLVERS

if TYPE_CHECKING:
    from src.config.schema import Config


def errors(config: Config) -> Iterator[str]:
    """Yield choices that contradict each other."""
    o, data, method = config.objective, config.dataset, config.method
    across, gradient, tasks = o.across or "static", o.gradient, len(data.groupings)
    if o.task == "dro" and o.dro.scope == "joint":
        weighted = data.loss_balanced_task_weighting or set(data.task_weights or [1.0]) != {1.0}
        if weighted or across != "static":
            yield (
                "objective.dro.scope=joint weighs the groups of all tasks already, so the tasks "
                "are summed: remove task weights and objective.across, or set scope=per_task"
            )
        if gradient != "none":
            yield (
                f"objective.dro.scope=joint and objective.gradient={gradient} both weigh tasks "
                "against each other: set scope=per_task, or gradient=none"
            )
    if gradient == "none":
        return
    if across not in ("static", "lbtw"):
        yield (
            f"objective.across={across} and objective.gradient={gradient} both weigh the tasks: "
            "set one of them (static weights and LBTW go with a solver)"
        )
    if config.model.head == "prototypes":
        yield f"objective.gradient={gradient} needs a row per task: set model.head=linear"
    if method == "cnc":
        yield (
            "exp=cnc has a contrastive loss beside the tasks' losses, which no solver sees: set "
            "objective.gradient=none"
        )
    if gradient in SOLVERS and getattr(o, gradient).cells and method in ("mixup", "lisa"):
        yield f"objective.{gradient}.cells needs one group per image; exp={method} mixes images"
    if gradient == "torchjd" and config.train.compile:
        yield (
            "objective.gradient=torchjd runs several backward passes, which torch.compile does not "
            "allow: set train.compile=false"
        )
    if gradient == "torchjd" and config.train.precision == "fp16":
        yield (
            "objective.gradient=torchjd takes unscaled gradients, which vanish in fp16: use "
            "train.precision=bf16 or fp32"
        )
    trims = gradient == "torchjd" and o.torchjd.aggregator == "TrimmedMean"
    if trims and tasks <= 2 * o.torchjd.trim_number:
        yield (
            "objective.torchjd.aggregator=TrimmedMean leaves trim_number rows out at each end, and "
            f"there are {tasks} tasks: lower trim_number, or use another aggregator"
        )


def notes(config: Config) -> Iterator[str]:
    """Yield choices that are allowed and hardly meant."""
    o, data = config.objective, config.dataset
    across, gradient = o.across or "static", o.gradient
    balanced = {config.dataloader.sampler, data.subsample_type}
    for level, plans in {"group": {"rwg", "subg"}, "class": {"rwy", "suby"}}.items():
        twice = {f"{level}_weights", f"{level}_shift"} & {o.weights, o.shift}
        if balanced & plans and twice:
            yield (
                f"an epoch is balanced by {level} already, and objective.weights={o.weights}, "
                f"shift={o.shift} corrects the imbalance a second time"
            )
    if o.task == "dro" and across in ("uw", "dwa", "famo", "gls", "log"):
        yield (
            f"objective.task=dro raises the weight of high losses and objective.across={across} "
            "lowers it or follows it: they can work against each other"
        )
    plain = gradient != "none" or across in ("rlw", "dwa", "task_dro")
    if len(data.groupings) == 1 and plain:
        yield (
            f"with one task, objective.across={across} and objective.gradient={gradient} are plain "
            "descent"
        )
    if gradient == "torchjd" and o.torchjd.aggregator in ("NashMTL", "GradVac"):
        yield (
            "this aggregator of TorchJD keeps a hidden state: a run that was stopped ends "
            "otherwise than one that was not"
        )
