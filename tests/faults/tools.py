"""Commands besides training whose kills and disk faults are tested: argv by output folder."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.commands import Commands

Argv = Callable[[Path], list]


def prepare_data(root: Path) -> Argv:
    """Decode the images under `root` into the folder's cache."""

    def argv(place: Path) -> list:
        options = ["--target_resolution", 32, 32, "--data_augmentation", "--workers", 1]
        return ["-m", "scripts.prepare_data", "--root", root, "--cache_dir", place, *options]

    return argv


def draw_faces(overrides: list[str], parent: Path) -> Argv:
    """Draw the stand-in into the folder; the run that asks for it ends after a step."""

    def argv(place: Path) -> list:
        sizes = [f"exp.dataset.synthetic.num_{split}=12" for split in ("train", "val", "test")]
        aside = parent / f"{place.name}-aside"
        own = [f"exp.dataset.root={place}", f"exp.dataset.cache_dir={aside}/cache"]
        run = [f"exp.train.log_dir={aside}/run", "exp.train.max_steps=1"]
        return ["train_erm.py", *overrides, "exp/dataset=synthetic", *sizes, *own, *run]

    return argv


def spurious_task(run: Path) -> Argv:
    """Make the matrix of one model."""
    return lambda place: ["-m", "scripts.spurious_task", "--log_dir", run, "--json_dir", place]


def report(runs: list[Path]) -> Argv:
    """Report on copies of runs, whose test logits the command makes."""

    def argv(place: Path) -> list:
        for run in runs:
            if not (place / "logs" / run.name).exists():
                shutil.copytree(run, place / "logs" / run.name)
        options = ["--log_dirs", f"{place}/logs/*", "--out_dir", place / "report"]
        return ["-m", "scripts.report_results", *options]

    return argv


def make_seeds(commands: Commands, overrides: list[str], folder: Path) -> list[Path]:
    """Train two runs that differ in their seed."""
    return [
        make_run(commands, overrides, folder / f"seed{seed}", f"exp.seed={seed}") for seed in (0, 1)
    ]


def make_run(commands: Commands, overrides: list[str], folder: Path, *more: str) -> Path:
    """Train a run."""
    code, output = commands.run("train_erm.py", *overrides, f"exp.train.log_dir={folder}", *more)
    if code:
        pytest.fail(output)
    return folder
