"""Staged methods: a graph of nodes, each of which makes an artifact from those of its inputs.

A node is a training run, the export of a run's logits or features, or a file derived from them.
Finished nodes are never repeated, and every node resumes. Training and export run as subprocesses,
so that each gives the device back when it ends.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from src.data.dataset import Dataset
from src.data.groupings import Grouping
from src.runs.folder import Heartbeat, Run
from src.runs.process import run_child
from src.runs.selection import find_best_ckpt
from src.runs.signals import stop_on_signal

ROOT = Path(__file__).parents[2]


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
    inputs: tuple["Node", ...] = field(default=())
    run: Run | None = None
    checkpoint: str = "last"

    def epoch(self) -> int | str:
        """Return the epoch of the run's checkpoint."""
        return find_best_ckpt(self.run, self.checkpoint)


class Stages(Protocol):
    """What the graph of a method is built from; src/config/stages.py implements it."""

    run: Run
    groupings: list[Grouping]
    tasks: list[str]
    seed: int
    max_steps: int | None
    settings: Any  # plain values of exp.dataloader
    options: Any  # plain values of exp.<method>

    @property
    def dataset(self) -> Dataset: ...

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

    def frozen(self, stage: str) -> Node:
        """Return a node that holds a stage's network with its first weights, not trained."""

    def export(
        self, node: Node, split: str, features: bool = False, epoch: int | None = None
    ) -> Node:
        """Return a node that saves the logits (and features) of a training node on a split."""

    def stage_settings(self, stage: str) -> dict[str, Any]:
        """Return the values of exp.optimizer, total_epochs, max_steps and batch_size of a stage."""

    def head(self, first: Node, fit: Callable, inputs: tuple[Node, ...], kind: str) -> Node:
        """Return a node that fits a head (`kind` as in exp.model.head) and writes stage_2.

        Args:
            first: the run whose features it is fitted on; `inputs` export them.
            fit: called with `HeadData`, returns a `Head`; see src/methods/heads.py.
        """


def run_graph(node: Node, run: Run) -> None:
    """Make a node and, first, all that it needs."""
    with stop_on_signal() as stop, Heartbeat(run) as heartbeat:
        _make(node, heartbeat, stop)


def _make(node: Node, heartbeat: Heartbeat, stop: Callable[[], int | None]) -> None:
    if node.done():
        return
    for needed in node.inputs:
        _make(needed, heartbeat, stop)
    print(node.name, flush=True)
    node.make(heartbeat, stop)


def training_node(
    name: str, run: Run, save_config: Callable[[], None], inputs: tuple[Node, ...]
) -> Node:
    """Return a node that trains in a run folder, from the configuration that is saved in it."""

    def make(heartbeat: Heartbeat, stop: Callable[[], int | None]) -> None:
        save_config()
        command = [sys.executable, str(ROOT / "train.py"), "--resume", str(run.path)]
        run_child(command, run, heartbeat, stop)

    return Node(name, lambda: run.status()["state"] == "done", make, inputs, run)


def export_node(node: Node, split: str, features: bool, checkpoint: str) -> Node:
    """Return a node that saves logits (and features) of a training node on a split."""

    def done() -> bool:
        if not node.done():
            return False
        epoch = find_best_ckpt(node.run, checkpoint)
        paths = [node.run.logits(split, epoch)] + [node.run.features(split, epoch)] * features
        return all(path.exists() for path in paths)

    def make(heartbeat: Heartbeat, stop: Callable[[], int | None]) -> None:
        command = [sys.executable, str(ROOT / "test.py"), "--log_dir", str(node.run.path)]
        command += ["--ckpt_num", checkpoint, "--split", split]
        command += ["--features"] * features
        run_child(command, node.run, heartbeat, stop)

    what = "logits and features" if features else "logits"
    return Node(f"{what} of {node.run.path} on {split}", done, make, (node,), node.run)
