"""Estimate what a call costs before it starts: hours and disk for checkpoints."""

import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path

from scripts.jobs.job import Job
from scripts.jobs.states import find_runs
from src.config.compose import load_config, stage_config
from src.config.saved import read_config
from src.config.schema import Config, DatasetConfig, dataset_options
from src.data.dataset import open_dataset
from src.io import UserError
from src.methods.options import STAGED

# All of CelebA, for a machine that submits but has no data.
CELEBA_TRAIN, CELEBA_VAL = 162_770, 19_867
NEWEST = 30  # earlier runs whose speed counts
# Weights of the backbone, and width of its features: known without loading torch.
BACKBONES = {"resnet18": (11_176_512, 512), "resnet50": (23_508_032, 2048)}
# A run's cost does not depend on these: one configuration is composed for all jobs that differ
# only here.
CHEAP = ("exp.optimizer.", "exp.train.log_dir=", "exp.seed=")


def estimate(jobs: Sequence[Job], log_dir: Path, unit: str = "GPU") -> list[str]:
    """Return lines to print: hours, from the measured speed of earlier runs, and disk.

    Composing the configurations finds mistakes in the overrides before a job does.

    Args:
        unit: GPU or CPU, the device that the jobs will use.

    Raises:
        UserError: the configuration of a job is wrong.
    """
    kinds: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        if job.argv[1:2] == ["train.py"]:
            key = tuple(_cost_key(text) for text in job.argv if not text.startswith(CHEAP))
            kinds.setdefault(key, []).append(job)
    if not kinds:
        return []
    hours, size, count = 0.0, 0, sum(map(len, kinds.values()))
    speeds, used = measured_speeds(log_dir), set()
    unknown, limited = set(), False
    for same in kinds.values():
        config = load_config(list(same[0].argv[2:]))
        stages = trained_stages(config)
        size += len(same) * sum(disk(stage) for stage in stages)
        key = speed_key(config.model.name, config.dataset.target_resolution)
        if key in speeds:
            used.add(speeds[key])
            hours += len(same) * sum(images(stage) for stage in stages) / speeds[key] / 3600
        else:
            unknown.add(key)
        limited |= config.dataset.subsample
    if unknown:
        names = " or ".join(sorted(unknown))
        line = f"{unit} hours: unknown, as no earlier run of {names} was measured"
    else:
        rates = ", ".join(f"{rate:.0f}" for rate in sorted(used))
        line = (
            f"{unit} hours: {'at most' if limited else 'about'} {hours:.1f} "
            f"({hours / count:.2f} a run), as earlier runs measured {rates} images/s"
        )
    return [line, _disk_line(size, log_dir)]


def trained_stages(config: Config) -> list[Config]:
    """Return the configurations of the networks that a run trains.

    A stage costs no training if it is a finished run, or if what it makes is given.
    """
    names = STAGED.get(config.method)
    if names is None:
        return [config]
    loader = config.dataloader
    given = config.stage_1.run or loader.error_set or loader.found_groups
    return [stage_config(config, name) for name in names if name != "stage_1" or not given]


def _cost_key(text: str) -> str:
    """Return what matters for the cost: of the groupings, only their number."""
    if text.startswith("exp.dataset.groupings="):
        return f"{text.count(',') + 1} groupings"
    return text


def _disk_line(size: int, log_dir: Path) -> str:
    folder = log_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    line = f"disk for checkpoints: at most {size / 1e9:.1f} GB of {free / 1e9:.0f} GB free"
    if size > free:
        line += f"; warning: {log_dir} will be full before the end: choose another --log_dir"
    return line


def speed_key(model: str, resolution: Sequence[int]) -> str:
    return f"{model} at {resolution[0]}x{resolution[1]}"


def measured_speeds(log_dir: Path) -> dict[str, float]:
    """Return the median images/s of the newest runs in `log_dir`, by network and resolution."""
    if not log_dir.exists():
        return {}
    runs = [run for run in find_runs([log_dir]) if run.status_file.exists()]
    runs.sort(key=lambda run: run.status_file.stat().st_mtime)
    rates: dict[str, list[float]] = {}
    for run in runs[-NEWEST:]:
        try:
            rate = run.status().get("images_per_second")
            if rate:
                config = read_config(run.config)
                key = speed_key(config["model"]["name"], config["dataset"]["target_resolution"])
                rates.setdefault(key, []).append(rate)
        except (UserError, LookupError, TypeError):
            continue
    return {key: statistics.median(values) for key, values in rates.items()}


def images(config: Config) -> float:
    """Return how many images a run costs: a validation image counts as a third."""
    train, val = split_sizes(config.dataset)
    if config.train.max_steps is not None:
        train = min(train, config.train.max_steps * config.dataloader.batch_size)
    return config.train.total_epochs * (train + val / 3)


def split_sizes(data: DatasetConfig) -> tuple[int, int]:
    """Return the numbers of train and val images."""
    if data.name == "synthetic":
        return data.synthetic.num_train, data.synthetic.num_val
    try:
        split = open_dataset(**dataset_options(data), workers=0).table.split
    except UserError:
        if data.name != "celeba":
            raise
        return CELEBA_TRAIN, CELEBA_VAL
    return int((split == 0).sum()), int((split == 1).sum())


def disk(config: Config) -> int:
    """Return the bytes of the checkpoints of a run: weights and momentum, 4 bytes each."""
    tasks = len(config.dataset.groupings)
    rules = 2 if tasks == 1 else 3 + 2 * tasks  # see src/training/checkpoints.py: scores
    kept = config.train.total_epochs
    if config.train.keep_ckpts == "best":
        kept = min(kept, rules + 1)  # and the last
    return 8 * kept * parameters(config.model.name, tasks, config.model.inputs)


def parameters(model: str, tasks: int, inputs: int | None = None) -> int:
    """Count the weights of a network without allocating them."""
    if model in BACKBONES:
        backbone, width = BACKBONES[model]
        return backbone + tasks * (width + 1)
    import torch

    from src.models.build import build_model

    with torch.device("meta"):
        network = build_model(model, tasks, False, None, 0, inputs=inputs)
    return sum(p.numel() for p in network.parameters())
