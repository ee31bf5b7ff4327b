"""How cost grows: measured lines, and what the study's experiments cost on 1, 8 and 64 GPUs.

    python -m benchmarks.scaling                          measure, write OUT/scaling.json and .png
    python -m benchmarks.scaling --paper --rate 128=3000  only the costs on paper

Each case is measured in a process of its own, whose peak memory is then its own.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.memory import peak
from benchmarks.rows_data import CELEBA_TRAIN, FOUR_TASKS, write_annotations
from benchmarks.scaling_paper import VAL, paper
from benchmarks.scaling_picture import draw
from src.data.celeba import ATTRIBUTES, load_annotations
from src.data.groupings import parse_groupings
from src.data.table import Table
from src.sampling.plans import stack_labels
from src.standin.attribute_table import sample_attributes

CASES = {
    "annotations": (1_000, 10_000, 100_000, 1_000_000),
    "annotations, warm": (1_000, 10_000, 100_000, 1_000_000),
    "images read": (1_000, 10_000, 100_000, 1_000_000),
    "tasks evaluated": (1, 4, 10, 40),
    "tasks balanced": (1, 2, 3, 4, 6, 8),
    "groups evaluated": (4, 16, 64, 256),
    "pairs evaluated": (39, 390, 1_560),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("outputs/bench"))
    parser.add_argument("--case", nargs=2, metavar=("NAME", "SIZE"), help="measure one, as JSON")
    parser.add_argument("--paper", action="store_true", help="only the costs on paper")
    parser.add_argument(
        "--rate",
        nargs="+",
        default=["128=3000"],
        metavar="BATCH=IMAGES",
        help="training images/s of one GPU by batch size; default: %(default)s",
    )
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(arguments.case[0], int(arguments.case[1]))))
        return
    rates = {int(k): float(v) for k, _, v in (text.partition("=") for text in arguments.rate)}
    if not arguments.paper:
        arguments.out.mkdir(parents=True, exist_ok=True)
        lines = [line for case, sizes in CASES.items() for line in lines_of(case, sizes)]
        (arguments.out / "scaling.json").write_text(json.dumps(lines, indent=1) + "\n")
        draw(lines, arguments.out / "scaling.png")
    print("\n| experiment | runs | images | disk GB | 1 GPU | 8 GPUs | 64 GPUs |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in paper(rates):
        hours = " | ".join(f"{row[f'hours_{n}']:,.1f} h" for n in (1, 8, 64))
        print(
            f"| {row['name']} | {row['runs']} | {row['images']:.2g} | {row['disk']:.0f} | {hours} |"
        )


def lines_of(case: str, sizes: tuple[int, ...]) -> list[dict]:
    """The lines of one case, each from a process of its own."""
    lines = []
    for size in sizes:
        command = [sys.executable, "-m", "benchmarks.scaling", "--case", case, str(size)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if done.returncode:
            print(f"{case} {size}: failed: {done.stderr.splitlines()[-1]}", flush=True)
            continue
        line = {"case": case, "size": size, **json.loads(done.stdout.splitlines()[-1])}
        print(f"| {case} | {size:,} | {line['seconds']:.3g} | {line['memory']:.3g} |", flush=True)
        lines.append(line)
    return lines


def measure(case: str, size: int) -> dict[str, float]:
    """Seconds of CPU time, and GB of memory that it took at most beyond what was there before."""
    with tempfile.TemporaryDirectory() as folder:
        work = prepare(case, size, Path(folder))
        ctypes.CDLL(None).malloc_trim(0)  # what making the case has freed
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is there
        before, start = peak(), time.process_time()
        work()
        seconds = time.process_time() - start
        return {"seconds": seconds, "memory": peak() - before}


def prepare(case: str, size: int, folder: Path):
    """What is to be timed."""
    if case.startswith("annotations"):
        write_annotations(folder / "celeba", size)

        def load():
            return load_annotations(folder / "celeba", folder / "cache")

        if case.endswith("warm"):  # made by another process, so that its memory is not counted
            code = "import sys; from src.data.celeba import load_annotations as f; f(*sys.argv[1:])"
            paths = [str(folder / "celeba"), str(folder / "cache")]
            subprocess.run([sys.executable, "-c", code, *paths], check=True)
        return load
    if case == "images read":
        return prepare_images(size, folder)
    return prepare_tables(case, size)


def prepare_images(size: int, folder: Path):
    """Read images of 64x64, a thousand of which lie on the disk, as often as needed."""
    import zlib

    from src.data.batches import iterate_batches
    from src.data.cache import Records
    from src.data.decode import INDEX
    from src.data.pixels import Pixels
    from src.training.devices import choose_device

    choose_device("cpu")
    pixels, count = Pixels((64, 64)), 1000
    path = folder / "images.bin"
    images = np.random.default_rng(0).integers(0, 256, (count, *pixels.shape), np.uint8)
    path.write_bytes(images.tobytes())
    index = np.zeros(count, INDEX)
    index["crc"] = [zlib.crc32(image) for image in images]
    records = Records(path, pixels, np.arange(count).astype(str), index)

    def read() -> None:
        positions = np.random.default_rng(0).integers(0, count, size)
        for _ in iterate_batches(records, np.array_split(positions, -(-size // 128))):
            pass

    return read


def prepare_tables(case: str, size: int):
    """Evaluations and weights: arithmetic on tables of CelebA's size."""
    import src.sampling.balance  # noqa: F401  SciPy takes longer to load than a few tasks to balance
    from src.evaluation.logits import Logits, Source
    from src.evaluation.results import evaluate
    from src.sampling.plans import make_plan

    if case == "tasks balanced":
        attributes = sample_attributes(CELEBA_TRAIN, 0, 1.0)
        more = ("Smiling:Male", "Bangs:Young", "Eyeglasses:Male", "Oval_Face:Young")
        groupings = parse_groupings((*FOUR_TASKS, *more)[:size], training=True)
        labels = stack_labels(table_of(attributes), groupings)
        return lambda: make_plan(labels, None, groupings, sampler="rwy", seed=0)
    attributes = sample_attributes(VAL, 0, 1.0)
    if case == "groups evaluated":
        others = [name for name in ATTRIBUTES if name != "Smiling"]
        extra = "+".join(others[: int(np.log2(size)) - 1])
        groupings = parse_groupings([f"Smiling:{extra}"])
    elif case == "tasks evaluated":
        groupings = parse_groupings([f"{name}:{other(name)}" for name in ATTRIBUTES[:size]])
    else:
        pairs = [f"{a}:{b}" for a in ATTRIBUTES for b in ATTRIBUTES if a != b]
        groupings = parse_groupings(pairs[:size])
    values = np.random.default_rng(0).normal(size=(VAL, 40)).astype(np.float32)
    logits = Logits(values, tuple(ATTRIBUTES), (2,) * 40, Source("val", "1", "", ""))
    return lambda: evaluate(logits, groupings, table_of(attributes))


def table_of(attributes: np.ndarray) -> Table:
    names, split = np.arange(len(attributes)).astype(str), np.zeros(len(attributes), np.uint8)
    return Table(names, split, attributes.astype(np.int8), ATTRIBUTES)


def other(name: str) -> str:
    return "Male" if name != "Male" else "Young"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
