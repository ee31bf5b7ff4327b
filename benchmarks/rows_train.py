"""Rows about training and evaluation: whole steps beside the conventional loop's."""

import os
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks import conventional
from benchmarks.compare import Row, absolute, compare, interleave, median_interval
from benchmarks.ours import Bench, seconds
from src.config.compose import load_config
from src.config.saved import save_config
from src.evaluation.predict import predict
from src.models.build import build_model
from src.runs.folder import Run
from src.sampling.epochs import epoch_positions, split_batches
from src.sampling.plans import erm
from src.training.devices import choose_precision
from src.training.metrics_log import read_metrics


def constant_row(
    bench: Bench, model: str, resolution: int, batch: int, steps: int, target: float, repeats: int
) -> Row:
    """Training against the same step fed with one constant batch: what the data cost."""
    run = partial(bench.rates, bench.overrides(model, resolution, batch), steps=steps, windows=2)
    run()  # warm: the cache is built, libraries have chosen their kernels
    pairs = interleave(
        lambda: statistics.median(run()),
        lambda: statistics.median(run(constant=True)),
        repeats,
    )
    name = f"step beside a constant batch, {model} {resolution} batch {batch}"
    note = "theirs is our own step on one batch that already lies on the device"
    return compare(name, "images/s", pairs, target, note)


def turns_row(
    bench: Bench, model: str, resolution: int, batch: int, steps: int, target: float
) -> Row:
    """The same on a CPU, where nothing runs on by itself: step by step in turns within one run, as
    rates of whole windows scatter by more than what is to be seen."""
    pairs = bench.turns(bench.overrides(model, resolution, batch), steps)
    low, high = median_interval([ours / theirs for ours, theirs in pairs])
    name = f"step beside a constant batch, {model} {resolution} batch {batch}"
    note = f"95 % interval of the ratio {low:.3f}-{high:.3f}; theirs is our own step"
    return compare(name, "images/s", pairs, target, note)


def training_row(
    bench: Bench,
    model: str,
    resolution: int,
    batch: int,
    steps: int,
    target: float | None,
    repeats: int,
) -> Row:
    """Training against the conventional loop, both steady."""
    overrides = bench.overrides(model, resolution, batch)
    theirs = bench.their_training(overrides)
    theirs.run(steps)  # starts its workers
    pairs = interleave(
        lambda: statistics.median(bench.rates(overrides, steps, 2)),
        lambda: theirs.run(2 * steps),
        repeats,
    )
    name = f"training, {model} {resolution} batch {batch}"
    note = f"the conventional loop has {bench.workers} workers"
    return compare(name, "images/s", pairs, target, note)


def rate_row(bench: Bench) -> Row:
    """ResNet-50's images per second on a large GPU."""
    rates = bench.rates(bench.overrides("resnet50", 224, 128), steps=60, windows=3)
    name = "ResNet-50 224 batch 128"
    return absolute(name, "images/s", rates, 3000.0, at_most=False)


def device_cache_row(bench: Bench) -> Row:
    """A small network fed from images that lie on the GPU, beside the same read each time."""
    overrides = bench.overrides("resnet18", 64, 128)
    kept, read = (f"exp.dataloader.device_cache={value}" for value in ("true", "false"))
    # A window is longer than an epoch of the benchmark's images: all are there after the first.
    pairs = interleave(
        lambda: statistics.median(bench.rates([*overrides, kept], 100, 2)),
        lambda: statistics.median(bench.rates([*overrides, read], 100, 2)),
        2,
    )
    name = "images kept on the GPU, resnet18 64 batch 128"
    return compare(name, "images/s", pairs, None, "theirs is our own loop that reads them")


