"""Decode the images of a split into a record file, on all cores; stopped, it goes on later.

Finished chunks are noted in a journal beside the unfinished file, with the checksums of their
records; what is noted is on the disk.
"""

import json
import multiprocessing
import os
import shutil
import signal
import threading
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from src.data.layout import ImageFiles
from src.data.pixels import BadImage, Pixels
from src.errors import UserError
from src.files import atomic_path, write_error, write_json

CHUNK = 128  # records
_FEW = 4 * CHUNK  # so few images are decoded before a second process has started


class BadImages(UserError):
    """Images that are missing or unreadable: `bad` maps their names to reasons."""

    def __init__(self, images: ImageFiles, bad: dict[str, str]):
        self.bad = bad
        shown = [f"{images.path(name)}: {reason}" for name, reason in sorted(bad.items())[:10]]
        if len(bad) > 10:
            shown.append(f"... and {len(bad) - 10} more")
        super().__init__(
            [
                f"{len(bad)} images are missing or unreadable:",
                *shown,
                "fetch them again, or leave them out with `python -m scripts.prepare_data "
                f"--skip_bad --root {images.root}`",
            ]
        )


def build_records(
    path: Path,
    images: ImageFiles,
    names: Sequence[str],
    pixels: Pixels,
    source: dict,
    workers: int | None = None,
    progress: bool = True,
) -> None:
    """Write the record file `path` of `names`, its checksums and, last, its description.

    Raises:
        BadImages: after all images have been tried.
        UserError: too little disk space; what is done is kept.
    """
    missing = images.missing(names)
    if missing:
        raise BadImages(images, dict.fromkeys(missing, "missing"))
    for old in (path.with_suffix(".json"), path):
        old.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".partial")
    size = int(np.prod(pixels.shape))
    journal = _Journal(path.with_suffix(".journal"), source, unfinished)
    _check_space(unfinished, len(names) * size)
    chunks = [
        _Chunk(start, [str(name) for name in names[start : start + CHUNK]])
        for start in range(0, len(names), CHUNK)
    ]
    todo = [chunk for chunk in chunks if chunk.start not in journal.finished]
    bad = {}
    decode = partial(_decode_chunk, pixels=pixels, path=unfinished)
    bar = tqdm(
        total=len(names),
        initial=len(names) - sum(len(chunk.names) for chunk in todo),
        desc=f"decoding {path.stem}",
        unit=" images",
        disable=not progress,
    )
    try:
        with journal, bar:
            for chunk, checksums, chunk_bad in _run(decode, todo, images, workers):
                bad.update(chunk_bad)
                if not chunk_bad:
                    journal.add(chunk.start, checksums)
                bar.update(len(chunk.names))
        if bad:
            raise BadImages(images, bad)
        _finish(
            path, unfinished, np.concatenate([journal.finished[c.start] for c in chunks]), source
        )
    except OSError as error:
        raise write_error(path, error) from error
    journal.path.unlink()


@dataclass(frozen=True)
class _Chunk:
    start: int
    names: list[str]


class _Journal:
    """Finished chunks, one JSON line each: [first record, checksums]. The first line is the
    source; a journal of another source, or without its record file, is begun anew."""

    def __init__(self, path: Path, source: dict, unfinished: Path):
        self.path, self.finished = path, {}
        lines = path.read_text().splitlines() if path.exists() and unfinished.exists() else []
        if lines and lines[0] == json.dumps(source):
            for line in lines[1:]:
                try:
                    start, checksums = json.loads(line)
                except ValueError:
                    break  # the line that was being written when the build was stopped
                self.finished[start] = np.array(checksums, np.uint32)
        else:
            unfinished.unlink(missing_ok=True)
        self.file = path.open("w")
        self._write(source)
        for start, checksums in self.finished.items():
            self._write([start, checksums.tolist()])

    def add(self, start: int, checksums: np.ndarray) -> None:
        self.finished[start] = checksums
        self._write([start, checksums.tolist()])

    def _write(self, value) -> None:
        self.file.write(json.dumps(value) + "\n")
        self.file.flush()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()


def _check_space(unfinished: Path, size: int) -> None:
    """Make room for `size` bytes, or say how many are missing."""
    present = unfinished.stat().st_blocks * 512 if unfinished.exists() else 0
    free = shutil.disk_usage(unfinished.parent).free
    if size - present > free:
        raise UserError(
            f"{unfinished.parent}: the cache needs {size - present:,} bytes and {free:,} are free; "
            "free some space, name another disk with cache_dir, or do without the cache: "
            "exp.dataset.cache=none"
        )
    with unfinished.open("ab") as file:
        file.truncate(size)


def _finish(path: Path, unfinished: Path, checksums: np.ndarray, source: dict) -> None:
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    with atomic_path(path.with_suffix(".crc.npy")) as temporary, temporary.open("wb") as file:
        np.save(file, checksums)
    unfinished.replace(path)
    write_json(path.with_suffix(".json"), {"source": source, "checksums": zlib.crc32(checksums)})


def _run(decode, chunks: list[_Chunk], images: ImageFiles, workers: int | None) -> Iterator:
    """Results of `decode` for all chunks as they come, from several processes if it pays."""
    workers = min(workers or len(os.sched_getaffinity(0)), len(chunks))
    if workers <= 1 or len(chunks) * CHUNK <= _FEW:
        yield from map(partial(decode, images=images), chunks)
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of other threads
    with ProcessPoolExecutor(workers, context, _start_worker, (images,)) as pool:
        futures = [pool.submit(decode, chunk) for chunk in chunks]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise UserError(
                "a decoding process was killed (out of memory?); start the same command again, "
                "what is done is kept, or use fewer --workers"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_worker_images: ImageFiles | None = None  # opened once per decoding process


def _start_worker(images: ImageFiles) -> None:
    global _worker_images
    _worker_images = images
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which stops us
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _decode_chunk(
    chunk: _Chunk, pixels: Pixels, path: Path, images: ImageFiles | None = None
) -> tuple[_Chunk, np.ndarray, dict[str, str]]:
    """Decode a chunk and write its records at their place; on the disk when this returns."""
    images = images or _worker_images
    records = np.zeros((len(chunk.names), *pixels.shape), np.uint8)
    bad = {}
    for row, name in enumerate(chunk.names):
        try:
            records[row] = pixels.decode(images.read(name))
        except (OSError, BadImage) as error:
            bad[name] = str(error)
    data, offset = memoryview(records).cast("B"), chunk.start * records[0].nbytes
    with path.open("rb+", buffering=0) as file:
        while data:
            written = os.pwrite(file.fileno(), data, offset)
            data, offset = data[written:], offset + written
        os.fdatasync(file.fileno())
    checksums = np.array([zlib.crc32(record) for record in records], np.uint32)
    return chunk, checksums, bad
