"""Turn experiments into jobs: commands and run folders.

Training, evaluation and reports find a run by the same function that named it.
"""

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from scripts.experiments import (
    EXPERIMENTS,
    MTL_ERM,
    MTL_ERM_EXPERIMENTS,
    SEEDS,
    SINGLE_TASKS,
    STL_MATCHED,
    Experiment,
    Setting,
)
from scripts.job_manager import Job
from src.config.overrides import prepare_overrides, quote_override
from src.config.saved import WITHOUT_EFFECT
from src.data.groupings import Grouping
from src.io import UserError, did_you_mean, read_json
from src.runs.names import default_log_dir

# What a script chooses for each job, and an override for all jobs cannot.
CHOSEN = {"exp", "exp.train.log_dir", "exp.dataset.groupings", "exp.seed"}


def find_experiment(
    name: str, weighting: str = "static_equal", metric: str = "group"
) -> Experiment:
    """Return an experiment by the name that --opt gives it.

    Args:
        weighting, metric: how tasks are weighed and which figure will choose the checkpoint (avg
            or group); the settings of ERM on several tasks, and of its matched single-task
            baseline, depend on both.
    """
    if name == STL_MATCHED:
        return Experiment("erm", SINGLE_TASKS, (MTL_ERM[metric][weighting],), SEEDS)
    if name in MTL_ERM_EXPERIMENTS:
        return Experiment("erm", MTL_ERM_EXPERIMENTS[name], (MTL_ERM[metric][weighting],), SEEDS)
    if name not in EXPERIMENTS:
        names = [*EXPERIMENTS, STL_MATCHED, *MTL_ERM_EXPERIMENTS]
        raise UserError(f"--opt {name}: there is no such experiment{did_you_mean(name, names)}")
    return EXPERIMENTS[name]


def setting_values(setting: Setting) -> dict[str, Any]:
    """Return a setting as configuration keys and values."""
    values = {
        "exp.optimizer.weight_decay": setting.weight_decay,
        "exp.optimizer.lr": setting.lr,
        "exp.dataloader.batch_size": setting.batch_size,
        "exp.train.total_epochs": setting.epochs,
        "exp.epochs_stage_1": setting.epochs_stage_1,
        "exp.lambda_up": setting.lambda_up,
    }
    return {key: value for key, value in values.items() if value is not None}


def weighting_values(weighting: str, deltas: Sequence[float] = ()) -> dict[str, Any]:
    """Return a task weighting as configuration keys and values.

    Args:
        deltas: of the tasks, in points, for static_delta: softmax of delta/100, to 6 digits.
    """
    if weighting == "dynamic":
        return {"exp.dataset.loss_balanced_task_weighting": True}
    if weighting == "static_equal":
        return {}
    exponentials = [math.exp(delta / 100) for delta in deltas]
    weights = [round(value / sum(exponentials), 6) for value in exponentials]
    weights[-1] = round(1 - sum(weights[:-1]), 6)  # the sum stays 1
    return {"exp.dataset.task_weights": weights}


class _Pair(BaseModel):
    """The fields of a pair's JSON that weigh tasks; delta is in points."""

    split: str
    delta: float | None = Field(ge=0, le=200)


def read_delta(grouping: Grouping, folder: Path) -> float:
    """Read the delta of one pair, in points.

    Args:
        folder: of the spurious matrix (see src/spurious/results.py).

    Raises:
        UserError: the matrix lacks the grouping, or was made on the test split.
    """
    path = folder / grouping.task / f"{'+'.join(grouping.attributes)}.json"
    if not path.exists():
        make = ["python", "-m", "scripts.run_create_spurious_matrix", "--json_dir", str(folder)]
        raise UserError(
            f"static_delta needs the delta of {grouping.name}, and {path} is missing: "
            f"{shlex.join([*make, '--mode', 'shell'])} makes it from the runs of "
            "scripts.run_spurious_train"
        )
    pair = read_json(path, _Pair)
    if pair.split == "test":
        raise UserError(
            f"{path} was made on the test split, which is for reporting only: make the matrix on "
            "val to weigh tasks by it"
        )
    if pair.delta is None:
        raise UserError(f"{path}: {grouping.name} has no delta, because one of its groups is empty")
    return pair.delta


def train_jobs(
    name: str,
    experiment: Experiment,
    log_root: Path | str = "logs",
    overrides: Sequence[str] = (),
    more: Mapping[tuple[str, ...], Mapping[str, Any]] | None = None,
) -> list[Job]:
    """Return the jobs of an experiment, settings slowest, then task lists, then seeds.

    Args:
        name: the folder below `log_root`.
        overrides: given to every job; one that names a key of the setting replaces its value.
        more: further configuration keys and values by task list, such as its task weights.
    """
    return [
        train_job(
            *(name, experiment.method, tasks),
            setting_values(setting) | dict((more or {}).get(tasks, {})),
            *(seed, log_root, overrides),
        )
        for setting in experiment.settings
        for tasks in experiment.runs
        for seed in experiment.seeds
    ]


def train_job(
    name: str,
    method: str,
    groupings: Sequence[str],
    values: Mapping[str, Any],
    seed: int,
    log_root: Path | str = "logs",
    overrides: Sequence[str] = (),
) -> Job:
    """Return the job that trains exp=`method` on `groupings` with `values` by key and a seed.

    Its folder is <log_root>/<name>/<tasks>/<values>-seed<seed>.
    """
    given = parse_overrides(overrides)
    values = {key: value for key, value in values.items() if key not in given}
    changed = {re.sub("^exp[./]", "", key): value for key, value in (values | given).items()}
    changed = {key: value for key, value in changed.items() if key not in WITHOUT_EFFECT}
    run_dir = default_log_dir(name, list(groupings), changed, seed, str(log_root))
    chosen = {"exp.dataset.groupings": list(groupings), **values}
    if seed:
        chosen["exp.seed"] = seed
    argv = ["python", "train.py", f"exp={method}"]
    argv += [quote_override(key, value) for key, value in chosen.items()]
    argv += prepare_overrides(overrides)[0]
    argv += [quote_override("exp.train.log_dir", str(run_dir))]
    return Job(str(run_dir.relative_to(log_root)), argv, run_dir)


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """Parse the overrides for every job into keys and values.

    Raises:
        UserError: one cannot be read, or sets what the script chooses for each job.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    texts, problems = prepare_overrides(overrides)
    parser, values = OverridesParser.create(), {}
    for text in texts:
        key = text.partition("=")[0].lstrip("+")
        if key in CHOSEN:
            problems.append(f"{text}: the script sets {key} for each job; leave it out after --")
            continue
        values[key] = parser.parse_override(text).value()
    if problems:
        raise UserError(problems)
    return values
