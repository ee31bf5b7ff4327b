"""Use finished runs from Python.

>>> from src.api import load_run
>>> run = load_run("logs/erm/Blond_Hair-Male/seed0", "best-group")
>>> run.predict(["me.jpg", "you.png"])  # a table: the probability of each task
"""

from pathlib import Path

from src.data.dataset import LAYOUTS, choose_pixels
from src.evaluation.evaluator import RunEvaluator
from src.evaluation.trained_run import TrainedRun
from src.io import UserError, expand
from src.runs.folder import Run
from src.runs.selection import default_rule


def open_run(path: str | Path) -> Run:
    """Return the run in a folder; of a staged run, that of its last stage.

    Raises:
        UserError: the folder holds no run, or the last stage has not begun.
    """
    run = Run(expand(path))
    if not run.config.exists():
        raise UserError(f"{path} is not a run folder: config.yaml is missing")
    stages = sorted(run.path.glob("stage_[0-9]"))
    if not stages:
        return run
    last = Run(run.path / "stage_2")
    if not last.config.exists():
        raise UserError(f"{path}: stage 2 has not begun; --log_dir {stages[0]} evaluates stage 1")
    return last


def load_run(
    path: str | Path,
    checkpoint: str | None = None,
    root: str | Path | None = None,
    device: str | None = None,
) -> TrainedRun:
    """Open a finished run to use its network.

    Args:
        path: the run folder.
        checkpoint: an epoch, `last`, or a selection rule; default best-group, or best-class for
            a run without group labels.
        root: folder of the data set, if it has moved; pictures of your own need no data set.
        device: auto, cpu or cuda; default that of the training.

    Raises:
        UserError: no run, or no such checkpoint.
    """
    run = open_run(path)
    evaluator = RunEvaluator(run, root, device)
    data = evaluator.config.dataset
    pixels = None
    if data.features is None:
        pixels = choose_pixels(LAYOUTS[data.name], data.target_resolution, data.crop, data.resize)
    return TrainedRun(evaluator, str(checkpoint or default_rule(run)), pixels)
