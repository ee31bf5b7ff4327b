"""This project's side of each comparison: its own entrypoint functions, on drawn faces."""

import itertools
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest import mock

import torch

import train
from benchmarks import conventional
from src.config.compose import load_config, load_saved_config
from src.config.saved import save_config
from src.config.schema import dataset_options
from src.data.dataset import Dataset, open_dataset
from src.data.groupings import parse_groupings
from src.models.build import build_model
from src.runs.folder import Run
from src.sampling.plans import stack_labels
from src.training import loop as training
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
        train, val, test = self.sizes
        return [
            "exp=erm",
            "exp/dataset=synthetic",
            f"exp.dataset.root={self.folder}",
            f"exp.dataset.cache_dir={self.folder / 'cache'}",
            f"exp.dataset.synthetic.num_train={train}",
            f"exp.dataset.synthetic.num_val={val}",
            f"exp.dataset.synthetic.num_test={test}",
            f"exp.dataset.target_resolution=[{resolution},{resolution}]",
            f"exp.model.name={model}",
            "exp.model.pretrained=false",
            f"exp.dataloader.batch_size={batch_size}",
            f"exp.train.device={self.device.type}",
            "exp.train.tensorboard=false",
            "exp.train.total_epochs=1000000",
            *more,
        ]

    def dataset(self, resolution: int, cache: str = "records") -> Dataset:
        more = f"exp.dataset.cache={cache}"
        data = self.config(self.overrides("resnet18", resolution, 8, more)).dataset
        return open_dataset(**dataset_options(data), workers=0)

    def config(self, overrides: list[str]):
        return load_config([*overrides, f"exp.train.log_dir={self.folder / 'run'}"])

    @contextmanager
    def run(self, overrides: list[str]) -> Iterator[Run]:
        """The folder of a run that has been trained; it is gone afterwards."""
        place = Path(tempfile.mkdtemp(prefix="run-", dir=self.folder))
        try:
            config = load_config([*overrides, f"exp.train.log_dir={place}"])
            run = Run(place)
            save_config(config, run.config)
            train.train(config, run)
            yield run
        finally:
            shutil.rmtree(place)

    def rates(
        self, overrides: list[str], steps: int, windows: int, constant: bool = False
    ) -> list[float]:
        """Images/s of `windows` windows of `steps` steps each, after one to warm up.

        Args:
            constant: feed every step with the first batch, already on the device: pure compute.
        """
        limits = [f"exp.train.max_steps={steps * (windows + 1)}"]
        limits += [f"exp.train.log_every_n_steps={steps}"]
        with constant_batch() if constant else nullcontext(), self.run(overrides + limits) as run:
            lines = [line for line in read_metrics(run) if "train/loss" in line]
        return [line["time/images_per_second"] for line in lines[1:] if line["step"] % steps == 0]

    def turns(self, overrides: list[str], steps: int) -> list[tuple[float, float]]:
        """Images/s of neighbouring steps of one run on a CPU: (on the batch that comes next, on
        the first one again). After `steps` to warm up, `steps` are measured."""
        limits = [f"exp.train.max_steps={2 * steps}", f"exp.train.log_every_n_steps={2 * steps}"]
        times: list[tuple[bool, float]] = []
        taking_turns = _patched_batches(lambda stream, count: _Alternating(stream, count, times))
        with taking_turns, self.run(overrides + limits) as run:
            batch_size = load_saved_config(run.config).dataloader.batch_size
        measured = times[steps:]
        pairs = zip(measured[::2], measured[1::2], strict=True)
        return [tuple(batch_size / time for _, time in sorted(pair)) for pair in pairs]

    def losses(self, overrides: list[str], steps: int) -> list[float]:
        """The loss of each of the first steps."""
        limits = [f"exp.train.max_steps={steps}", "exp.train.log_every_n_steps=1"]
        with self.run(overrides + limits) as run:
            return [line["train/loss"] for line in read_metrics(run) if "train/loss" in line]

    def their_training(
        self,
        overrides: list[str],
        workers: int | None = None,
        batches: list | None = None,
    ) -> conventional.Training:
        """The conventional loop for the same configuration: data, network, weights, optimizer."""
        config = self.config(overrides)
        model = build_model(config.model.name, len(config.dataset.groupings), False, None, 0)
        loader = self.their_loader(
            "train",
            tuple(config.dataset.target_resolution),
            config.dataloader.batch_size,
            workers,
            batches,
            config.dataset.data_augmentation,
        )
        optimizer = config.optimizer
        return conventional.Training(
            model, loader, self.device, optimizer.lr, optimizer.weight_decay, optimizer.momentum
        )

    def their_loader(
        self,
        split: str,
        resolution: tuple[int, int],
        batch_size: int,
        workers: int | None = None,
        batches: list | None = None,
        augment: bool = False,
    ):
        dataset = self.dataset(resolution[0])
        rows, images = dataset.split(split), dataset.files
        labels = stack_labels(rows, parse_groupings(["Blond_Hair:Male"]))
        faces = conventional.Faces(
            [Path(images.path(str(name))) for name in rows.names],
            labels,
            conventional.make_transform(resolution, augment),
        )
        workers = self.workers if workers is None else workers
        return conventional.make_loader(faces, batch_size, workers, self.device, batches)


def constant_batch():
    """Training gets the first batch of each epoch again and again."""
    return _patched_batches(_Repeated)


@contextmanager
def _patched_batches(replace) -> Iterator[None]:
    """Training gets `replace(stream of an epoch's batches, their number)`."""
    real = training.iterate_batches

    def replaced(source, batches, *args, **options):
        return replace(real(source, batches, *args, **options), len(batches))

    with mock.patch.object(training, "iterate_batches", replaced):
        yield


class _Repeated:
    """A stream of batches that ends after `count` times the first one."""

    wait_seconds = 0.0

    def __init__(self, stream, count: int):
        with stream:
            self.first, self.count = next(stream), count

    def __iter__(self):
        return itertools.repeat(self.first, self.count)

    def close(self) -> None:
        pass


class _Alternating:
    """A stream of `count` batches: in turn the next one of `stream`, and its first one again.

    Adds (whether it was the first one, seconds until the one after it was asked for) to `times`,
    and takes each pair of turns in the other order than the one before, so that a machine that
    gets slower slows both. What the stream reads ahead, it reads in its own turns: a batch takes
    far less time to read than to train on.
    """

    def __init__(self, stream, count: int, times: list[tuple[bool, float]]):
        self.stream, self.times = stream, times
        self.turns = itertools.islice(itertools.cycle([False, True, True, False]), count)
        self.first = self.turn = None

    @property
    def wait_seconds(self) -> float:
        return self.stream.wait_seconds

    def __iter__(self):
        return self

    def __next__(self):
        now = time.perf_counter()
        if self.turn is not None:
            self.times.append((self.turn, now - self.start))
        self.start, self.turn = now, None
        self.turn = next(self.turns)
        if not self.turn:
            batch = next(self.stream)
            self.first = self.first or batch
        return self.first if self.turn else batch

    def close(self) -> None:
        self.stream.close()


def seconds(call) -> float:
    """How long `call()` takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
