"""Decode many images on all cores, in chunks, and collect the ones that cannot be read."""

import multiprocessing
import os
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
from src.io import UserError

CHUNK = 128  # images
FEW = 4  # so few chunks are decoded before a second process has started


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


@dataclass(frozen=True)
class Chunk:
    """Images `start`, `start` + 1, ... of a list."""

    start: int
    names: list[str]


def split_chunks(names: Sequence[str]) -> list[Chunk]:
    """All names, in chunks of CHUNK."""
    starts = range(0, len(names), CHUNK)
    return [Chunk(start, [str(name) for name in names[start : start + CHUNK]]) for start in starts]


def decode_all(
    images: ImageFiles,
    chunks: list[Chunk],
    pixels: Pixels,
    path: Path | None = None,
    workers: int | None = None,
    progress: bool = True,
    label: str = "images",
    total: int | None = None,
) -> Iterator[tuple[Chunk, np.ndarray, dict[str, str]]]:
    """Decode chunks in several processes, if that pays, with a progress bar.

    Args:
        path: an existing file, into which image i is written as record i; None only decodes.
        workers: processes; default one per core.
        total: images of the whole job, of which `chunks` are what is left.

    Yields:
        As they are done: the chunk, the CRC32 (n,) of its records, and {name: reason} of those
        that cannot be read.
    """
    left = sum(len(chunk.names) for chunk in chunks)
    total = left if total is None else total
    bar = tqdm(
        total=total,
        initial=total - left,
        desc=f"decoding {label}",
        unit=" images",
        disable=not progress,
    )
    decode = partial(_decode_chunk, pixels=pixels, path=path)
    with bar:
        for result in _run(decode, chunks, images, workers):
            yield result
            bar.update(len(result[0].names))


def check_images(
    images: ImageFiles,
    names: Sequence[str],
    pixels: Pixels,
    workers: int | None = None,
    progress: bool = True,
    label: str = "images",
) -> dict[str, str]:
    """{name: reason} of the images that are missing or cannot be decoded; writes nothing."""
    bad = dict.fromkeys(images.missing(names), "missing")
    chunks = split_chunks([name for name in names if name not in bad])
    for _, _, chunk_bad in decode_all(
        images, chunks, pixels, workers=workers, progress=progress, label=label
    ):
        bad |= chunk_bad
    return bad


def _run(decode, chunks: list[Chunk], images: ImageFiles, workers: int | None) -> Iterator:
    """Results of `decode` for all chunks as they come."""
    workers = min(workers or len(os.sched_getaffinity(0)), len(chunks))
    if workers <= 1 or len(chunks) <= FEW:
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
                "a decoding process ended early (out of memory?); start the same command again, "
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
    chunk: Chunk, pixels: Pixels, path: Path | None, images: ImageFiles | None = None
) -> tuple[Chunk, np.ndarray, dict[str, str]]:
    images = images or _worker_images
    records = np.zeros((len(chunk.names), *pixels.shape), np.uint8)
    bad = {}
    for row, name in enumerate(chunk.names):
        try:
            records[row] = pixels.decode(images.read(name))
        except (OSError, BadImage) as error:
            bad[name] = str(error)
    if path is not None:
        _write_records(path, records, chunk.start)
    checksums = np.array([zlib.crc32(record) for record in records], np.uint32)
    return chunk, checksums, bad


def _write_records(path: Path, records: np.ndarray, start: int) -> None:
    """Write records at their place; they are on the disk when this returns."""
    data, offset = memoryview(records).cast("B"), start * records[0].nbytes
    with path.open("rb+", buffering=0) as file:
        while data:
            written = os.pwrite(file.fileno(), data, offset)
            data, offset = data[written:], offset + written
        os.fdatasync(file.fileno())
