"""This project's side of each comparison: its own entrypoint functions, on drawn faces."""

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from unittest import mock

import torch
from torch.utils.data import DataLoader

import train
from benchmarks import conventional
from src.config.compose import load_config
from src.config.dataset import dataset_options
from src.config.saved import save_config
from src.config.schema import Config
from src.data.dataset import Dataset, open_dataset
from src.data.groupings import parse_groupings
from src.models.build import build_model
from src.runs.folder import Run
from src.sampling.plans import stack_labels
from src.training import loop
from src.training.metrics_log import read_metrics


class Bench:
    """Faces, a device and sizes that the rows share.

    Args:
        folder: where faces, caches and short runs are kept.
        sizes: faces of train, val and test.
        workers: decoding processes of the conventional loop.
    """

    def __init__(
        self, folder: Path, device: torch.device, sizes: tuple[int, int, int], workers: int
    ):
        self.folder, self.device, self.sizes, self.workers = folder, device, sizes, workers

    def overrides(self, model: str, resolution: int, batch_size: int, *more: str) -> list[str]:
        names = ("num_train", "num_val", "num_test")
        counts = [f"exp.dataset.synthetic.{n}={size}" for n, size in zip(names, self.sizes)]
        return [
            *("exp=erm", "exp/dataset=synthetic", f"exp.dataset.root={self.folder}", *counts),
            f"exp.dataset.cache_dir={self.folder / 'cache'}",
            f"exp.dataset.target_resolution=[{resolution},{resolution}]",
            *(f"exp.model.name={model}", "exp.model.pretrained=false"),
            f"exp.dataloader.batch_size={batch_size}",
            *(f"exp.train.device={self.device.type}", "exp.train.tensorboard=false"),
            "exp.train.total_epochs=1000000",
            *more,
        ]

    def config(self, overrides: list[str]) -> Config:
        return load_config([*overrides, f"exp.train.log_dir={self.folder / 'run'}"])

    def dataset(self, resolution: int) -> Dataset:
        data = self.config(self.overrides("resnet18", resolution, 8)).dataset
        return open_dataset(**dataset_options(data), workers=0)

    @contextmanager
    def run(self, overrides: list[str]) -> Iterator[Run]:
        """Train a run, whose folder is deleted afterwards."""
        with tempfile.TemporaryDirectory(prefix="run-", dir=self.folder) as folder:
            config, run = load_config([*overrides, f"exp.train.log_dir={folder}"]), Run(folder)
            save_config(config, run.config)
            train.train(config, run)
            yield run

    def rates(
        self, overrides: list[str], steps: int, windows: int, constant: bool = False
    ) -> list[float]:
        """Return images/s of `windows` windows of `steps` steps, after one to warm up.

        Args:
            constant: feed every step with the first batch, already on the device: pure compute.
        """
        limits = [f"exp.train.max_steps={steps * (windows + 1)}"]
        limits += [f"exp.train.log_every_n_steps={steps}"]
        with constant_batch() if constant else nullcontext(), self.run(overrides + limits) as run:
            return window_rates(run, steps)

    def losses(self, overrides: list[str], steps: int) -> list[float]:
        """Return the loss of each of the first steps."""
        limits = [f"exp.train.max_steps={steps}", "exp.train.log_every_n_steps=1"]
        with self.run(overrides + limits) as run:
            return [line["train/loss"] for line in read_metrics(run) if "train/loss" in line]

    def their_training(
        self, overrides: list[str], batches: list | None = None
    ) -> conventional.Training:
        """Return the conventional loop with the data, network and optimizer of a configuration."""
        config = self.config(overrides)
        model = build_model(config.model.name, len(config.dataset.groupings), False, None, 0)
        resolution, batch_size = config.dataset.target_resolution, config.dataloader.batch_size
        loader = self.their_loader("train", resolution[0], batch_size, batches)
        options = config.optimizer.model_dump(include={"lr", "weight_decay", "momentum"})
        return conventional.Training(model, loader, self.device, **options)

    def their_loader(
        self,
        split: str,
        resolution: int,
        batch_size: int,
        batches: list | None = None,
        augment: bool = False,
        workers: int | None = None,
    ) -> DataLoader:
        dataset = self.dataset(resolution)
        rows, files = dataset.split(split), dataset.files
        labels = stack_labels(rows, parse_groupings(["Blond_Hair:Male"]))
        paths = [Path(files.path(str(name))) for name in rows.names]
        transform = conventional.make_transform((resolution, resolution), augment)
        faces = conventional.Faces(paths, labels, transform)
        workers = self.workers if workers is None else workers
        return conventional.make_loader(faces, batch_size, workers, self.device, batches)


def window_rates(run: Run, steps: int) -> list[float]:
    """Return images/s of the whole windows of `steps` steps of a run, but for the first one."""
    lines = [line for line in read_metrics(run) if "train/loss" in line]
    return [line["time/images_per_second"] for line in lines[1:] if line["step"] % steps == 0]


@contextmanager
def constant_batch() -> Iterator[None]:
    """Give the training loop the first batch of each epoch again and again."""
    real = loop.iterate_batches

    def repeated(source, batches, *args, **options):
        return _Repeated(real(source, batches, *args, **options), len(batches))

    with mock.patch.object(loop, "iterate_batches", repeated):
        yield


class _Repeated:
    """A stream of `count` times the first batch of another stream."""

    wait_seconds = 0.0

    def __init__(self, stream, count: int):
        with closing(stream):
            self.first, self.count = next(stream), count

    def __iter__(self):
        return itertools.repeat(self.first, self.count)

    def close(self) -> None:
        pass