def agreement_row(bench: Bench, model: str, resolution: int, steps: int) -> Row:
    """The largest relative difference of the two loops' losses: same weights, order and data.

    A step of training multiplies rounding errors, the more the higher the learning rate; a small
    one keeps the comparison about the loops. A ResNet-50 from scratch is ill-conditioned all the
    same: on a CPU the gradient of its first batch of 32 images of 64x64 has norm 139 and is off by
    1.4 % in fp32 (beside float64), and over 40 steps the conventional loop differs by up to 11.6 %
    from itself in channels_last, ours from it by 10.2 % (3.7 and 3.3 % on average). So the note has
    that difference of the conventional loop to itself, too.
    """
    batch, limit = 32, 1e-3 if bench.device.type == "cpu" else 5e-2
    overrides = bench.overrides(model, resolution, batch, "exp.optimizer.lr=0.0001")
    if bench.device.type == "cuda":
        # As the conventional loop does: fp16's scaler leaves out steps until its scale fits, and a
        # run that leaves out none is ahead. That bf16 and graphs change nothing else: test_gpu.py.
        overrides.append("exp.train.precision=fp16")
    ours = bench.losses(overrides, steps)
    batches = split_batches(epoch_positions(erm(bench.sizes[0]), 0, epoch=1), batch)

    def their_losses(memory_format: torch.memory_format) -> np.ndarray:
        training = bench.their_training(overrides, batches=batches)
        training.model.to(memory_format=memory_format)
        training.run(steps)
        return np.array(training.losses)

    ours = np.array(ours)
    theirs, again = map(their_losses, (torch.contiguous_format, torch.channels_last))
    assert len(ours) == len(theirs) == steps
    assert ours[-5:].mean() < 0.95 * ours[:3].mean(), "the network does not learn here"
    worst, mean = difference(ours, theirs)
    name = f"loss curves differ at most, {steps} steps of {model}"
    note = (
        f"of the mean loss; {mean:.2g} on average. The conventional loop differs from itself in "
        "channels_last by {:.2g}, {:.2g} on average. ".format(*difference(again, theirs))
        + f"Ours {ours[0]:.4f} to {ours[-1]:.4f}, fp32 on a CPU, else fp16"
    )
    return absolute(name, "share", [worst], limit, note)


