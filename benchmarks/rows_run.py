"""Rows about whole commands: the start of a run, and forty groupings of one model."""

import os
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks import conventional
from benchmarks.compare import Row, absolute, compare
from benchmarks.ours import Bench
from src.data.groupings import ATTRIBUTES, parse_groupings
from src.evaluation.logits import Logits, Source
from src.evaluation.predict import predict
from src.evaluation.results import evaluate
from src.models.build import build_model


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
    """Count images through the network for 40 groupings of a task: one pass, or a pass each."""
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
    name = "40 groupings of one model, images"
    return compare(name, "images", [(ours, sum(seen))], 30.0, note, seconds=True)


ROWS = {"startup": startup_row, "groupings": groupings_row}
