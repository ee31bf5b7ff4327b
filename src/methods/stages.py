"""Staged methods: a graph of nodes, each of which makes an artifact from those of its inputs.

A node is a training run, the export of a run's logits or features, or a file derived from them.
Finished nodes are never repeated, and every node resumes. Training and export run as subprocesses,
so that each gives the device back when it ends.
"""

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.config.compose import load_saved_config, stage_config
from src.config.saved import save_config
from src.config.schema import Config, group_options
from src.data.dataset import Dataset
from src.data.groupings import Grouping
from src.evaluation.logits import rows_identity
from src.io import UserError, read_json
from src.methods.found_groups import FoundGroups, GroupLabels, save_found_groups
from src.methods.heads import Head, HeadData, write_frozen_run, write_head_run
from src.runs.folder import Heartbeat, Run
from src.runs.process import run_child
from src.runs.provenance import Provenance
from src.runs.selection import find_best_ckpt
from src.runs.signals import stop_on_signal

ROOT = Path(__file__).parents[2]
Stop = Callable[[], int | None]  # returns the signal that asks to stop, if one came


@dataclass(frozen=True)
class Node:
    """One step of a staged method.

    Attributes:
        name: shown when the node is made.
        done: whether its artifact exists and is complete.
        make: called as (heartbeat, stop) to make it.
        inputs: nodes that are needed first.
        run: the run folder of a training node.
        checkpoint: of that run, used by later nodes: an epoch, `last`, or a rule.
    """

    name: str
    done: Callable[[], bool]
    make: Callable[..., None] = lambda *_: None
    inputs: tuple["Node", ...] = ()
    run: Run | None = None
    checkpoint: str = "last"

    def epoch(self) -> int | str:
        """Return the epoch of the run's checkpoint."""
        return find_best_ckpt(self.run, self.checkpoint)


def run_graph(node: Node, run: Run) -> None:
    """Make a node and, first, all that it needs."""
    with stop_on_signal() as stop, Heartbeat(run) as heartbeat:
        _make(node, heartbeat, stop)


def _make(node: Node, heartbeat: Heartbeat, stop: Stop) -> None:
    if node.done():
        return
    for needed in node.inputs:
        _make(needed, heartbeat, stop)
    print(node.name, flush=True)
    node.make(heartbeat, stop)


