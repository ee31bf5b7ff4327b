"""Decode the images of a split into a record file, on all cores; stopped, it goes on later.

Finished chunks are noted in a journal beside the unfinished file, with the checksums of their
records and one of the line itself; what is noted is on the disk.
"""

import json
import os
import shutil
import zlib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from src.data.decoding import CHUNK, BadImages, decode_all, split_chunks
from src.data.layout import ImageFiles
from src.data.pixels import Pixels
from src.io import UserError, atomic_path, write_json


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
        UserError: too little disk space.
        OSError: the disk is full after all, or fails; what is done is kept.
    """
    missing = images.missing(names)
    if missing:
        raise BadImages(images, dict.fromkeys(missing, "missing"))
    for old in (path.with_suffix(".json"), path):
        old.unlink(missing_ok=True)
    unfinished = path.with_suffix(".partial")
    chunks = split_chunks(names)
    bad: dict[str, str] = {}
    with _Journal(path.with_suffix(".journal"), source, unfinished) as journal:
        _make_room(unfinished, len(names) * int(np.prod(pixels.shape)))
        todo = [chunk for chunk in chunks if chunk.start not in journal.finished]
        results = decode_all(
            images, todo, pixels, unfinished, workers, progress, path.stem, len(names)
        )
        with closing(results):  # the bar ends before it is told that the journal cannot be written
            for chunk, checksums, chunk_bad in results:
                bad |= chunk_bad
                if not chunk_bad:
                    journal.add(chunk.start, checksums)
    if bad:
        raise BadImages(images, bad)
    _finish(path, unfinished, np.concatenate([journal.finished[c.start] for c in chunks]), source)
    journal.path.unlink()


class _Journal:
    """Finished chunks, one JSON line each: [first record, checksums]. The first line is the
    source; a journal of another source, or without its record file, is begun anew."""

    def __init__(self, path: Path, source: dict, unfinished: Path):
        self.path, self.finished = path, {}
        source = source | {"chunk": CHUNK}
        lines = _read_lines(path) if path.exists() and unfinished.exists() else []
        if lines and lines[0] == json.dumps(source):
            for start, checksums in map(json.loads, lines[1:]):
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
        text = json.dumps(value)
        self.file.write(f"{text} {zlib.crc32(text.encode())}\n")
        self.file.flush()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()


def _read_lines(path: Path) -> list[str]:
    """The lines before the first that is not whole: it was being written, or is damaged."""
    lines = []
    for line in path.read_bytes().splitlines():
        text, _, checksum = line.rpartition(b" ")
        if not text or checksum != str(zlib.crc32(text)).encode():
            break
        lines.append(text.decode())
    return lines


def _make_room(unfinished: Path, size: int) -> None:
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
    write_json(path.with_suffix(".json"), {"source": source, "checksums": zlib.crc32(checksums)})
    # Last: a build that is killed before this line still has its journal and what it tells of.
    unfinished.replace(path)
