"""Nodes of staged methods, made from a configuration; see src/methods/stages.py."""

import shlex
from collections.abc import Callable, Sequence
from typing import Any

from src.config.compose import load_saved_config, stage_config
from src.config.saved import save_config
from src.config.schema import Config, group_options
from src.data.dataset import Dataset
from src.data.groupings import Grouping
from src.evaluation.logits import rows_identity
from src.io import UserError, read_json
from src.methods.found_groups import GroupLabels
from src.methods.stages import Node, export_node, training_node
from src.runs.folder import Heartbeat, Run
from src.runs.provenance import Provenance


class ConfiguredStages:
    """The nodes of one run; implements `src.methods.stages.Stages`."""

    def __init__(self, config: Config, run: Run, dataset: Dataset, groupings: list[Grouping]):
        self.config, self.run = config, run
        self.dataset, self.groupings = dataset, groupings
        self.tasks = [grouping.task for grouping in groupings]
        self.settings, self.seed = config.dataloader, config.seed
        self.max_steps = config.train.max_steps

    @property
    def options(self) -> Any:
        return getattr(self.config, self.config.method)

    def train(
        self,
        stage: str,
        inputs: tuple[Node, ...] = (),
        epochs: Sequence[int] = (),
        own_step: bool = False,
        folder: str | None = None,
        **fixed: dict[str, Any],
    ) -> Node:
        given = getattr(self.config, stage)
        if given.run is not None:
            return self._finished(stage, Run(given.run), given.checkpoint, epochs, fixed)
        run = Run(self.run.path / (folder or stage))
        config = stage_config(self.config, stage, own_step, **fixed)
        if epochs and config.train.keep_ckpts != "all":
            kept = config.train.keep_ckpts
            config.train.keep_ckpts = sorted({*epochs, *(kept if kept != "best" else ())})
        if max(epochs, default=0) > config.train.total_epochs:
            raise UserError(
                f"exp.{stage} has {config.train.total_epochs} epochs, but epoch {max(epochs)} is "
                f"needed: raise exp.train.total_epochs, or set exp.self.early_epochs"
            )
        config.train.log_dir = str(run.path)
        name = f"{run.path.name.replace('_', ' ')}: training in {run.path}"
        return training_node(name, run, lambda: save_config(config, run.config), inputs)

    def frozen(self, stage: str) -> Node:
        given = getattr(self.config, stage)
        if given.run is not None:
            return self._finished(stage, Run(given.run), given.checkpoint, (), {})
        run = Run(self.run.path / stage)
        config = stage_config(self.config, stage)
        config.train.log_dir = str(run.path)

        def make(*_: object) -> None:
            from src.methods.heads import write_frozen_run

            save_config(config, run.config)
            classes = [grouping.num_classes for grouping in self.groupings]
            write_frozen_run(run, config.model.model_dump(), classes, config.seed)

        name = f"{stage.replace('_', ' ')}: the first weights of {config.model.name}"
        return Node(name, lambda: run.status()["state"] == "done", make, (), run)

    def export(
        self, node: Node, split: str, features: bool = False, epoch: int | None = None
    ) -> Node:
        return export_node(node, split, features, node.checkpoint if epoch is None else str(epoch))

    def stage_settings(self, stage: str) -> dict[str, Any]:
        config = stage_config(self.config, stage)
        steps = config.train.model_dump(include={"total_epochs", "max_steps"})
        return config.optimizer.model_dump() | steps | {"batch_size": config.dataloader.batch_size}

    def head(
        self, first: Node, fit: Callable, inputs: tuple[Node, ...], kind: str = "linear"
    ) -> Node:
        run = Run(self.run.path / "stage_2")
        config = stage_config(self.config, "stage_2")
        config.model.head, config.train.log_dir = kind, str(run.path)

        def make(heartbeat: Heartbeat, stop: Callable[[], int | None]) -> None:
            from src.methods.heads import HeadData, write_head_run

            labels = GroupLabels(self.dataset, self.groupings, **group_options(config))
            data = HeadData(first.run, first.epoch(), labels)
            save_config(config, run.config)
            write_head_run(run, data, fit(data), heartbeat)

        name = f"stage 2: a head on the features of {first.run.path}"
        return Node(name, lambda: run.status()["state"] == "done", make, inputs, run)

    def _finished(
        self,
        stage: str,
        run: Run,
        checkpoint: str,
        epochs: Sequence[int],
        fixed: dict[str, dict[str, Any]],
    ) -> Node:
        """Use a finished run as a stage, after checking that it fits."""
        config, problems = load_saved_config(run.config), []
        command = shlex.join(["python", "train.py", "--resume", str(run.path)])
        if run.status()["state"] != "done":
            problems.append(f"it is not finished; {command} continues it")
        for key in ("name", "groupings", "target_resolution"):
            theirs, ours = getattr(config.dataset, key), getattr(self.config.dataset, key)
            if theirs != ours:
                problems.append(f"its dataset.{key} is {theirs}, here {ours}")
        if set(epochs) - set(run.saved_epochs()):
            problems.append(
                f"it kept the epochs {run.saved_epochs()}, but {list(epochs)} are needed: train "
                f"one with exp.train.keep_ckpts={str(list(epochs)).replace(' ', '')}"
            )
        for section, values in fixed.items():
            for key, value in values.items():
                theirs = getattr(getattr(config, section), key)
                if section != "train" and theirs != value:
                    problems.append(
                        f"its {section}.{key} is {theirs}, but {value} is needed: train one with "
                        f"python train.py exp=erm exp.{section}.{key}={value}"
                    )
        if run.provenance.exists():
            known = read_json(run.provenance, Provenance).data
            for split in known:
                rows = self.dataset.split(split)
                if known[split].rows != rows_identity(rows.names, rows.codes):
                    problems.append(f"its {split} examples have other names or labels")
        if problems:
            raise UserError([f"exp.{stage}.run={run.path}: {problem}" for problem in problems])
        return Node(f"{stage}: {run.path}", lambda: True, run=run, checkpoint=checkpoint)
