"""Draw the stand-in for CelebA on first use: drawn faces in CelebA's own file layout.

The attributes have CelebA's joint distribution (`attribute_table.py`), and each is visible in the
picture (`faces/`). People without CelebA can study the mechanisms of group-robust training with it;
its numbers say nothing about CelebA itself.
"""

import functools
import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from src.data.celeba import ATTRIBUTES
from src.io import exclusive, write_error, write_json
from src.standin.attribute_table import sample_attributes
from src.standin.faces import draw_face

# Raise it when the drawing or the attribute table changes, so that old folders are not used.
VERSION = 1
JPEG_QUALITY = 92
_CHUNK = 50  # faces per task of a worker
_FEW = 200  # so few faces are drawn before a second process has started


def ensure_synthetic(
    parent: Path = Path("data"),
    num_train: int = 16_000,
    num_val: int = 4_000,
    num_test: int = 8_000,
    seed: int = 0,
    correlation: float = 1.0,
    workers: int | None = None,
) -> Path:
    """Return the root folder of a stand-in under `parent`; draw the faces first if it is missing.

    The faces are drawn in a hidden folder, which is renamed at the end. After an interruption the
    next call draws the missing faces only; a second process waits for the first.

    Args:
        num_train, num_val, num_test: faces per split.
        seed: fixes attributes and pictures.
        correlation: see `sample_attributes`.
        workers: processes that draw, one per core by default; the result does not depend on it.

    Raises:
        UserError: the disk is full.
    """
    sizes = {"num_train": num_train, "num_val": num_val, "num_test": num_test}
    options = sizes | {"seed": seed, "correlation": correlation}
    name = f"synthetic{VERSION}-{num_train}-{num_val}-{num_test}-seed{seed}"
    root = Path(parent) / f"{name}-correlation{float(correlation)}"
    if root.is_dir():
        return root
    lock = root.with_name(f".{root.name}.lock")
    with exclusive(lock, f"waiting for another process to draw {root}"):
        if not root.is_dir():
            partial = root.with_name(f".{root.name}.partial")
            try:
                _draw(partial, root, options, workers)
                partial.rename(root)
            except OSError as error:
                raise write_error(root, error) from error
    return root


def _draw(folder: Path, root: Path, options: dict[str, Any], workers: int | None) -> None:
    """Draw the faces that are missing in `folder`, the later `root`, and write its other files."""
    sizes = [options["num_train"], options["num_val"], options["num_test"]]
    attributes = sample_attributes(sum(sizes), options["seed"], options["correlation"])
    images = folder / "img_align_celeba"
    images.mkdir(parents=True, exist_ok=True)
    missing = [k for k in range(len(attributes)) if not _is_complete(images / _name(k))]
    label, terminal = f"drawing {root} (once)", sys.stderr.isatty()
    if not terminal:  # a log file
        print(f"{label}: {len(missing)} faces", file=sys.stderr, flush=True)
    chunks = [missing[k : k + _CHUNK] for k in range(0, len(missing), _CHUNK)]
    tasks = [(chunk, attributes[chunk]) for chunk in chunks]
    draw = functools.partial(_draw_chunk, images, options["seed"])
    with tqdm(total=len(missing), desc=label, unit=" faces", disable=not terminal) as bar:
        if workers == 1 or len(missing) <= _FEW:
            for task in tasks:
                bar.update(draw(task))
        else:
            context = multiprocessing.get_context("spawn")  # a fork would copy locks of threads
            workers = workers or len(os.sched_getaffinity(0))
            with ProcessPoolExecutor(workers, context, _end_with_parent) as pool:
                for count in pool.map(draw, tasks):
                    bar.update(count)
    _write_annotations(folder, attributes, sizes)
    about = "drawn faces with CelebA's attribute distribution; not CelebA"
    write_json(folder / "synthetic.json", {"about": about, "version": VERSION, **options})
    os.sync()  # flush all files before the folder gets its final name


def _end_with_parent() -> None:
    """Ignore Ctrl-C, which the parent handles, and end when the parent ends, even if killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _draw_chunk(images: Path, seed: int, task: tuple[list[int], np.ndarray]) -> int:
    """Draw the faces of a task, (indices, attributes), and return their number."""
    for index, row in zip(*task):
        draw_face(row, seed, index).save(images / _name(index), "JPEG", quality=JPEG_QUALITY)
    return len(task[0])


def _write_annotations(folder: Path, attributes: np.ndarray, sizes: list[int]) -> None:
    """Write both annotation files in the official format."""
    lines, parts = [str(len(attributes)), " ".join(ATTRIBUTES)], []
    for k, (row, split) in enumerate(zip(attributes, np.repeat([0, 1, 2], sizes))):
        lines.append(f"{_name(k)} " + " ".join(" 1" if present else "-1" for present in row))
        parts.append(f"{_name(k)} {split}\n")
    (folder / "list_attr_celeba.txt").write_text("\n".join([*lines, ""]))
    (folder / "list_eval_partition.txt").write_text("".join(parts))


def _name(index: int) -> str:
    return f"{index + 1:06d}.jpg"


def _is_complete(path: Path) -> bool:
    """Check that a JPEG exists and ends with the end marker, which a truncated file lacks."""
    return path.is_file() and path.read_bytes().endswith(b"\xff\xd9")
