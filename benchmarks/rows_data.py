"""Rows about data: the input pipeline, annotations, weights of several tasks, memory."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.compare import Row, absolute, compare, in_new_process, interleave, seconds
from benchmarks.ours import Bench
from benchmarks.scaling import (
    CELEBA_TRAIN,
    FOUR_TASKS,
    drawn_table,
    peak,
    records_on_disk,
    write_annotations,
)
from src.data.batches import iterate_batches
from src.data.celeba import load_annotations
from src.data.groupings import parse_groupings
from src.sampling.plans import make_plan, stack_groups, stack_labels

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


INPUT_ROWS = {
    f"input-{kind}-{size}": partial(input_row, resolution=size, host=host, augment=augment)
    for size in (224, 64)
    for kind, host, augment in (
        ("host", True, False),
        ("cpu", False, False),
        ("cpu-augmented", False, True),
    )
}


def annotations_row(bench: Bench) -> Row:
    """Load the annotations of 202,599 images, warm; pandas reads the same files for comparison."""
    root = bench.folder / "annotations"
    write_annotations(root, 202_599)
    load = partial(load_annotations, root, bench.folder / "cache")
    load()

    def with_pandas() -> None:
        pd.read_csv(root / "list_attr_celeba.txt", sep=r"\s+", skiprows=1)
        pd.read_csv(root / "list_eval_partition.txt", sep=" ", header=None)

    pairs = interleave(partial(seconds, load), partial(seconds, with_pandas), 3)
    note = f"pandas reads the same files in {np.median([b for _, b in pairs]):.1f} s"
    return absolute("annotations of 202,599 rows, warm", "s", [a for a, _ in pairs], 0.3, note)


def weights_row(bench: Bench) -> Row:
    """Find RWY's weights of four tasks, beside a generic solver with a variable per example."""
    groupings = parse_groupings(FOUR_TASKS, training=True)
    table = drawn_table(CELEBA_TRAIN)
    labels, groups = stack_labels(table, groupings), stack_groups(table, groupings)

    def ours() -> np.ndarray:
        plan = make_plan(labels, groups, groupings, sampler="rwy", seed=0)
        return plan.weights / plan.weights.mean()

    def theirs() -> None:
        assert np.abs(generic_weights(labels) - ours()).max() < 1e-2, "other weights"

    pairs = interleave(partial(seconds, ours), partial(seconds, theirs), 3)
    note = "theirs: scipy's trust-constr with exact derivatives; the same weights within 0.01"
    return compare("weights of 162,770 examples, 4 tasks", "s", pairs, 100.0, note, seconds=True)


def generic_weights(labels: np.ndarray) -> np.ndarray:
    """Return maximum-entropy weights (N,) of mean 1 with uniform margins, by a general solver."""
    from scipy.optimize import LinearConstraint, minimize
    from scipy.sparse import diags_array

    count, tasks = labels.shape
    # All weights add up to N, those of each task's class 1 to half of it.
    rows = np.vstack([np.ones(count), labels.T])
    goal = np.array([count, *[count / 2] * tasks])
    return minimize(
        lambda w: (w * np.log(w.clip(1e-12))).sum(),
        np.ones(count),
        jac=lambda w: np.log(w.clip(1e-12)) + 1,
        hess=lambda w: diags_array(1 / w.clip(1e-12)),
        method="trust-constr",
        constraints=LinearConstraint(rows, goal, goal),
        options={"gtol": 1e-6, "xtol": 1e-12, "maxiter": 1000},
    ).x


def memory_row(bench: Bench) -> Row:
    """Measure the peak memory of reading a 30 GB cache at random, mapped pages included."""
    start, most = in_new_process(read_at_random, bench.folder, 30e9, 150, 128)
    note = f"19,200 images of 224x224 read at random; {start:.2f} GB before the first"
    return absolute("memory, reading a 30 GB cache at random", "GB", [most], 3.0, note)


def read_at_random(folder: Path, size: float, batches: int, batch: int) -> tuple[float, float]:
    """Read from a sparse cache of `size` bytes; return the GB at the start and at most."""
    records = records_on_disk(folder / "sparse.bin", 224, int(size / (224 * 224 * 3)))
    start, rng = peak(), np.random.default_rng(0)
    order = [rng.integers(0, len(records), batch) for _ in range(batches)]
    for images, _ in iterate_batches(records, order):
        assert images.shape[0] == batch
    records.path.unlink()
    return start, peak()


ROWS = {**INPUT_ROWS, "annotations": annotations_row, "weights": weights_row, "memory": memory_row}
