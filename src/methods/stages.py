"""The stages of JTT as subprocesses, so that each gives the device back when it ends."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from src.config.compose import load_config
from src.config.overrides import quote_override
from src.config.schema import Config, dataset_options, flatten
from src.data.dataset import groups_of, labels_of, open_dataset
from src.data.groupings import Grouping, parse_groupings
from src.evaluation.logits import evaluations, load_logits, read_report
from src.io import UserError, exclusive, write_atomic
from src.methods.jtt import ErrorSet, error_matrix, error_table, save_error_set
from src.runs.folder import Heartbeat, Run
from src.runs.signals import Stopped

ROOT = Path(__file__).parents[2]
POLL_SECONDS = 0.2


def train_command(config: Config) -> list[str]:
    """The train_erm.py command of a configuration: exp=erm and all that differs from it."""
    reference = flatten(load_config(["exp=erm", "exp.train.log_dir=unused"]))
    differing = {k: v for k, v in flatten(config).items() if v != reference[k]}
    # The options of the stand-in are keys of that part only.
    choice = ["exp/dataset=synthetic"] if config.dataset.name == "synthetic" else []
    overrides = [quote_override(f"exp.{key}", value) for key, value in differing.items()]
    return [sys.executable, str(ROOT / "train_erm.py"), "exp=erm", *choice, *overrides]


def run_stage(
    command: list[str], stage: Run, heartbeat: Heartbeat, stop: Callable[[], int | None]
) -> None:
    """Run a command to its end, passing on its progress and our signals.

    Raises:
        Stopped: a signal came; the child has saved and ended.
        UserError: the child failed; its own message stands above.
    """
    _wait_for_orphan(stage, stop)
    asked = False
    with subprocess.Popen(command) as child:
        try:
            while child.poll() is None:
                if stop() and not asked:
                    # SIGTERM also where Ctrl-C came: the child may have had it from the terminal.
                    child.terminate()
                    asked = True
                heartbeat.update(**progress_of(stage))
                time.sleep(POLL_SECONDS)
        except BaseException:
            child.terminate()  # it saves and ends, and does not train on without us
            raise
    if stop():
        raise Stopped(stop())
    if child.returncode:
        raise UserError(f"{stage.path}: failed with exit code {child.returncode}, see above")


def _wait_for_orphan(stage: Run, stop: Callable[[], int | None]) -> None:
    """A stage left behind by a killed parent ends first."""
    told = False
    while True:
        with exclusive(stage.path / ".lock") as free:
            if free:
                return
        if not told:
            print(f"waiting for the process that trains {stage.path}", flush=True)
            told = True
        if stop():
            raise Stopped(stop())
        time.sleep(POLL_SECONDS)


def progress_of(stage: Run) -> dict:
    """What a stage says of its progress, for the status of the whole run."""
    if not stage.status_file.exists():
        return {}
    status = stage.status()
    names = ("step", "total_steps", "epoch", "total_epochs", "images_per_second")
    return {"stage": stage.path.name} | {name: status[name] for name in names if name in status}


def make_error_set(config: Config, stage: Run, path: Path) -> None:
    """Write the error set of a finished stage 1 as `path`, and a table of it beside.

    The logits come from one pass over the train split (test.py --split train).
    """
    groupings: list[Grouping] = parse_groupings(config.dataset.groupings, training=True)
    rows = open_dataset(
        **dataset_options(config.dataset), workers=config.dataloader.num_workers
    ).split("train")
    last = max(stage.history()["epochs"])
    logits = load_logits(stage.logits("train", last))
    stats = evaluations(read_report(stage.epoch_stats(last)))
    losses = {name.partition(":")[0]: figures["loss"] for name, figures in stats.items()}
    errors = ErrorSet(
        error_matrix(logits.values, labels_of(rows, groupings)),
        [losses[task] for task in logits.tasks],
    )
    write_atomic(
        path.with_suffix(".csv"),
        error_table(errors, groups_of(rows, groupings), groupings).to_csv(index=False),
    )
    save_error_set(path, rows.names, logits.tasks, errors)
