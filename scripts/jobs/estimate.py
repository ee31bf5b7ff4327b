"""Estimate what a call costs before it starts: hours and disk for checkpoints."""

import shutil
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from scripts.jobs.job import Job
from scripts.jobs.states import find_runs
from src.config.compose import load_config, stage_config
from src.config.dataset import DatasetConfig, dataset_options
from src.config.saved import read_config
from src.config.schema import Config
from src.data.dataset import open_dataset
from src.io import UserError
from src.methods.options import STAGED

NEWEST = 30  # earlier runs whose speed counts
# Weights of the backbone, and width of its features: known without loading torch.
BACKBONES = {"resnet18": (11_176_512, 512), "resnet50": (23_508_032, 2048)}
# A run's cost does not depend on these: one configuration is composed for all jobs that differ
# only here.
CHEAP = ("exp.optimizer.", "exp.train.log_dir=", "exp.seed=")


def estimate(jobs: Sequence[Job], log_dir: Path) -> list[str]:
    """Return lines to print: hours on one device, from the speed of earlier runs, and disk.

    Composing the configurations finds mistakes in the overrides before a job does.

    Raises:
        UserError: the configurations of some jobs are wrong.
    """
    jobs = [job for job in jobs if job.argv[1:2] == ["train.py"]]
    keys = [tuple(map(_cost_key, (t for t in job.argv if not t.startswith(CHEAP)))) for job in jobs]
    examples, counts = dict(zip(keys, jobs)), Counter(keys)
    speeds = measured_speeds(log_dir) if jobs else {}
    hours, size, problems, unknown = 0.0, 0, [], set()
    for key, job in examples.items():
        try:
            config = load_config(list(job.argv[2:]))
        except UserError as error:
            problems += [f"{job.name}: {problem}" for problem in error.problems]
            continue
        stages = trained_stages(config)
        size += counts[key] * sum(map(disk, stages))
        sizes, network = split_sizes(config.dataset), speed_key(config.model_dump())
        if sizes is None:
            unknown.add(f"no data in {config.dataset.root}")
        elif network not in speeds:
            unknown.add(f"no earlier run of {network} was measured")
        else:
            cost = sum(images(stage, *sizes) for stage in stages)
            hours += counts[key] * cost / speeds[network] / 3600
    if problems:
        raise UserError(problems)
    if not jobs:
        return []
    about = f"about {hours:.1f} ({hours / len(jobs):.2f} a run), at the speed of earlier runs"
    line = f"hours on one device: {'unknown, ' + ', '.join(sorted(unknown)) if unknown else about}"
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
    folder = next(path for path in (log_dir.absolute() / "x").parents if path.exists())
    free = shutil.disk_usage(folder).free
    line = f"disk for checkpoints: at most {size / 1e9:.1f} GB of {free / 1e9:.0f} GB free"
    if size > free:
        line += f"; warning: {log_dir} will be full before the end: choose another --log_dir"
    return line


def speed_key(config: dict) -> str:
    """Return the network and the resolution, on which the speed depends."""
    height, width = config["dataset"]["target_resolution"]
    return f"{config['model']['name']} at {height}x{width}"


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
                rates.setdefault(speed_key(read_config(run.config)), []).append(rate)
        except (UserError, LookupError, TypeError):
            continue
    return {key: statistics.median(values) for key, values in rates.items()}


def images(config: Config, train: int, val: int) -> float:
    """Return how many images a run costs: a validation image counts as a third."""
    if config.train.max_steps is not None:
        train = min(train, config.train.max_steps * config.dataloader.batch_size)
    return config.train.total_epochs * (train + val / 3)


def split_sizes(data: DatasetConfig) -> tuple[int, int] | None:
    """Return the numbers of train and val images, or None if the data are not here."""
    if data.name == "synthetic":
        return data.synthetic.num_train, data.synthetic.num_val
    try:
        split = open_dataset(**dataset_options(data), workers=0).table.split
    except UserError:
        return None
    return int((split == 0).sum()), int((split == 1).sum())


def disk(config: Config) -> int:
    """Return the bytes of the checkpoints of a run: weights and momentum, 4 bytes each."""
    tasks = len(config.dataset.groupings)
    rules = 2 if tasks == 1 else 3 + 2 * tasks  # see src/runs/selection.py: scores
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
