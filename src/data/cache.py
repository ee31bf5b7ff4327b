"""Decoded images as uint8 records of one size in one file, each with a CRC32, read by position.

A cache is three files: `X.bin` (the records), `X.index` (checksums and sizes) and `X.json` (what it
was made from). `X.bin` gets its name last. A build that was stopped continues from `X.partial`.
Records are read with `preadv`, not mapped: memory stays flat if the split is larger than RAM.
"""

import hashlib
import math
import multiprocessing
import os
import shutil
import zlib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from src.data.decode import INDEX, BadImages, decode_all
from src.data.images import ImageFiles
from src.data.pixels import Pixels
from src.io import UserError, exclusive, read_json, write_error, write_json

VERSION = 2


class Records:
    """The decoded images of a split, in its order. Safe to read from many threads.

    Args:
        path: the record file.
        names: (N,) file names, for messages.
        index: (N,) of type INDEX.
    """

    def __init__(self, path: Path, pixels: Pixels, names: Sequence[str], index: np.ndarray):
        self.path, self.pixels, self.names, self.shape = path, pixels, names, pixels.shape
        self.checksums = np.ascontiguousarray(index["crc"])  # (N,) uint32
        self.sizes = np.stack([index["height"], index["width"]], axis=1).astype(np.int64)  # (N, 2)
        self._file = path.open("rb", buffering=0)

    def __len__(self) -> int:
        return len(self.checksums)

    @property
    def fingerprint(self) -> dict[str, str]:
        """Identify the pixels: a hash of all checksums."""
        return {"crc": hashlib.sha256(self.checksums).hexdigest()}

    def read(self, positions: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return the pixels (B, H, W, 3) uint8 of the records at `positions` (B,).

        Args:
            positions: row numbers within the split.
            out: memory (B, H, W, 3) uint8 to fill, C-contiguous.

        Raises:
            UserError: a record is damaged.
            IndexError: a position outside the split.
        """
        positions = np.asarray(positions, np.int64)
        if out is None:
            out = np.empty((len(positions), *self.shape), np.uint8)
        if out.shape != (len(positions), *self.shape) or not out.flags.c_contiguous:
            raise ValueError(f"out {out.shape}: wanted {(len(positions), *self.shape)}, contiguous")
        if not len(positions):
            return out
        if not 0 <= positions.min() <= positions.max() < len(self):
            raise IndexError(f"positions outside 0..{len(self) - 1}")
        # Plain numbers and one view: at 64x64, indexing arrays would take longer than reading.
        memory, size = memoryview(out).cast("B"), math.prod(self.shape)
        checksums = self.checksums[positions].tolist()
        breaks = (np.flatnonzero(np.diff(positions) != 1) + 1).tolist()
        for start, stop in zip([0, *breaks], [*breaks, len(positions)]):  # one read per run
            first = int(positions[start])
            self._fill(memory[start * size : stop * size], first, size)
            for row in range(start, stop):
                if zlib.crc32(memory[row * size : (row + 1) * size]) != checksums[row]:
                    raise self._damaged(first + row - start, "its CRC32 differs")
        return out

    def _fill(self, memory: memoryview, first: int, size: int) -> None:
        """Read consecutive records, from position `first` on."""
        done = 0
        while done < len(memory):
            count = os.preadv(self._file.fileno(), [memory[done:]], first * size + done)
            if count == 0:
                raise self._damaged(first + done // size, "the file is cut short")
            done += count

    def _damaged(self, position: int, reason: str) -> UserError:
        return UserError(
            f"{self.path}: record {position} ({self.names[position]}) is damaged ({reason}). "
            "Delete that file and start the same command again: it is rebuilt from the images"
        )


def open_or_build_cache(
    path: Path,
    images: ImageFiles,
    names: Sequence[str],
    pixels: Pixels,
    workers: int | None = None,
    progress: bool = True,
    rebuild: bool = False,
) -> Records:
    """Return the decoded images of a split; decode them first if that is not done yet.

    Of several processes that want the same cache, one builds it and the others wait. A build that
    was stopped continues.

    Args:
        path: of the record file.
        names: (N,) file names of the split.
        workers: decoding processes; default one per core.
        progress: show a bar while building.
        rebuild: decode again, even if sizes and mtimes of the images did not change.

    Raises:
        UserError: missing or unreadable images (a `BadImages`), or too little disk space.
    """
    source = {
        "version": VERSION,
        "images": str(images.location.resolve()),
        "fingerprint": images.fingerprint(names),
        "kind": pixels.kind,
        "frame": str(pixels.frame),
        "shape": list(pixels.shape),
        "count": len(names),
    }
    records = None if rebuild else _open(path, pixels, names, source)
    if records is not None:
        return records
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # A worker that runs the main script again; it would wait for its parent's lock for ever.
        raise UserError('put the code that opens the cache under `if __name__ == "__main__":`')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        waiting = f"{path}: another process is building this cache; waiting for it"
        with exclusive(path.with_suffix(".lock"), waiting):
            records = None if rebuild else _open(path, pixels, names, source)
            if records is None:
                if path.exists() and not rebuild:
                    print(f"{path}: old, damaged or of other images; building it again", flush=True)
                label = path.stem if progress else None
                _build(path, images, names, pixels, source, workers, label)
                records = _open(path, pixels, names, source)
    except OSError as error:
        raise write_error(path, error) from error
    if records is None:
        raise UserError(f"{path} was damaged while it was built; start the same command again")
    return records


def _open(
    path: Path, pixels: Pixels, names: Sequence[str], source: dict[str, Any]
) -> Records | None:
    """Return the finished cache, or None if there is none that is whole and made from `source`."""
    try:
        about = read_json(path.with_suffix(".json"), dict[str, Any])
        index = np.fromfile(path.with_suffix(".index"), INDEX)
        size = path.stat().st_size
    except (OSError, UserError):
        return None
    whole = len(index) == len(names) and size == len(names) * math.prod(pixels.shape)
    if about != {"source": source, "index": zlib.crc32(index)} or not whole:
        return None
    return Records(path, pixels, names, index)


def _build(
    path: Path,
    images: ImageFiles,
    names: Sequence[str],
    pixels: Pixels,
    source: dict[str, Any],
    workers: int | None,
    label: str | None,
) -> None:
    """Write the record file of `names`, its index and its description.

    Each finished chunk is entered in the index, so that a stopped build continues.
    """
    missing = images.missing(names)
    if missing:
        raise BadImages(images, dict.fromkeys(missing, "missing"))
    path.unlink(missing_ok=True)
    unfinished, index_file = path.with_suffix(".partial"), path.with_suffix(".index")
    index = _unfinished_index(path, source, math.prod(pixels.shape))
    if index is None:
        unfinished.unlink(missing_ok=True)
        write_json(path.with_suffix(".json"), {"source": source})
        index = np.zeros(len(names), INDEX)
        index_file.write_bytes(index.tobytes())
    _make_room(unfinished, len(names) * math.prod(pixels.shape))
    bad: dict[str, str] = {}
    decoded = decode_all(images, names, pixels, index["done"] == 1, unfinished, workers, label)
    with index_file.open("rb+", buffering=0) as file, closing(decoded):
        for chunk in decoded:
            bad |= chunk.bad
            index[chunk.start : chunk.start + len(chunk.index)] = chunk.index
            file.seek(chunk.start * INDEX.itemsize)
            file.write(chunk.index.tobytes())
        if bad:
            raise BadImages(images, bad)
        os.fsync(file.fileno())
    write_json(path.with_suffix(".json"), {"source": source, "index": zlib.crc32(index)})
    unfinished.replace(path)  # last: a build that is killed before this line continues


def _unfinished_index(path: Path, source: dict[str, Any], size: int) -> np.ndarray | None:
    """Return the index of a stopped build of `source`, if it exists.

    Records of `size` bytes whose CRC32 does not hold count as not done.
    """
    try:
        about = read_json(path.with_suffix(".json"), dict[str, Any])
        index = np.fromfile(path.with_suffix(".index"), INDEX)
        if about.get("source") != source or len(index) != source["count"]:
            return None
        with path.with_suffix(".partial").open("rb") as file:
            for row in index:
                record = file.read(size)
                row["done"] = row["done"] == 1 and zlib.crc32(record) == row["crc"]
    except (OSError, UserError):
        return None
    return index


def _make_room(unfinished: Path, size: int) -> None:
    """Create the unfinished file with `size` bytes, if the disk has room for them."""
    present = unfinished.stat().st_blocks * 512 if unfinished.exists() else 0
    free = shutil.disk_usage(unfinished.parent).free
    if size - present > free:
        raise UserError(
            f"{unfinished.parent}: the cache needs {size - present:,} bytes, {free:,} are free; "
            "free some space, name another disk with exp.dataset.cache_dir, or do without the "
            "cache: exp.dataset.cache=none"
        )
    with unfinished.open("ab") as file:
        file.truncate(size)
