"""The embedded stand-in for CelebA: drawn faces in CelebA's own file layout, made on first use.

Its attributes have CelebA's joint distribution (`attribute_table.py`) and each can be seen in the
picture (`faces/`). It shows the mechanisms of group-robust training to people without CelebA; its
numbers say nothing about CelebA itself.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from src.data.celeba import ATTRIBUTES
from src.io import UserError, exclusive, write_error, write_json
from src.standin.attribute_table import sample_attributes
from src.standin.faces import draw_face

# Raise it when the drawing or the attribute table changes, so that old folders are not used.
VERSION = 1
JPEG_QUALITY = 92
_BYTES_PER_FACE = 16_384  # of disk space, measured and rounded up
_MOST = 10_000_000  # faces of a split, 160 GB
_CHUNK = 50  # faces per task of a worker


@dataclass(frozen=True)
class Options:
    """What a stand-in is made from; its folder is named after it."""

    num_train: int = 16_000
    num_val: int = 4_000
    num_test: int = 8_000
    seed: int = 0
    correlation: float = 1.0  # of the attributes: 1 as in CelebA, 0 none

    def check(self) -> None:
        """Raise a `UserError` that names every option out of range."""
        problems = [
            f"{name}={value}: give a whole number of {least} or more"
            for name, value in asdict(self).items()
            for least in [0 if name == "seed" else 1]
            if name != "correlation" and (value != int(value) or value < least)
        ]
        problems += [
            f"{name}={getattr(self, name)}: give at most {_MOST:,}"
            for name in ("num_train", "num_val", "num_test")
            if getattr(self, name) > _MOST
        ]
        if not 0 <= self.correlation <= 1:
            problems.append(f"correlation={self.correlation}: give a number from 0 to 1")
        if problems:
            raise UserError(problems)

    @property
    def sizes(self) -> tuple[int, int, int]:
        return self.num_train, self.num_val, self.num_test

    @property
    def folder(self) -> str:
        sizes = "-".join(map(str, self.sizes))
        return f"synthetic{VERSION}-{sizes}-seed{self.seed}-correlation{float(self.correlation)}"


def ensure_synthetic(
    parent: Path = Path("data"),
    num_train: int = Options.num_train,
    num_val: int = Options.num_val,
    num_test: int = Options.num_test,
    seed: int = Options.seed,
    correlation: float = Options.correlation,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """The stand-in's root folder under `parent`, made there first where it is missing.

    It is drawn in a hidden folder beside and renamed at the end. After an interruption the next
    call goes on with the faces that are missing; a second process waits for the first.

    Args:
        num_train, num_val, num_test: faces per split.
        seed: of attributes and pictures; the result depends on nothing else, `workers` included.
        correlation: see `attribute_table.sample_attributes`.
        workers: processes that draw; None takes all cores.
        progress: show a progress bar.

    Raises:
        UserError: an option out of range, or no room on the disk.
    """
    options = Options(num_train, num_val, num_test, seed, correlation)
    options.check()
    root = Path(parent) / options.folder
    if root.is_dir():
        return root
    with exclusive(
        root.with_name(f".{root.name}.lock"), f"waiting for another process to draw {root}"
    ):
        if not root.is_dir():
            partial = root.with_name(f".{root.name}.partial")
            try:
                _make(partial, options, workers or _num_cores(), progress)
                partial.rename(root)
            except OSError as error:
                raise write_error(root, error) from error
    return root


def _make(folder: Path, options: Options, workers: int, progress: bool) -> None:
    """Draw the faces that `folder` lacks and write the annotation files."""
    images = folder / "img_align_celeba"
    images.mkdir(parents=True, exist_ok=True)
    missing = [k for k in range(sum(options.sizes)) if not _is_whole(images / _name(k))]
    needed, free = len(missing) * _BYTES_PER_FACE, shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"the stand-in needs {needed / 1e6:.0f} MB in {folder.parent}, {free / 1e6:.0f} MB are "
            "free: free some space, or choose a smaller num_train, num_val or num_test"
        )
    attributes = sample_attributes(sum(options.sizes), options.seed, options.correlation)
    bar = tqdm(
        total=len(attributes),
        initial=len(attributes) - len(missing),
        desc=f"drawing {folder.parent / options.folder} (once)",
        unit=" faces",
        disable=not progress,
    )
    with bar:
        for count in _draw(images, attributes, missing, options.seed, workers):
            bar.update(count)
    _write_annotations(folder, attributes, options)
    os.sync()  # everything is on the disk before the folder gets its name


def _draw(
    images: Path, attributes: np.ndarray, missing: list[int], seed: int, workers: int
) -> Iterator[int]:
    """Draw the `missing` faces; yields how many more are done."""
    chunks = [missing[k : k + _CHUNK] for k in range(0, len(missing), _CHUNK)]
    tasks = [(images, attributes[chunk], chunk, seed) for chunk in chunks]
    if min(workers, len(chunks)) <= 1:
        yield from (_draw_chunk(*task) for task in tasks)
        return
    spawn = multiprocessing.get_context("spawn")  # safe beside the threads of torch
    executor = ProcessPoolExecutor(min(workers, len(chunks)), spawn, _start_worker)
    try:
        for done in as_completed([executor.submit(_draw_chunk, *task) for task in tasks]):
            yield done.result()
    except BrokenProcessPool as error:
        message = (
            "a process that draws was killed, perhaps for want of memory; start again to go on"
        )
        raise UserError(message) from error
    finally:
        executor.shutdown(cancel_futures=True)


def _draw_chunk(images: Path, attributes: np.ndarray, indices: list[int], seed: int) -> int:
    for row, index in zip(attributes, indices):
        face = draw_face(row, seed, index)
        face.save(images / _name(index), "JPEG", quality=JPEG_QUALITY)
    return len(indices)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it even where it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def leave_with_parent() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()


def _write_annotations(folder: Path, attributes: np.ndarray, options: Options) -> None:
    """Both annotation files in the official format, and the options."""
    names = [_name(k) for k in range(len(attributes))]
    rows = [
        f"{name} " + " ".join("-1" if value == 0 else " 1" for value in row)
        for name, row in zip(names, attributes.tolist())
    ]
    header = [str(len(rows)), " ".join(ATTRIBUTES)]
    (folder / "list_attr_celeba.txt").write_text("\n".join([*header, *rows, ""]))
    split = np.repeat([0, 1, 2], options.sizes).tolist()
    lines = [f"{name} {part}\n" for name, part in zip(names, split)]
    (folder / "list_eval_partition.txt").write_text("".join(lines))
    about = "drawn faces with CelebA's attribute distribution; not CelebA"
    write_json(folder / "synthetic.json", {"about": about, "version": VERSION, **asdict(options)})


def _name(index: int) -> str:
    return f"{index + 1:06d}.jpg"


def _is_whole(path: Path) -> bool:
    """Does the file end as a JPEG does? An interrupted one does not."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(-2, os.SEEK_END)
        return file.read() == b"\xff\xd9"
    return False


def _num_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
