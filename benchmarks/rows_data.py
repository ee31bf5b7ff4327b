"""Rows about data: the input pipeline, annotations, weights of several tasks, memory."""

import json
import subprocess
import sys
import time
from functools import partial

import numpy as np
import torch

from benchmarks.compare import Row, absolute, compare, interleave
from benchmarks.ours import Bench, seconds
from src.data.batches import iterate_batches
from src.data.celeba import ATTRIBUTES, load_annotations
from src.data.groupings import parse_groupings
from src.data.table import Table
from src.sampling.plans import make_plan, stack_groups, stack_labels
from src.standin.attribute_table import sample_attributes

BATCH = 32
CELEBA_ROWS, CELEBA_TRAIN = 202_599, 162_770


def input_row(bench: Bench, resolution: int, host: bool, augment: bool, target) -> Row:
    """Images per second of CPU time, warm, of one epoch on one thread.

    Args:
        host: what the host does for a GPU (read and check records; the device does the rest), not
            the whole way to a normalised batch on a CPU.
    """
    dataset = bench.dataset(resolution)
    records = dataset.images("train", full_frame=augment)
    count = min(len(records), 512)
    batches = np.array_split(np.random.default_rng(0).permutation(count), count // BATCH)
    buffer = np.empty((BATCH, *records.shape), np.uint8)

    def read() -> None:
        for positions in batches:
            records.read(positions, buffer[: len(positions)])

    def whole() -> None:
        for _ in iterate_batches(records, batches, "cpu", (0, 0) if augment else None):
            pass

    loader = bench.their_loader("train", (resolution,) * 2, BATCH, 0, batches, augment)

    def conventional() -> None:
        for _ in loader:
            pass

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ours = partial(rate, read if host else whole, count)
        ours()  # warm
        pairs = interleave(ours, partial(rate, conventional, count), 5)
    finally:
        torch.set_num_threads(threads)
    part = "host part for a GPU" if host else "whole path on a CPU"
    name = f"input {resolution}x{resolution}{', augmented' if augment else ''}, {part}"
    note = "images per second of CPU time; theirs decodes without workers, so pays no hand-over"
    return compare(name, "images/s a core", pairs, target, note)


def rate(call, count: int) -> float:
    """Images per second of CPU time of this process."""
    start = time.process_time()
    call()
    return count / (time.process_time() - start)


INPUT_ROWS = {
    f"input-{kind}-{resolution}": partial(
        input_row, resolution=resolution, host=host, augment=augment, target=8.0
    )
    for resolution in (224, 64)
    for kind, host, augment in (
        ("host", True, False),
        ("cpu", False, False),
        ("cpu-augmented", False, True),
    )
}
for _key in INPUT_ROWS:  # the target speaks of the plain pipeline
    if "augmented" in _key:
        INPUT_ROWS[_key].keywords["target"] = None


def annotations_row(bench: Bench) -> Row:
    """Loading the annotations of 202,599 images, warm, against pandas reading the files."""
    import pandas

    root = bench.folder / "annotations"
    write_annotations(root, CELEBA_ROWS)
    load = partial(load_annotations, root, bench.folder / "cache")
    load()

    def with_pandas() -> None:
        pandas.read_csv(root / "list_attr_celeba.txt", sep=r"\s+", skiprows=1)
        pandas.read_csv(root / "list_eval_partition.txt", sep=" ", header=None)

    pairs = interleave(partial(seconds, load), partial(seconds, with_pandas), 3)
    note = f"pandas reads the same files in {np.median([b for _, b in pairs]):.1f} s"
    return absolute("annotations of 202,599 rows, warm", "s", [a for a, _ in pairs], 0.3, note)


def write_annotations(root, count: int) -> None:
    """Annotation files in the official format, without images."""
    root.mkdir(parents=True, exist_ok=True)
    if (root / "list_eval_partition.txt").exists():
        return
    attributes = sample_attributes(count, 0, 1.0)
    names = [f"{row:06d}.jpg" for row in range(1, count + 1)]
    words = np.where(attributes, " 1", "-1").tolist()
    lines = [f"{name} {' '.join(row)}" for name, row in zip(names, words)]
    text = "\n".join([str(count), " ".join(ATTRIBUTES), *lines, ""])
    (root / "list_attr_celeba.txt").write_text(text)
    split = np.searchsorted([0.803, 0.901], np.arange(count) / count, side="right")
    lines = [f"{name} {part}\n" for name, part in zip(names, split.tolist())]
    (root / "list_eval_partition.txt").write_text("".join(lines))


FOUR_TASKS = ("Blond_Hair:Male", "Big_Lips:Chubby", "Gray_Hair:Young", "Wearing_Lipstick:Male")


def weights_row(bench: Bench) -> Row:
    """RWY's weights of four tasks against a generic convex solver, one variable an example."""
    groupings = parse_groupings(FOUR_TASKS, training=True)
    attributes = sample_attributes(CELEBA_TRAIN, 0, 1.0)
    names, split = np.arange(CELEBA_TRAIN).astype(str), np.zeros(CELEBA_TRAIN, np.uint8)
    table = Table(names, split, attributes.astype(np.int8), ATTRIBUTES)
    labels, groups = stack_labels(table, groupings), stack_groups(table, groupings)

    def ours() -> np.ndarray:
        plan = make_plan(labels, groups, groupings, sampler="rwy", seed=0)
        return plan.weights / plan.weights.mean()

    def theirs() -> None:
        weights = generic_weights(labels)
        assert np.abs(weights - ours()).max() < 1e-2, "other weights"

    pairs = interleave(partial(seconds, ours), partial(seconds, theirs), 3)
    note = "theirs: scipy's trust-constr with exact derivatives; the same weights within 0.01"
    return compare("weights of 162,770 examples, 4 tasks", "s", pairs, 100.0, note, seconds=True)


def generic_weights(labels: np.ndarray) -> np.ndarray:
    """Maximum-entropy weights (N,) of mean 1 with uniform margins, by a general solver."""
    from scipy.optimize import LinearConstraint, minimize
    from scipy.sparse import diags_array

    count, tasks = labels.shape
    # All weights add up to N, those of each task's class 1 to half of it.
    rows = np.vstack([np.ones(count), labels.T])
    goal = np.array([count, *[count / 2] * tasks])

    def positive(w: np.ndarray) -> np.ndarray:
        return np.maximum(w, 1e-12)

    return minimize(
        lambda w: (w * np.log(positive(w))).sum(),
        np.ones(count),
        jac=lambda w: np.log(positive(w)) + 1,
        hess=lambda w: diags_array(1 / positive(w)),
        method="trust-constr",
        constraints=LinearConstraint(rows, goal, goal),
        options={"gtol": 1e-6, "xtol": 1e-12, "maxiter": 1000},
    ).x


def memory_row(bench: Bench) -> Row:
    """Peak memory of a process that reads a 30 GB cache at random, mapped pages included."""
    command = [sys.executable, "-m", "benchmarks.memory", str(bench.folder)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    result = json.loads(output.splitlines()[-1])
    images, start = result["images"], result["start"]
    note = f"{images:,} images of 224x224 read at random; {start:.2f} GB before the first"
    return absolute("memory, reading a 30 GB cache at random", "GB", [result["peak"]], 3.0, note)


ROWS = INPUT_ROWS | {
    "annotations": annotations_row,
    "weights": weights_row,
    "memory": memory_row,
}
