"""Record the first steps of every preset: losses, and hashes of what the network saw.

python -m tests.golden.record --out FILE [--work FOLDER]

`make golden BASE=<commit>` runs this file of two commits and compares the results bit by bit. Each
commit records itself in its own way; only the format of the file is shared:
{run: {"losses": [[total, each task...] per step], "indices": [hash per epoch], "pixels": hash}}.
"""

import argparse
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import torch
from torch import nn

from tests.golden.presets import PRESETS, SMALL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="folder for the drawn faces and the runs")
    parser.add_argument("presets", nargs="*", default=[*PRESETS])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        records = record(args.work or Path(scratch), args.presets)
    args.out.write_text(format_records(records))


def record(work: Path, presets: list[str]) -> dict[str, Any]:
    """Train each preset in `work`; the records of its runs by name (jtt has two stages)."""
    records: dict[str, Any] = {}
    shutil.rmtree(work / "runs", ignore_errors=True)
    for preset in presets:
        folder = work / "runs" / preset
        with pytest.MonkeyPatch.context() as patch:
            seen = watch_batches(patch)
            train(patch, preset, work, folder)
        for path in sorted(folder.rglob("metrics.jsonl")):
            stage = path.parent.relative_to(folder)
            name = preset if path.parent == folder else f"{preset}/{stage}"
            records[name] = {"losses": read_losses(path), **seen[str(path.parent)]}
    return records


def train(patch: pytest.MonkeyPatch, preset: str, work: Path, folder: Path) -> None:
    """Run a preset in this process, the stages of jtt included."""
    import test
    import train
    from src.config import compose
    from src.methods import stages
    from src.models import build

    def run_child(command: list[str], *_: Any) -> None:
        if Path(command[1]).name == "test.py":
            return test.main(command[2:])
        train.resume(command[3])

    patch.setattr(stages, "run_child", run_child)
    if preset != "resnet18":
        patch.setattr(build, "build_model", build_small_network)
    places = [f"exp.dataset.root={work}/data", f"exp.dataset.cache_dir={work}/cache"]
    overrides = [*SMALL, *PRESETS[preset], *places, f"exp.train.log_dir={folder}"]
    train.main(compose.load_config(overrides))


def build_small_network(
    name: str,
    num_logits: int,
    pretrained: bool,
    weights: None,
    seed: int,
    head: str = "linear",
    **_,
) -> nn.Module:
    """Two convolutions with batch norm; unlike a random ResNet it does not amplify rounding."""
    from src.models.build import Network

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = [nn.Conv2d(3, 16, 5, 2), nn.BatchNorm2d(16), nn.ReLU()]
        body += [nn.Conv2d(16, 32, 5, 2), nn.BatchNorm2d(32), nn.ReLU()]
        backbone = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return Network(backbone, nn.Linear(32, num_logits))


def watch_batches(patch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Hash what the training loop reads: run folder -> {"indices": [...], "pixels": ...}."""
    from src.training import loop as training

    seen: dict[str, dict[str, Any]] = {}
    train_epoch, iterate = training.Trainer._train_epoch, training.iterate_batches

    def watched_epoch(trainer: Any) -> None:
        entry = seen.setdefault(str(trainer.run.path), {"indices": [], "pixels": None})
        patch.setattr(training, "iterate_batches", watching(entry))
        train_epoch(trainer)

    def watching(entry: dict[str, Any]) -> Any:
        def iterate_and_hash(source: Any, batches: Any, *args: Any, **options: Any) -> Any:
            entry["indices"].append(digest(np.concatenate(batches)))
            return Watched(iterate(source, batches, *args, **options), entry)

        return iterate_and_hash

    patch.setattr(training.Trainer, "_train_epoch", watched_epoch)
    return seen


class Watched(Iterator):
    """A stream of batches that hashes the images of the first batch of a run."""

    def __init__(self, stream: Any, entry: dict[str, Any]):
        self.stream, self.entry = stream, entry

    @property
    def wait_seconds(self) -> float:
        return self.stream.wait_seconds

    def __next__(self) -> Any:
        images, positions = next(self.stream)
        if self.entry["pixels"] is None:
            self.entry["pixels"] = digest(images.contiguous().numpy())
        return images, positions

    def close(self) -> None:
        self.stream.close()


def read_losses(metrics: Path) -> list[list[float]]:
    """Rows (total loss, loss of each task) of a run that logs every step."""
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    steps = [line for line in lines if "train/loss" in line]
    tasks = [key for key in steps[0] if key.endswith("/loss") and key.count("/") == 2]
    return [[line[key] for key in ("train/loss", *tasks)] for line in steps]


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()[:16]


def format_records(records: dict[str, Any]) -> str:
    """JSON with a line for each step, so that a change can be read in a diff."""
    return json.dumps(records, indent=1).replace("\n    ", "").replace("\n   ]", "]") + "\n"


if __name__ == "__main__":
    main()
