"""What a configuration needs and does not have: group labels, or settings that a method takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from src.methods.options import FIND_GROUPS
from src.objective.options import NEED_GROUPS, SOLVERS

if TYPE_CHECKING:
    from src.config.schema import Config


def group_problems(config: Config) -> list[str]:
    """List what needs group labels of the data set, if they are switched off or hidden."""
    data = config.dataset
    found = config.dataloader.found_groups is not None or config.method in FIND_GROUPS
    needs = [] if found else _needs_train(config)
    overlapping = next((text for text in data.groupings if "|" in text), None)
    if overlapping is not None:
        on_val = {"dfr", "afr", "crt", "self", "dpe", "ssa"} & {config.method}
        keys = [*needs, *(f"exp={method}" for method in on_val)]
        reason = f"groups of which each example has one, not several as in '{overlapping}'"
        return [f"{key} needs {reason}: name one attribute at a time" for key in keys]
    if not data.subgroup_labels:
        if config.method == "dpe" and config.dpe.balance == "group" and not found:
            needs.append("dpe.balance=group")
        return [f"{key} needs group labels: set dataset.subgroup_labels=true" for key in needs]
    if data.groups_known == 0:
        return [f"{key} needs groups of train: set dataset.groups_known above 0" for key in needs]
    return []


def _needs_train(config: Config) -> list[str]:
    """List the choices that need the groups of train examples."""
    chosen = config.objective.chosen()
    needs = [f"objective.{layer}={c}" for layer, c in chosen.items()
             if isinstance(c, str) and c in NEED_GROUPS]  # fmt: skip
    gradient, method = config.objective.gradient, config.method
    choices = {
        f"objective.{gradient}.cells": gradient in SOLVERS
        and getattr(config.objective, gradient).cells,
        "dataloader.sampler=rwg": config.dataloader.sampler == "rwg",
        "dataset.subsample_type=subg": config.dataset.subsample_type == "subg",
        f"exp={config.name}": method in ("lisa", "pde"),
        "objective.vs.level=group": config.objective.example == "vs"
        and config.objective.vs.level == "group",
        "crt.balance=group": method == "crt" and config.crt.balance == "group",
        "dfr.fit=train": method == "dfr" and config.dfr.fit == "train",
    }
    return needs + [key for key, chosen in choices.items() if chosen]


def _ignored_by_own_schedule(config: Config) -> list[tuple[str, str]]:
    """List settings of an epoch, and their defaults, that have no effect on this method."""
    own = config.method in ("lisa", "pde", "cnc") or (config.method, config.stage) == (
        "ssa",
        "stage_1",
    )
    settings = [
        ("dataloader.sampler", config.dataloader.sampler is not None, "null"),
        ("dataset.subsample", config.dataset.subsample, "false"),
        ("dataloader.train_fraction", config.dataloader.train_fraction < 1, "1"),
    ]
    return [(key, default) for key, changed, default in settings if own and changed]


def method_problems(config: Config) -> list[str]:
    """List settings that the chosen method does not take."""
    data, objective = config.dataset, config.objective
    if config.method == "eiil" and objective.dro.automatic_adjustment:
        return [
            "objective.dro.automatic_adjustment needs the same groups in validation, but exp=eiil "
            "finds them on train only: set it to false"
        ]
    if config.method == "ssa" and (config.stage_1.run or not data.subgroup_labels):
        return [
            "exp=ssa learns attributes from validation: it needs dataset.subgroup_labels=true, and "
            "takes no stage_1.run"
        ]
    problems = [
        f"exp={config.method} draws its own batches: {key} has no effect; set it to {default}"
        for key, default in _ignored_by_own_schedule(config)
    ]
    if problems:
        return problems
    if config.method == "cnc" and (objective.task, objective.across) != ("mean", "static"):
        return ["exp=cnc takes objective.task=mean and objective.across=static only"]
    if config.method == "cnc":
        return [f"exp=cnc takes no group labels of train, but {key} needs them"
                for key in _needs_train(config)]  # fmt: skip
    return []
