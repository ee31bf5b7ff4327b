"""Nodes of staged methods, made from a configuration; see src/methods/stages.py."""

import shlex
from typing import Any

from src.config.compose import load_saved_config, stage_config
from src.config.saved import save_config
from src.config.schema import Config
from src.data.dataset import Dataset
from src.data.groupings import Grouping
from src.io import UserError
from src.methods.stages import Node, export_node, training_node
from src.runs.folder import Run


class ConfiguredStages:
    """The nodes of one run; implements `src.methods.stages.Stages`."""

    def __init__(self, config: Config, run: Run, dataset: Dataset, groupings: list[Grouping]):
        self.config, self.run = config, run
        self.dataset, self.groupings = dataset, groupings
        self.settings = config.dataloader

    def train(self, stage: str, inputs: tuple[Node, ...] = (), **fixed: dict[str, Any]) -> Node:
        given = getattr(self.config, stage)
        if given.run is not None:
            return self._finished(stage, Run(given.run), given.checkpoint)
        run = Run(self.run.path / stage)
        config = stage_config(self.config, stage, **fixed)
        config.train.log_dir = str(run.path)
        name = f"{stage.replace('_', ' ')}: training in {run.path}"
        return training_node(name, run, lambda: save_config(config, run.config), inputs)

    def export(self, node: Node, split: str, features: bool = False) -> Node:
        return export_node(node, split, features)

    def _finished(self, stage: str, run: Run, checkpoint: str) -> Node:
        """Use a finished run as a stage, after checking that it fits."""
        config, problems = load_saved_config(run.config), []
        command = shlex.join(["python", "train.py", "--resume", str(run.path)])
        if run.status()["state"] != "done":
            problems.append(f"it is not finished; {command} continues it")
        for key in ("name", "groupings", "target_resolution"):
            theirs, ours = getattr(config.dataset, key), getattr(self.config.dataset, key)
            if theirs != ours:
                problems.append(f"its dataset.{key} is {theirs}, here {ours}")
        if problems:
            raise UserError([f"exp.{stage}.run={run.path}: {problem}" for problem in problems])
        return Node(f"{stage}: {run.path}", lambda: True, run=run, checkpoint=checkpoint)
