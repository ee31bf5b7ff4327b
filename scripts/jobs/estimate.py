"""What a call will cost, said before it starts: GPU hours and disk for checkpoints."""

import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.jobs.job import Job
from scripts.jobs.states import find_runs
from src.config.compose import load_config, stage_config
from src.config.saved import read_config
from src.config.schema import Config
from src.data.celeba import load_annotations
from src.io import UserError

# All of CelebA, for a machine that submits but has no data.
CELEBA_TRAIN, CELEBA_VAL = 162_770, 19_867
NEWEST = 30  # of the earlier runs; their speed is that of today's machine
# Weights below the head and its width: printing commands need not wait for torch to load.
BACKBONES = {"resnet18": (11_176_512, 512), "resnet50": (23_508_032, 2048)}
# What a run's cost does not depend on: one configuration stands for all that differ only here.
CHEAP = ("exp.optimizer.", "exp.train.log_dir=", "exp.seed=")


def estimate(jobs: Sequence[Job], log_dir: Path) -> list[str]:
    """Lines to print: hours from the measured speed of earlier runs, and disk.

    Composing the configurations finds a mistake in the overrides before a job does.

    Raises:
        UserError: the configuration of a job is wrong.
    """
    kinds: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        if job.argv[1:2] in (["train_erm.py"], ["train_jtt.py"]):
            key = tuple(_weigh(text) for text in job.argv if not text.startswith(CHEAP))
            kinds.setdefault(key, []).append(job)
    if not kinds:
        return []
    hours, size, count = 0.0, 0, sum(map(len, kinds.values()))
    speeds, used = measured_speeds(log_dir), {}
    unknown, limited = set(), False
    for same in kinds.values():
        config = load_config(list(same[0].argv[2:]))
        stages = [config]
        if config.method is not None:
            stages = [stage_config(config, stage) for stage in ("stage_1", "stage_2")]
        size += len(same) * sum(disk(stage) for stage in stages)
        key = speed_key(config.model.name, config.dataset.target_resolution)
        if key in speeds:
            used[key] = speeds[key]
            hours += len(same) * sum(images(stage) for stage in stages) / speeds[key] / 3600
        else:
            unknown.add(key)
        limited |= config.dataset.subsample
    return [_hours_line(hours, count, used, unknown, limited), _disk_line(size, log_dir)]


def _weigh(text: str) -> str:
    """An argument as far as it matters here: of the groupings, how many there are."""
    if text.startswith("exp.dataset.groupings="):
        return f"{text.count(',') + 1} groupings"
    return text


def _hours_line(
    hours: float, count: int, speeds: dict[str, float], unknown: set[str], limited: bool
) -> str:
    if unknown:
        return (
            f"GPU hours: unknown, as no earlier run of {' or '.join(sorted(unknown))} was measured"
        )
    rates = ", ".join(f"{rate:.0f}" for rate in sorted(speeds.values()))
    most = "at most" if limited else "about"
    return (
        f"GPU hours: {most} {hours:.1f} ({hours / count:.2f} a run), "
        f"as earlier runs measured {rates} images/s"
    )


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
    """Images/s by network and resolution: the median over the newest runs at `log_dir`."""
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
    """Images that pass through the network: a validation image costs a third of a training one."""
    train, val = split_sizes(config.dataset)
    if config.train.max_steps is not None:
        train = min(train, config.train.max_steps * config.dataloader.batch_size)
    return config.train.total_epochs * (train + val / 3)


def split_sizes(data: Any) -> tuple[int, int]:
    """Images of train and val."""
    if data.name == "synthetic":
        return data.synthetic.num_train, data.synthetic.num_val
    try:
        split = load_annotations(data.root, data.cache_dir).split
        return int((split == 0).sum()), int((split == 1).sum())
    except UserError:
        return CELEBA_TRAIN, CELEBA_VAL


def disk(config: Config) -> int:
    """Bytes of the checkpoints that a run keeps: weights and momentum, 4 bytes each."""
    tasks = len(config.dataset.groupings)
    rules = 2 if tasks == 1 else 3 + 2 * tasks  # see src/training/checkpoints.py: scores
    kept = config.train.total_epochs
    if config.train.keep_ckpts == "best":
        kept = min(kept, rules + 1)  # and the last
    return 8 * kept * parameters(config.model.name, tasks)


def parameters(model: str, tasks: int) -> int:
    """Weights of a network, counted without making them."""
    if model in BACKBONES:
        backbone, width = BACKBONES[model]
        return backbone + tasks * (width + 1)
    import torch

    from src.models.build import build_model

    with torch.device("meta"):
        return sum(p.numel() for p in build_model(model, tasks, False, None, 0).parameters())