def difference(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """How far two loss curves (S,) are apart at most and on average, as shares of the mean loss."""
    apart = np.abs(one - other) / other.mean()
    return float(apart.max()), float(apart.mean())


def evaluation_row(
    bench: Bench, model: str, resolution: int, batch: int, target: float | None, repeats: int
) -> Row:
    """Logits of the test split; the conventional loop evaluates with its training batch."""
    dataset, count = bench.dataset(resolution), bench.sizes[2]
    images = dataset.images("test")
    mine = build_model(model, 1, False, None, 0)
    mine = mine.to(bench.device, memory_format=torch.channels_last)
    plain = build_model(model, 1, False, None, 0).to(bench.device)
    precision = choose_precision("auto", bench.device)
    loader = bench.their_loader(
        "test",
        (resolution,) * 2,
        batch,
        batches=np.array_split(np.arange(count), max(1, count // batch)),
    )
    ours = partial(predict, mine, images, count, 1, bench.device, precision, 512)
    theirs = partial(conventional.evaluate, plain, loader, bench.device)
    a, b = ours().logits, theirs()
    tolerance = 1e-3 if bench.device.type == "cpu" else 0.1
    assert np.abs(a - b).max() < tolerance * max(1.0, np.abs(b).max()), "other logits"
    pairs = interleave(lambda: count / seconds(ours), lambda: count / seconds(theirs), repeats)
    name = f"evaluation of a split, {model} {resolution}"
    return compare(name, "images/s", pairs, target, f"conventional batch {batch}")


def sweep_row(bench: Bench) -> Row:
    """Total images/s of 4 small-batch runs on one GPU against one alone."""
    totals = {count: sweep(bench, count) for count in (1, 2, 4)}
    curve = ", ".join(f"{count}: {total:.0f}" for count, total in totals.items())
    name = "4 runs of batch 8 on one GPU, beside 1"
    pairs = [(totals[4], totals[1])]
    return compare(name, "images/s", pairs, 1.0, f"ResNet-50 224; total images/s by runs: {curve}")


def sweep(bench: Bench, count: int, seconds_each: float = 25.0) -> float:
    """Total images/s of `count` runs at once, over the time in which all were training."""
    processes, runs = [], []
    for seed in range(count):
        place = Path(tempfile.mkdtemp(prefix="sweep-", dir=bench.folder))
        more = (f"exp.seed={seed}", "exp.train.log_every_n_steps=50")
        argv = [
            *bench.overrides("resnet50", 224, 8, *more),
            f"exp.train.log_dir={place}",
        ]
        save_config(load_config(argv), Run(place).config)
        command = [sys.executable, "train_erm.py", *argv]
        processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        runs.append(Run(place))
    try:
        _wait_for_lines(runs, 2)
        begun = [len(_rates(run)) for run in runs]
        with_time = seconds_each
        for process in processes:
            try:
                process.wait(timeout=with_time)
            except subprocess.TimeoutExpired:
                with_time = 0.1
        return sum(statistics.median(_rates(run)[n:]) for run, n in zip(runs, begun))
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _rates(run: Run) -> list[float]:
    lines = [line for line in read_metrics(run) if "train/loss" in line]
    return [line["time/images_per_second"] for line in lines]


def _wait_for_lines(runs: list[Run], count: int, limit: float = 120.0) -> None:
    import time

    end = time.monotonic() + limit
    while min(len(_rates(run)) for run in runs) < count:
        if time.monotonic() > end:
            raise TimeoutError("a run of the sweep wrote no metrics")
        time.sleep(0.5)


SMALL = {"model": "resnet18", "resolution": 64}
FULL = {"model": "resnet50", "resolution": 224}


def processes_row(bench: Bench, model: str, resolution: int, batch: int, steps: int) -> Row:
    """Several processes on one batch: two beside two threads of one, or all GPUs beside one."""
    on_cpu = bench.device.type == "cpu"
    count = 2 if on_cpu else torch.cuda.device_count()

    def rate(processes: int) -> float:
        threads = {"OMP_NUM_THREADS": str(count // processes)} if on_cpu else {}
        with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
            command = [sys.executable, "train.py", *bench.overrides(model, resolution, batch)]
            command += [f"exp.train.num_devices={processes}", f"exp.train.log_dir={folder}/run"]
            command += [f"exp.train.log_every_n_steps={steps}", f"exp.train.max_steps={3 * steps}"]
            subprocess.run(command, env={**os.environ, **threads}, check=True, capture_output=True)
            lines = list(read_metrics(Run(Path(folder) / "run")))
        return statistics.median(
            line["time/images_per_second"]
            for line in lines[1:]
            if "train/loss" in line and line["step"] % steps == 0
        )

    pairs = interleave(lambda: rate(count), lambda: rate(1), repeats=3)
    theirs = f"one with {count} threads" if on_cpu else "one GPU"
    name = f"{count} processes, {model} {resolution} batch {batch}"
    return compare(name, "images/s", pairs, None, f"theirs is {theirs}")


CPU_ROWS = {
    "step": partial(turns_row, **SMALL, batch=32, steps=96, target=0.97),
    "training": partial(training_row, **SMALL, batch=32, steps=4, target=None, repeats=3),
    "evaluation": partial(evaluation_row, **SMALL, batch=64, target=None, repeats=3),
    "agreement": partial(agreement_row, **SMALL, steps=10),
    "processes": partial(processes_row, model="convnext_tiny", resolution=64, batch=32, steps=8),
}
GPU_ROWS = {
    "resnet50": rate_row,
    "training-128": partial(training_row, **FULL, batch=128, steps=40, target=2.0, repeats=2),
    "step": partial(constant_row, **FULL, batch=128, steps=60, target=0.95, repeats=3),
    **{
        f"training-{batch}": partial(
            training_row,
            **FULL,
            batch=batch,
            steps=100,
            target=3.0 if batch <= 8 else None,
            repeats=3,
        )
        for batch in (2, 4, 8, 32)
    },
    "evaluation": partial(evaluation_row, **FULL, batch=128, target=2.0, repeats=2),
    "agreement": partial(agreement_row, **FULL, steps=40),
    "agreement-resnet18": partial(agreement_row, model="resnet18", resolution=224, steps=40),
    "device-cache": device_cache_row,
    "sweep": sweep_row,
}
SEVERAL_GPU_ROWS = {
    "processes": partial(processes_row, **FULL, batch=512, steps=60),
}
