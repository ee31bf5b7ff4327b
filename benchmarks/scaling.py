"""Measure how cost grows with size; write OUT/scaling.csv and scaling.png.

    python -m benchmarks.scaling

Each line is measured in a process of its own with one thread.
"""

import argparse
import ctypes
import os
import re
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.compare import in_new_process
from src.data.batches import iterate_batches
from src.data.celeba import ATTRIBUTES, load_annotations
from src.data.groupings import parse_groupings
from src.data.pixels import Pixels
from src.data.sources import INDEX, Records
from src.data.table import Table
from src.evaluation.logits import Logits, Source
from src.evaluation.results import evaluate
from src.sampling.plans import make_plan, stack_labels
from src.standin.attribute_table import sample_attributes
from src.training.devices import keep_freed_memory

CELEBA_TRAIN, CELEBA_VAL = 162_770, 19_867
FOUR_TASKS = ("Blond_Hair:Male", "Big_Lips:Chubby", "Gray_Hair:Young", "Wearing_Lipstick:Male")
MORE_TASKS = ("Smiling:Male", "Bangs:Young", "Eyeglasses:Male", "Oval_Face:Young")
ROWS = (1_000, 10_000, 100_000, 1_000_000)
CASES = {
    "annotations": ("examples", ROWS),
    "annotations, warm": ("examples", ROWS),
    "images read": ("examples", ROWS),
    "tasks evaluated": ("tasks, groups", (1, 4, 10, 40)),
    "tasks balanced": ("tasks, groups", (1, 2, 3, 4, 6, 8)),
    "groups evaluated": ("tasks, groups", (4, 16, 64, 256)),
    "pairs evaluated": ("pairs", (39, 390, 1_560)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("outputs/bench"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    lines = []
    for case, (panel, sizes) in CASES.items():
        for size in sizes:
            seconds, memory = in_new_process(measure, case, size)
            lines.append((panel, case, size, seconds, memory))
            print(f"| {case} | {size:,} | {seconds:.3g} | {memory:.3g} |", flush=True)
    table = pd.DataFrame(lines, columns=["panel", "case", "size", "CPU seconds", "GB more"])
    table.to_csv(out / "scaling.csv", index=False)
    draw(table, out / "scaling.png")


def measure(case: str, size: int) -> tuple[float, float]:
    """Return seconds of CPU time, and the GB of memory needed beyond what was in use before."""
    with tempfile.TemporaryDirectory() as folder:
        work = prepare(case, size, Path(folder))
        ctypes.CDLL(None).malloc_trim(0)  # what making the case has freed
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        before, start = peak(), time.process_time()
        work()
        return time.process_time() - start, peak() - before


def peak() -> float:
    """Return the most memory this process has had resident, in GB; mapped files count."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e9


def prepare(case: str, size: int, folder: Path) -> Callable[[], object]:
    """Return the work of a case."""
    if case.startswith("annotations"):
        paths = (folder / "celeba", folder / "cache")
        write_annotations(paths[0], size)
        if case.endswith("warm"):  # in another process, so that its memory is not counted
            in_new_process(load_annotations, *paths)
        return lambda: load_annotations(*paths)
    if case == "images read":
        keep_freed_memory()  # as training does
        records = records_on_disk(folder / "images.bin", 64, 1000)
        positions = np.random.default_rng(0).integers(0, 1000, size)
        batches = np.array_split(positions, -(-size // 128))
        return lambda: [None for _ in iterate_batches(records, batches)]
    if case == "tasks balanced":
        groupings = parse_groupings((*FOUR_TASKS, *MORE_TASKS)[:size], training=True)
        labels = stack_labels(drawn_table(CELEBA_TRAIN), groupings)
        make_plan(labels[:100], None, groupings, sampler="rwy", seed=0)  # loads SciPy
        return lambda: make_plan(labels, None, groupings, sampler="rwy", seed=0)
    names = [f"{a}:{b}" for a in ATTRIBUTES for b in ATTRIBUTES if a != b][:size]
    if case == "tasks evaluated":
        names = [f"{a}:{'Young' if a == 'Male' else 'Male'}" for a in ATTRIBUTES[:size]]
    if case == "groups evaluated":
        others = [name for name in ATTRIBUTES if name != "Smiling"]
        names = [f"Smiling:{'+'.join(others[: int(np.log2(size)) - 1])}"]
    values = np.random.default_rng(0).normal(size=(CELEBA_VAL, 40)).astype(np.float32)
    logits = Logits(values, tuple(ATTRIBUTES), (2,) * 40, Source("val", "1", "", ""))
    groupings, table = parse_groupings(names), drawn_table(CELEBA_VAL)
    return lambda: evaluate(logits, groupings, table)


def records_on_disk(path: Path, side: int, count: int) -> Records:
    """Make `count` black images of side x side in a file of holes, which takes no disk."""
    pixels, index = Pixels((side, side)), np.zeros(count, INDEX)
    size = int(np.prod(pixels.shape))
    with path.open("wb") as file:
        file.truncate(count * size)
    index["crc"] = zlib.crc32(bytes(size))
    return Records(path, pixels, np.arange(count).astype(str), index)


def drawn_table(count: int) -> Table:
    """Return attributes drawn from CelebA's joint distribution."""
    codes = sample_attributes(count, 0, 1.0).astype(np.int8)
    return Table(np.arange(count).astype(str), np.zeros(count, np.uint8), codes, ATTRIBUTES)


def write_annotations(root: Path, count: int) -> None:
    """Write annotation files in the official format, without images."""
    root.mkdir(parents=True, exist_ok=True)
    names = [f"{row:06d}.jpg" for row in range(1, count + 1)]
    signs = pd.DataFrame(2 * drawn_table(count).codes - 1, index=names, columns=list(ATTRIBUTES))
    text = signs.to_csv(sep=" ").partition("\n")[2]
    (root / "list_attr_celeba.txt").write_text(f"{count}\n{' '.join(ATTRIBUTES)}\n{text}")
    split = np.searchsorted([0.803, 0.901], np.arange(count) / count, side="right")
    partition = pd.Series(split, index=names).to_csv(sep=" ", header=False)
    (root / "list_eval_partition.txt").write_text(partition)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw seconds and memory against size, on logarithmic axes."""
    import seaborn

    table = table.melt(["panel", "case", "size"], var_name="what").assign(
        value=lambda t: t["value"].clip(lower=1e-3)
    )
    grid = seaborn.relplot(
        table, x="size", y="value", hue="case", style="case", markers=True, dashes=False,
        col="panel", row="what", kind="line", height=3, facet_kws={"sharex": "col"},
    )  # fmt: skip
    grid.set(xscale="log", yscale="log", ylabel="").set_titles("{row_name}: {col_name}")
    grid.savefig(path, dpi=100)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that measure
    main()
