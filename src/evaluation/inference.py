"""What a finished or running run says about a split: saved logits where they fit, else one pass."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from src.config.compose import load_saved_config
from src.config.schema import Config, DatasetConfig, dataset_options
from src.data.dataset import Dataset, open_dataset
from src.data.groupings import Grouping, parse_groupings
from src.data.table import Table
from src.evaluation.logits import (
    REPORT,
    Logits,
    data_identity,
    evaluate,
    load_logits,
    predict,
    report,
    save_logits,
)
from src.io import UserError, read_json, write_json
from src.runs.folder import Run
from src.runs.selection import find_best_ckpt


def open_run(path: str | Path) -> Run:
    """The run in a folder; of a JTT run the second stage, whose network is its result."""
    run = Run(path)
    second = Run(run.path / "stage_2")
    if second.config.exists():
        run = second
    elif (run.path / "stage_1").is_dir():
        raise UserError(
            f"{path}: stage 2 of this JTT run has not begun; --log_dir {run.path / 'stage_1'} "
            f"evaluates the network of stage 1"
        )
    if not run.config.exists():
        raise UserError(f"{path} is no run folder: it has no config.yaml")
    return run


def saved_logits(
    run: Run,
    split: str,
    epoch: int | str,
    tasks: tuple[str, ...],
    identity: str,
    count: int,
) -> Logits | None:
    """The logits on disk, where they come from the weights that validation noted of the epoch and
    from the `count` rows of `identity`; else None. An unfinished epoch has no note."""
    path, noted = run.logits(split, epoch), run.epoch_stats(epoch)
    if not (path.exists() and noted.exists()):
        return None
    known = (read_json(noted, REPORT)["checkpoint"]["hash"], identity, tasks)
    try:
        saved = load_logits(path)
    except UserError as error:
        print(f"warning: {error}", flush=True)
        return None
    if (saved.checkpoint, saved.data, saved.tasks) != known:
        return None
    if len(saved.values) != count:
        print(f"warning: {path} holds {len(saved.values):,} rows, not {count:,}", flush=True)
        return None
    return saved


class RunEvaluator:
    """Evaluates checkpoints of one run.

    Args:
        run: its folder.
        root: the data set's folder, where it has moved since training.
        device, batch_size: of the pass; None takes the run's own settings.
    """

    def __init__(
        self,
        run: Run,
        root: str | None = None,
        device: str | None = None,
        batch_size: int | None = None,
    ):
        self.run = run
        self.config: Config = load_saved_config(run.config)
        self.groupings = parse_groupings(self.config.dataset.groupings)
        if not self.config.dataset.subgroup_labels:  # classes only, as in training
            self.groupings = [g.without_attributes() for g in self.groupings]
        self.tasks = tuple(grouping.task for grouping in self.groupings)
        self.data: DatasetConfig = self.config.dataset
        if root is not None:
            self.data.root = root
        self.device = device or self.config.train.device
        self.batch_size = batch_size or self.config.dataloader.eval_batch_size
        self._dataset: Dataset | None = None

    @property
    def dataset(self) -> Dataset:
        if self._dataset is None:
            self._dataset = open_dataset(
                **dataset_options(self.data), workers=self.config.dataloader.num_workers
            )
        return self._dataset

    def rows(self, split: str) -> Table:
        return self.dataset.split(split)

    def logits(self, checkpoint: str, split: str) -> Logits:
        """Logits of a checkpoint (a number, `last`, or a selection rule) on a split.

        Saved ones are used where they come from the same weights and the same rows; else the
        network makes them in one pass, and they are saved.
        """
        epoch = find_best_ckpt(self.run, checkpoint)
        rows = self.rows(split)
        identity = data_identity(rows.names, rows.codes)
        logits = saved_logits(self.run, split, epoch, self.tasks, identity, len(rows))
        if logits is None:
            logits = self._predict(epoch, split, identity)
            save_logits(self.run.logits(split, epoch), logits)
        return logits

    def _predict(self, epoch: int | str, split: str, identity: str) -> Logits:
        import torch

        from src.models.build import build_model
        from src.training.checkpoints import load_checkpoint, model_hash
        from src.training.devices import choose_device, choose_precision

        state = load_checkpoint(self.run.checkpoint(epoch))
        device = choose_device(self.device)
        precision = choose_precision(self.config.train.precision, device)
        model = build_model(self.config.model.name, len(self.tasks), False, None, seed=0)
        try:
            model.load_state_dict(state["model"])
        except (RuntimeError, TypeError, AttributeError) as error:
            reason = str(error).splitlines()[-1].strip()[:200]
            raise UserError(
                f"{self.run.checkpoint(epoch)} does not hold this run's network ({reason})"
            ) from error
        model.to(device, memory_format=torch.channels_last)
        values = predict(
            model,
            self.dataset.images(split),
            len(self.rows(split)),
            len(self.tasks),
            device,
            precision,
            self.batch_size,
            progress=split,
        )
        name = str(epoch) if epoch != "last" else f"last (step {state['step']})"
        return Logits(values, self.tasks, split, name, model_hash(state["model"]), identity)

    def evaluate(
        self, checkpoint: str, split: str, groupings: Sequence[Grouping] | None = None
    ) -> dict[str, Any]:
        """The evaluation JSON of a checkpoint for any groupings of the run's tasks."""
        groupings = self.groupings if groupings is None else groupings
        unknown = [grouping.name for grouping in groupings if grouping.task not in self.tasks]
        if unknown:
            raise UserError(
                f"{self.run.path} was not trained for {', '.join(unknown)}: "
                f"its tasks are {', '.join(self.tasks)}"
            )
        logits = self.logits(checkpoint, split)
        stats = evaluate(logits, groupings, self.rows(split))
        result = report(self.run.path, logits, checkpoint, stats)
        write_json(self.run.stats(split, checkpoint), result)
        return result
