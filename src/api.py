"""Use finished runs from Python.

>>> from src.api import load_run
>>> run = load_run("logs/erm/Blond_Hair-Male/seed0", "best-group")
>>> run.predict(["me.jpg", "you.png"])  # a table: the probability of each task
"""

from pathlib import Path
from typing import Any

from src.config.compose import load_saved_config
from src.config.dataset import dataset_options
from src.data.dataset import LAYOUTS, choose_pixels
from src.data.groupings import parse_groupings
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


def open_evaluator(
    run: Run,
    root: str | Path | None = None,
    device: str | None = None,
    batch_size: int | None = None,
) -> RunEvaluator:
    """Open a run to evaluate its checkpoints.

    Args:
        root: folder of the data set, if it has moved; other data get results of their own names.
        device, batch_size: of the pass; None takes the run's own settings.
    """
    config = load_saved_config(run.config)
    data = config.dataset
    groupings = parse_groupings(data.groupings, columns=run.classes())
    if not data.subgroup_labels:  # classes only, as in training
        groupings = [grouping.without_attributes() for grouping in groupings]

    def open_data() -> Any:
        from src.data.dataset import open_dataset

        options = dataset_options(data) | ({} if root is None else {"root": str(expand(root))})
        return open_dataset(**options, workers=config.dataloader.num_workers)

    def load_model(state: dict[str, Any]) -> Any:
        from src.models.build import build_model
        from src.models.prototypes import PrototypeEnsemble

        width = sum(1 if g.num_classes == 2 else g.num_classes for g in groupings)
        kind = config.model.head
        linear = "linear" if kind == "prototypes" else kind
        inputs = config.model.inputs
        model = build_model(config.model.name, width, False, None, 0, linear, inputs=inputs)
        if kind == "prototypes":
            members, _, size = state["head.prototypes"].shape[1:]
            model.head = PrototypeEnsemble([g.num_classes for g in groupings], members, size)
        own = {key: value for key, value in state.items() if key.startswith(("backbone.", "head."))}
        model.load_state_dict(own)  # LfF also saves its biased network
        return model

    return RunEvaluator(
        run,
        groupings,
        open_data,
        load_model,
        device or config.train.device,
        config.train.precision,
        batch_size or config.dataloader.eval_batch_size,
        data.groups_known if data.subgroup_labels else 0.0,
        config.seed,
        moved=root is not None,
    )


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
    evaluator = open_evaluator(run, root, device)
    data = load_saved_config(run.config).dataset
    pixels = None
    if data.features is None:
        pixels = choose_pixels(LAYOUTS[data.name], data.target_resolution, data.crop, data.resize)
    return TrainedRun(evaluator, str(checkpoint or default_rule(run)), pixels)
