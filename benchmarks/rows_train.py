"""Rows about training and evaluation: whole steps beside the conventional loop's."""

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks import conventional
from benchmarks.compare import Row, absolute, compare, interleave, seconds
from benchmarks.ours import Bench, window_rates
from src.evaluation.predict import predict
from src.models.build import build_model
from src.runs.folder import Run
from src.sampling.epochs import epoch_positions, split_batches
from src.sampling.plans import erm
from src.training.devices import choose_precision

SMALL = {"model": "resnet18", "resolution": 64}
FULL = {"model": "resnet50", "resolution": 224}


def constant_row(
    bench: Bench, model: str, resolution: int, batch: int, steps: int, target: float, repeats: int
) -> Row:
    """Compare training with the same step on one constant batch: what the data cost."""
    run = partial(bench.rates, bench.overrides(model, resolution, batch), steps=steps, windows=2)
    run()  # warm: the cache is built, libraries have chosen their kernels
    pairs = interleave(lambda: median(run()), lambda: median(run(constant=True)), repeats)
    name = f"step beside a constant batch, {model} {resolution} batch {batch}"
    note = "theirs is our own step on one batch that already lies on the device"
    return compare(name, "images/s", pairs, target, note)


def training_row(
    bench: Bench, model: str, resolution: int, batch: int, steps: int, target=None, repeats=3
) -> Row:
    """Compare training with the conventional loop, both steady."""
    overrides = bench.overrides(model, resolution, batch)
    theirs = bench.their_training(overrides)
    theirs.run(steps)  # starts its workers
    ours = partial(bench.rates, overrides, steps, 2)
    pairs = interleave(lambda: median(ours()), lambda: theirs.run(2 * steps), repeats)
    note = f"the conventional loop has {bench.workers} workers"
    return compare(f"training, {model} {resolution} batch {batch}", "images/s", pairs, target, note)


def agreement_row(bench: Bench, model: str, resolution: int, steps: int) -> Row:
    """Measure the largest relative difference of the two loops' losses: same weights and data.

    Training multiplies rounding errors; a small learning rate keeps the comparison about the loops.
    A ResNet-50 from scratch is ill-conditioned all the same (docs/speed.md), so the note has the
    difference of the conventional loop to itself in channels_last, too.
    """
    batch, limit = 32, 1e-3 if bench.device.type == "cpu" else 5e-2
    overrides = bench.overrides(model, resolution, batch, "exp.optimizer.lr=0.0001")
    if bench.device.type == "cuda":
        # As the conventional loop does: fp16's scaler skips the same steps until its scale fits.
        overrides.append("exp.train.precision=fp16")
    ours = np.array(bench.losses(overrides, steps))
    batches = split_batches(epoch_positions(erm(bench.sizes[0]), 0, epoch=1), batch)

    def their_losses(memory_format: torch.memory_format) -> np.ndarray:
        training = bench.their_training(overrides, batches)
        training.model.to(memory_format=memory_format)
        training.run(steps)
        return np.array(training.losses)

    theirs, again = map(their_losses, (torch.contiguous_format, torch.channels_last))
    assert ours[-5:].mean() < 0.95 * ours[:3].mean(), "the network does not learn here"
    worst, mean = difference(ours, theirs)
    note = (
        f"of the mean loss; {mean:.2g} on average. The conventional loop differs from itself in "
        "channels_last by {:.2g}, {:.2g} on average".format(*difference(again, theirs))
    )
    name = f"loss curves differ at most, {steps} steps of {model}"
    return absolute(name, "share", [worst], limit, note)


def difference(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Return how much two loss curves (S,) differ, at most and on average, in mean losses."""
    apart = np.abs(one - other) / other.mean()
    return float(apart.max()), float(apart.mean())


def evaluation_row(
    bench: Bench, model: str, resolution: int, batch: int, target=None, repeats=3
) -> Row:
    """Compute the logits of the test split; the conventional loop uses its training batch."""
    count, device = bench.sizes[2], bench.device
    images = bench.dataset(resolution).images("test")
    mine, plain = (build_model(model, 1, False, None, 0).to(device) for _ in range(2))
    mine = mine.to(memory_format=torch.channels_last)
    batches = np.array_split(np.arange(count), max(1, count // batch))
    loader = bench.their_loader("test", resolution, batch, batches)
    precision = choose_precision("auto", device)
    ours = partial(predict, mine, images, count, 1, device, precision, 512)
    theirs = partial(conventional.evaluate, plain, loader, device)
    a, b = ours().logits, theirs()
    tolerance = 1e-3 if device.type == "cpu" else 0.1
    assert np.abs(a - b).max() < tolerance * max(1.0, np.abs(b).max()), "other logits"
    pairs = interleave(lambda: count / seconds(ours), lambda: count / seconds(theirs), repeats)
    name = f"evaluation of a split, {model} {resolution}"
    return compare(name, "images/s", pairs, target, f"conventional batch {batch}")


def processes_row(bench: Bench, model: str, resolution: int, batch: int, steps: int) -> Row:
    """Train with several processes: two beside two threads of one, or all GPUs beside one."""
    on_cpu = bench.device.type == "cpu"
    count = 2 if on_cpu else torch.cuda.device_count()

    def rate(processes: int) -> float:
        threads = {"OMP_NUM_THREADS": str(count // processes)} if on_cpu else {}
        argv = bench.overrides(model, resolution, batch, f"exp.train.num_devices={processes}")
        return rate_of_command(argv, steps, threads)

    pairs = interleave(lambda: rate(count), lambda: rate(1), repeats=3)
    theirs = f"one with {count} threads" if on_cpu else "one GPU"
    name = f"{count} processes, {model} {resolution} batch {batch}"
    return compare(name, "images/s", pairs, None, f"theirs is {theirs}")


def rate_of_command(argv: list[str], steps: int, variables: dict[str, str]) -> float:
    """Train in a process; return the median images/s over windows of `steps` steps."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder) / "run")
        command = [sys.executable, "train.py", *argv, f"exp.train.log_dir={run.path}"]
        command += [f"exp.train.log_every_n_steps={steps}", f"exp.train.max_steps={3 * steps}"]
        environment = os.environ | variables
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
        return median(window_rates(run, steps))


CPU_ROWS = {
    "step": partial(constant_row, **SMALL, batch=32, steps=16, target=0.97, repeats=5),
    "training": partial(training_row, **SMALL, batch=32, steps=4),
    "evaluation": partial(evaluation_row, **SMALL, batch=64),
    "agreement": partial(agreement_row, **SMALL, steps=10),
    "processes": partial(processes_row, model="convnext_tiny", resolution=64, batch=32, steps=8),
}
GPU_ROWS = {
    "training-128": partial(training_row, **FULL, batch=128, steps=40, target=2.0, repeats=2),
    "step": partial(constant_row, **FULL, batch=128, steps=60, target=0.95, repeats=3),
    **{
        f"training-{batch}": partial(
            training_row, **FULL, batch=batch, steps=100, target=3.0 if batch <= 8 else None
        )
        for batch in (2, 4, 8, 32)
    },
    "evaluation": partial(evaluation_row, **FULL, batch=128, target=2.0, repeats=2),
    "agreement": partial(agreement_row, **FULL, steps=40),
    "agreement-resnet18": partial(agreement_row, model="resnet18", resolution=224, steps=40),
}
SEVERAL_GPU_ROWS = {"processes": partial(processes_row, **FULL, batch=512, steps=60)}