class Stages:
    """Makes the nodes of a run from its configuration."""

    def __init__(self, config: Config, run: Run, dataset: Dataset, groupings: list[Grouping]):
        self.config, self.run, self.seed = config, run, config.seed
        self.dataset, self.groupings = dataset, groupings
        self.tasks = [grouping.task for grouping in groupings]
        self.options = getattr(config, config.method, None)

    def train(
        self,
        stage: str,
        inputs: tuple[Node, ...] = (),
        epochs: Sequence[int] = (),
        own_step: bool = False,
        folder: str | None = None,
        **fixed: dict[str, Any],
    ) -> Node:
        """Return a training node: the run's settings, with `fixed` values by section.

        With `own_step` it trains by the method's class in src/methods/registry.py, else plainly.
        The run is in `folder` of the run folder, by default in that of the stage's name.

        A finished run that the user names instead must have these values, and have kept `epochs`.
        """
        if getattr(self.config, stage).run is not None:
            return self._finished(stage, epochs, fixed)
        run, config = self._stage(stage, folder or stage, own_step, **fixed)
        if epochs and config.train.keep_ckpts != "all":
            kept = config.train.keep_ckpts
            config.train.keep_ckpts = sorted({*epochs, *(kept if kept != "best" else ())})
        if max(epochs, default=0) > config.train.total_epochs:
            raise UserError(
                f"exp.{stage} has {config.train.total_epochs} epochs, but epoch {max(epochs)} is "
                f"needed: raise exp.train.total_epochs, or set exp.self.early_epochs"
            )

        def make(heartbeat: Heartbeat, stop: Stop) -> None:
            save_config(config, run.config)
            command = [sys.executable, str(ROOT / "train.py"), "--resume", str(run.path)]
            run_child(command, run, heartbeat, stop)

        name = f"{run.path.name.replace('_', ' ')}: training in {run.path}"
        return Node(name, lambda: run.status()["state"] == "done", make, inputs, run)

    def frozen(self, stage: str) -> Node:
        """Return a node that holds a stage's network with its first weights, not trained."""
        if getattr(self.config, stage).run is not None:
            return self._finished(stage)
        run, config = self._stage(stage, stage)

        def make(*_: object) -> None:
            save_config(config, run.config)
            classes = [grouping.num_classes for grouping in self.groupings]
            write_frozen_run(run, config.model.model_dump(), classes, config.seed)

        name = f"{stage.replace('_', ' ')}: the first weights of {config.model.name}"
        return Node(name, lambda: run.status()["state"] == "done", make, (), run)

    def export(
        self, node: Node, split: str, features: bool = False, epoch: int | None = None
    ) -> Node:
        """Return a node that saves the logits (and features) of a training node on a split."""
        run, checkpoint = node.run, node.checkpoint if epoch is None else str(epoch)

        def done() -> bool:
            if not node.done():
                return False
            found = find_best_ckpt(run, checkpoint)
            paths = [run.logits(split, found)] + [run.features(split, found)] * features
            return all(path.exists() for path in paths)

        def make(heartbeat: Heartbeat, stop: Stop) -> None:
            command = [sys.executable, str(ROOT / "test.py"), "--log_dir", str(run.path)]
            command += ["--ckpt_num", checkpoint, "--split", split]
            run_child(command + ["--features"] * features, run, heartbeat, stop)

        what = "logits and features" if features else "logits"
        return Node(f"{what} of {run.path} on {split}", done, make, (node,), run)

    def head(
        self,
        first: Node,
        fit: Callable[[HeadData, Any], Head],
        splits: Sequence[str],
        inputs: Sequence[Node] = (),
        kind: str = "linear",
    ) -> Node:
        """Return stage 2: a head on the features of `first`, saved on `splits`.

        Args:
            fit: called with the data and the method's options.
            inputs: what it needs besides.
            kind: as in exp.model.head.
        """
        features = [self.export(first, split, features=True) for split in splits]
        run, config = self._stage("stage_2", "stage_2")
        config.model.head = kind

        def make(heartbeat: Heartbeat, stop: Stop) -> None:
            labels = GroupLabels(self.dataset, self.groupings, **group_options(config))
            data = HeadData(first.run, first.epoch(), labels)
            save_config(config, run.config)
            write_head_run(run, data, fit(data, self.options), heartbeat)

        name, needed = f"stage 2: a head on the features of {first.run.path}", (*features, *inputs)
        return Node(name, lambda: run.status()["state"] == "done", make, needed, run)

    def train_on_found_groups(
        self, inputs: tuple[Node, ...], find: Callable[[Stop], FoundGroups], own_step: bool = False
    ) -> Node:
        """Return stage 2, which trains on the groups that `find` returns.

        Args:
            find: called with `stop`, after `inputs` are made.
            own_step: see `train`.
        """
        path = self.run.path / "found_groups.npz"

        def make(_: Heartbeat, stop: Stop) -> None:
            save_found_groups(path, self.tasks, find(stop))

        found = Node(path.name, path.exists, make, inputs)
        dataloader = {"found_groups": str(path)}
        return self.train("stage_2", (found,), own_step=own_step, dataloader=dataloader)

    def _stage(
        self, stage: str, folder: str, own_step: bool = False, **fixed: dict[str, Any]
    ) -> tuple[Run, Config]:
        """Return the run folder and the configuration of a stage."""
        run = Run(self.run.path / folder)
        config = stage_config(self.config, stage, own_step, **fixed)
        config.train.log_dir = str(run.path)
        return run, config

    def _finished(
        self, stage: str, epochs: Sequence[int] = (), fixed: dict[str, dict[str, Any]] | None = None
    ) -> Node:
        """Use a finished run as a stage, after checking that it fits."""
        given = getattr(self.config, stage)
        run, problems = Run(given.run), []
        config = load_saved_config(run.config)
        if run.status()["state"] != "done":
            command = shlex.join(["python", "train.py", "--resume", str(run.path)])
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
        for section, values in (fixed or {}).items():
            for key, value in values.items():
                theirs = getattr(getattr(config, section), key)
                if section != "train" and theirs != value:
                    problems.append(
                        f"its {section}.{key} is {theirs}, but {value} is needed: train one with "
                        f"python train.py exp=erm exp.{section}.{key}={value}"
                    )
        if run.provenance.exists():
            for split, data in read_json(run.provenance, Provenance).data.items():
                rows = self.dataset.split(split)
                if data.rows != rows_identity(rows.names, rows.codes):
                    problems.append(f"its {split} examples have other names or labels")
        if problems:
            raise UserError([f"exp.{stage}.run={run.path}: {problem}" for problem in problems])
        return Node(f"{stage}: {run.path}", lambda: True, run=run, checkpoint=given.checkpoint)
