"""A training run of milliseconds: 20 drawn images, a network of one convolution, 3 steps an epoch.

`python -m tests.tiny_training FOLDER PLACE` trains and kills itself at a place, see `kill_at`.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from src.data.celeba import ATTRIBUTES
from src.data.groupings import parse_groupings
from src.data.pixels import Pixels
from src.data.table import Table
from src.io import read_json
from src.models.build import Network
from src.objective.batch import TrainTables
from src.objective.compose import Objective
from src.objective.logits import LogitLayout
from src.objective.options import ObjectiveOptions
from src.runs.folder import Run
from src.sampling.epochs import IndexPlan, Schedule
from src.training import loop as training
from src.training import validation
from src.training.checkpoints import load_checkpoint
from src.training.distributed import Ranks
from src.training.method import Method
from src.training.validation import Validation

NUM_TRAIN, STEPS_PER_EPOCH, EPOCHS = 20, 3, 3  # batches of 8, 8 and 4
CPU = torch.device("cpu")


class MemoryImages:
    """Random images in memory, read like decoded records."""

    fingerprint: ClassVar = {"crc": "memory"}

    def __init__(self, count: int, full_frame: bool = False):
        self.pixels = Pixels((6, 6), full_frame)
        self.shape = self.pixels.shape
        self.sizes = np.tile(self.shape[:2], (count, 1))
        self.images = np.random.default_rng(count).integers(0, 256, (count, *self.shape), np.uint8)

    def read(self, positions: np.ndarray, out: np.ndarray) -> np.ndarray:
        out[...] = self.images[positions]
        return out


class MemoryDataset:
    """A validation split of 16 examples with random attributes."""

    def split(self, split: str) -> Table:
        attributes = np.random.default_rng(1).integers(0, 2, (16, 40), np.uint8)
        names = np.array([f"{row}.jpg" for row in range(16)])
        return Table(names, np.ones(16, np.uint8), attributes, ATTRIBUTES)

    def images(self, split: str) -> MemoryImages:
        return MemoryImages(NUM_TRAIN if split == "train" else 16)


def tiny_network(num_logits: int, dropout: float = 0.0) -> Network:
    """One convolution with batch norm."""
    body = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()]
    body += [nn.Dropout(dropout)] if dropout else []
    backbone = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Network(backbone, nn.Linear(4, num_logits))


def make_trainer(
    folder: Path,
    tasks: tuple[str, ...] = ("Young", "Bald"),
    weights: list[float] | None = None,
    lbtw: bool = False,
    plan: IndexPlan | None = None,
    plans: Schedule | None = None,
    objective: dict[str, Any] | None = None,
    method: type[Method] = Method,
    method_options: Any = None,
    hook: Callable[[training.Trainer], Any] = lambda trainer: None,
    dropout: float = 0.0,
    **changes: Any,
) -> training.Trainer:
    """A trainer in `folder`; `hook` is called before each forward pass, `changes` are settings."""
    run, precision = Run(folder), changes.pop("precision", "fp32")
    device, config = changes.pop("device", CPU), settings(**changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = tiny_network(len(tasks), dropout)
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, (NUM_TRAIN, len(tasks)), np.uint8).astype(np.int64)
    groups = 2 * labels + rng.integers(0, 2, (NUM_TRAIN, 1))
    groupings = parse_groupings([f"{task}:Male" for task in tasks], training=True)
    tables = TrainTables(
        LogitLayout([2] * len(tasks)),
        torch.from_numpy(labels).to(device),
        torch.from_numpy(groups).to(device),
        [4] * len(tasks),
        tasks,
    )
    options = ObjectiveOptions(**{"across": "lbtw" if lbtw else "static", **(objective or {})})
    chosen = method(method_options, tables, config.dataloader.batch_size, (6, 6))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = chosen.wrap(model, lambda: tiny_network(len(tasks), dropout))
    trainer = training.Trainer(
        run,
        model.to(device, memory_format=torch.channels_last),
        chosen,
        Objective(options, tables, weights or [1.0] * len(tasks), 0.5),
        plans or chosen.schedule(plan or IndexPlan(np.arange(NUM_TRAIN)), config.seed),
        MemoryImages(NUM_TRAIN, config.dataset.data_augmentation),
        Validation(
            *(run, MemoryDataset(), MemoryDataset().split("val"), groupings, True),
            *(8, device, precision, Ranks()),
        ),
        *(config, device, precision),
    )
    model.register_forward_pre_hook(lambda *_: hook(trainer))
    return trainer


def settings(**changes: Any) -> SimpleNamespace:
    """What the loop reads of a configuration; `changes` are keys of any section."""
    sections = {
        "optimizer": {"name": "sgd", "lr": 0.1, "weight_decay": 1e-3, "momentum": 0.9}
        | {"schedule": None, "warmup_steps": 0},
        "dataset": {"data_augmentation": False},
        "dataloader": {"batch_size": 8, "device_cache": False},
        "train": {"total_epochs": EPOCHS, "max_steps": None, "compile": False, "cuda_graph": True}
        | {"log_every_n_steps": 2, "save_every_minutes": 10.0, "val_every_n_epochs": 1}
        | {"keep_ckpts": "all", "trackers": []},
    }
    seed = changes.pop("seed", 0)
    for key, value in changes.items():
        next(values for values in sections.values() if key in values)[key] = value
    parts = {name: SimpleNamespace(**values) for name, values in sections.items()}
    return SimpleNamespace(seed=seed, **parts)


def outcome(folder: Path) -> dict[str, Any]:
    """Everything a run leaves that must not depend on interruptions: tensors as bytes."""
    run = Run(folder)
    state = load_checkpoint(run.checkpoint("last"))
    return {
        "state": _plain(state),
        "metrics": [
            {key: value for key, value in json.loads(line).items() if not key.startswith("time/")}
            for line in run.metrics.read_text().splitlines()
        ],
        "history": read_json(run.val_stats),
        "checkpoints": sorted(path.name for path in run.ckpts.iterdir()),
        "status": run.status()["state"],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return value


def at(step: int, act: Callable[[], Any], validating: bool = False) -> Callable:
    """A hook that acts once: at the forward pass after `step` steps, of training or validation."""
    done = []

    def hook(trainer: training.Trainer) -> None:
        if not done and trainer.step == step and trainer.model.training != validating:
            done.append(True)
            act()

    return hook


def kill_at(place: str, die: Callable[[], Any]) -> Callable:
    """A hook that dies in a `step`, in the `validation` after epoch 2, while its checkpoint is
    `saved`, before it is `linked` as the last one, before the best one is `chosen`, or before the
    others are `pruned`."""
    if place == "step":
        return at(5, die)
    if place == "validation":
        return at(6, die, validating=True)

    def hook(trainer: training.Trainer) -> None:
        if trainer.step < 6:
            return
        module, name = {
            "saved": (training, "save_checkpoint"),
            "linked": (training, "link_checkpoint"),
            "chosen": (validation, "record_validation"),
            "pruned": (training, "prune"),
        }[place]
        setattr(module, name, lambda *_: die())

    return hook


if __name__ == "__main__":
    torch.set_num_threads(1)
    make_trainer(
        Path(sys.argv[1]),
        hook=kill_at(sys.argv[2], lambda: os.kill(os.getpid(), signal.SIGKILL)),
        save_every_minutes=1e-9,
    ).train()
