"""Name the runs of a report: their method, how tasks are weighted, and what settings differ."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from src.config.schema import Config
from src.objective.options import ACROSS, GRADIENT
from src.report.rows import CUT

if TYPE_CHECKING:
    from src.report.runs import ReportRun

# What differs between runs of one setting: the seed, and files made from it.
OF_A_SEED = ("seed", "error_set", "run")
# Keys that a row shows in columns or settings of their own.
SHOWN_ELSEWHERE = {
    *("name", "method", "dataloader.sampler", "dataset.subsample", "dataset.subsample_type"),
    *("dataset.groupings", "dataset.task_weights", "dataset.loss_balanced_task_weighting"),
    *("objective.across", "objective.gradient"),
    *("optimizer.lr", "optimizer.weight_decay", "dataloader.batch_size"),
    *("train.total_epochs", "train.max_steps", "model.name", "model.pretrained"),
    *("dataset.target_resolution", "dataset.data_augmentation"),
}
# What may differ where a task alone is compared with the same task among others.
OF_SEVERAL_TASKS = ("groupings", "task_weights", "loss_balanced_task_weighting", "lbtw_alpha")
OF_SEVERAL_TASKS += ("across", "gradient", "mtl_join_type", "name")
OPTIONS_OF_SEVERAL_TASKS = tuple(f"objective.{name}." for name in (*ACROSS, *GRADIENT))
# Methods that are a sampler or a subset; exp=erm with a sampler counts as one of them.
PLANS = ("erm", "rwy", "rwg", "suby", "subg")


def without(leaves: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the leaves without those whose last name is one of `names`."""
    return {key: value for key, value in leaves.items() if key.rpartition(".")[2] not in names}


def method_of(config: Config) -> str:
    """Name a run's method by what it does: exp=erm with a sampler is the method of that sampler."""
    if config.name not in PLANS or config.method is not None:
        return config.name
    parts = (config.dataset.subsample_type, config.dataloader.sampler)
    return "+".join(part for part in parts if part) or "erm"


def settings_of(config: Config) -> dict[str, Any]:
    """Return the settings that every report names; `name_differences` adds others."""
    settings = {
        "lr": config.optimizer.lr,
        "weight_decay": config.optimizer.weight_decay,
        "batch_size": config.dataloader.batch_size,
        "epochs": config.train.total_epochs,
        "network": config.model.name,
        "start": "pretrained" if config.model.pretrained else "from scratch",
        "input": "x".join(map(str, config.dataset.target_resolution)),
        "augmentation": "yes" if config.dataset.data_augmentation else "no",
    }
    if config.train.max_steps is not None:
        settings[CUT] = config.train.max_steps
    return settings


def name_differences(runs: Sequence["ReportRun"]) -> None:
    """Add to the settings of finished runs what else differs between runs of their method."""
    by_method: dict[str, list[ReportRun]] = {}
    for run in runs:
        if run.state == "done":
            by_method.setdefault(run.method, []).append(run)
    for same in by_method.values():
        kept = [without(run.leaves, OF_A_SEED) for run in same]
        first = kept[0]
        differing = {
            key
            for values in kept
            if values != first
            for key in values.keys() | first.keys()
            if values.get(key) != first.get(key)
        }
        # Options of a weighting are a difference only between runs of that weighting.
        of_one = {
            key
            for key in differing
            if key.startswith(OPTIONS_OF_SEVERAL_TASKS)
            and len({str(values[key]) for values in kept if key in values}) == 1
        }
        keys = sorted(differing - SHOWN_ELSEWHERE - of_one)
        for run, values in zip(same, kept):
            run.settings |= {key: values.get(key) for key in keys}


def weighting_of(config: Config) -> str:
    """Name how a run's tasks are weighted, by the names of --mtl_weighting or of the layers."""
    data, objective = config.dataset, config.objective
    if objective.gradient != "none":
        scaled = data.loss_balanced_task_weighting or set(data.task_weights or [1.0]) != {1.0}
        return f"{objective.gradient}_scaled" if scaled else objective.gradient
    if data.loss_balanced_task_weighting:
        return "dynamic"
    if objective.across not in (None, "static", "lbtw"):
        return objective.across
    # Weights by delta and by hand look alike, so pages and figures call both unequal.
    unequal = any(weight != 1 for weight in data.task_weights or ())
    return "static_delta" if unequal else "static_equal"
