"""Rows about data and commands: input, the start of a run, forty groupings of one model."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from benchmarks import conventional
from benchmarks.compare import Row, absolute, compare, interleave
from benchmarks.ours import Bench
from src.data.batches import iterate_batches
from src.data.groupings import ATTRIBUTES, parse_groupings
from src.evaluation.logits import Logits, Source
from src.evaluation.predict import predict
from src.evaluation.results import evaluate
from src.models.build import build_model

BATCH = 32


def input_row(bench: Bench, resolution: int, host: bool, augment: bool) -> Row:
    """Measure images per second of CPU time, warm, of one epoch on one thread.

    Args:
        host: only what the host does for a GPU (read and check records), not the whole way to a
            normalised batch on a CPU.
    """
    records = bench.dataset(resolution).images("train", full_frame=augment)
    count = min(len(records), 512)
    batches = np.array_split(np.random.default_rng(0).permutation(count), count // BATCH)
    buffer = np.empty((BATCH, *records.shape), np.uint8)
    loader = bench.their_loader("train", resolution, BATCH, batches, augment, workers=0)

    def ours() -> None:
        for positions in batches if host else ():
            records.read(positions, buffer[: len(positions)])
        if not host:
            for _ in iterate_batches(records, batches, "cpu", (0, 0) if augment else None):
                pass

    def theirs() -> None:
        for _ in loader:
            pass

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ours()  # warm
    pairs = interleave(partial(cpu_rate, ours, count), partial(cpu_rate, theirs, count), 5)
    torch.set_num_threads(threads)
    part = "host part for a GPU" if host else "whole path on a CPU"
    name = f"input {resolution}x{resolution}{', augmented' if augment else ''}, {part}"
    note = "images per second of CPU time; theirs decodes without workers, so pays no hand-over"
    return compare(name, "images/s a core", pairs, None if augment else 8.0, note)


def cpu_rate(call: Callable[[], None], count: int) -> float:
    """Return images per second of CPU time of this process."""
    start = time.process_time()
    call()
    return count / (time.process_time() - start)


def startup_row(bench: Bench) -> Row:
    """Measure from the command to the network's first step: a new process, the cache warm."""
    times = []
    for _ in range(4):
        with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
            argv = bench.overrides("resnet50", 224, 8, f"exp.train.log_dir={folder}/run")
            command = [sys.executable, "-m", "benchmarks.first_step", *argv]
            start = time.monotonic()
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            times.append(float(done.stdout.splitlines()[-1]) - start)
    name = "command to first step, ResNet-50, cache warm"
    return absolute(name, "s", times[1:], 8.0, f"{os.cpu_count()} cores; imports included")


def groupings_row(bench: Bench) -> Row:
    """Count images through the network for 40 groupings of a task: a pass each, or one pass."""
    count, device = 128, bench.device
    names = ["Smiling"] + [f"Smiling:{name}" for name in ATTRIBUTES if name != "Smiling"]
    groupings, dataset = parse_groupings(names), bench.dataset(64)
    rows = dataset.split("val").select(np.arange(count))
    model = build_model("shufflenet_v2_x0_5", 1, False, None, 0).to(device)
    seen = []
    model.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    passed = predict(model, dataset.images("val"), count, 1, device, "fp32", 64)
    logits = Logits(passed.logits, ("Smiling",), (2,), Source("val", "1", "", ""))
    ours, results = sum(seen), evaluate(logits, groupings, rows)

    seen.clear()
    loader = bench.their_loader("val", 64, 64, list(np.arange(count).reshape(-1, 64)))
    labels = rows.column("Smiling")
    for grouping in groupings:
        output = conventional.evaluate(model, loader, device)
        accuracy = ((output[:, 0] > 0) == labels).mean()
        assert abs(accuracy - results[grouping.name]["avg_acc"]) < 0.02
    note = f"a split of {count}; each pass gives the same accuracies"
    name = "40 groupings of one model, images saved"
    return Row(name, "images", ours, sum(seen), sum(seen) / ours, 30.0, note=note)


INPUT_ROWS = {
    f"input-{kind}-{size}": partial(input_row, resolution=size, host=host, augment=augment)
    for size in (224, 64)
    for kind, host, augment in (
        ("host", True, False),
        ("cpu", False, False),
        ("cpu-augmented", False, True),
    )
}
ROWS = {**INPUT_ROWS, "startup": startup_row, "groupings": groupings_row}
