"""Decoded images as uint8 records of one size in one file, each with a CRC32, read by position.

A cache is three files: `X.bin` (the records), `X.index` (checksums and sizes) and `X.json` (what it
was made from). `X.bin` gets its name last. A build that was stopped continues from `X.partial`.
Records are read with `preadv`, not mapped: memory stays flat if the split is larger than RAM.
"""

import math
import os
import shutil
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from src.data.images import BadImages, ImageFiles, decode_file
from src.data.pixels import BadImage, Pixels
from src.data.sources import INDEX, Records
from src.io import UserError, exclusive, read_json, write_error, write_json

VERSION = 2
CHUNK = 128  # images that a thread decodes at once


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
        workers: decoding threads; default one per core.
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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        waiting = f"{path}: another process is building this cache; waiting for it"
        with exclusive(path.with_suffix(".lock"), waiting):
            records = None if rebuild else _open(path, pixels, names, source)
            if records is None:
                if path.exists() and not rebuild:
                    print(f"{path}: old, damaged or of other images; building it again", flush=True)
                index = _build(path, images, names, pixels, source, workers, progress)
                records = Records(path, pixels, names, index)
    except OSError as error:
        raise write_error(path, error) from error
    return records


def _read_index(path: Path, source: dict[str, Any]) -> tuple[np.ndarray | None, bool]:
    """Return the index of records made from `source`, and whether all of them were written."""
    try:
        about = read_json(path.with_suffix(".json"), dict[str, Any])
        index = np.fromfile(path.with_suffix(".index"), INDEX)
    except (OSError, UserError):
        return None, False
    if about.get("source") != source or len(index) != source["count"]:
        return None, False
    return index, about.get("index") == zlib.crc32(index)


def _open(
    path: Path, pixels: Pixels, names: Sequence[str], source: dict[str, Any]
) -> Records | None:
    """Return the finished cache; None if it is missing, incomplete or made from other images."""
    index, finished = _read_index(path, source)
    size = len(names) * math.prod(pixels.shape)
    if finished and path.exists() and path.stat().st_size == size:
        return Records(path, pixels, names, index)
    return None


def _build(
    path: Path,
    images: ImageFiles,
    names: Sequence[str],
    pixels: Pixels,
    source: dict[str, Any],
    workers: int | None,
    progress: bool,
) -> np.ndarray:
    """Write the record file of `names`, its index and its description; return the index.

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

    def decode(start: int) -> int:
        """Decode a chunk of images, write their records, and then their rows of the index."""
        own, rows = names[start : start + CHUNK], index[start : start + CHUNK]
        records = np.zeros((len(own), *pixels.shape), np.uint8)
        for row, name in enumerate(map(str, own)):
            try:
                records[row], size = decode_file(images, name, pixels)
            except (OSError, BadImage) as error:
                bad[name] = str(error)
            else:
                rows[row] = (zlib.crc32(records[row]), *size, 1)
        _write(unfinished, records, start * records[0].nbytes)
        _write(index_file, rows, start * INDEX.itemsize)
        return len(own)

    starts = [s for s in range(0, len(names), CHUNK) if not index["done"][s : s + CHUNK].all()]
    hidden = None if progress else True  # None: only in a terminal
    bar = tqdm(total=len(names), desc=f"decoding {path.stem}", unit=" images", disable=hidden)
    bar.update(np.count_nonzero(index["done"]))
    with bar, ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        for count in pool.map(decode, starts):  # decoders release the GIL
            bar.update(count)
    if bad:
        raise BadImages(images, bad)
    write_json(path.with_suffix(".json"), {"source": source, "index": zlib.crc32(index)})
    unfinished.replace(path)  # last: a build that is killed before this line continues
    return index


def _write(path: Path, values: np.ndarray, offset: int) -> None:
    """Write values to their place in a file and flush them to the disk."""
    data = memoryview(values.reshape(-1).view(np.uint8))
    with path.open("rb+", buffering=0) as file:
        while data:
            written = os.pwrite(file.fileno(), data, offset)
            data, offset = data[written:], offset + written
        os.fdatasync(file.fileno())


def _unfinished_index(path: Path, source: dict[str, Any], size: int) -> np.ndarray | None:
    """Return the index of a stopped build of `source`, if it exists.

    Records of `size` bytes whose CRC32 does not hold count as not done.
    """
    index, _ = _read_index(path, source)
    if index is None or not path.with_suffix(".partial").exists():
        return None
    with path.with_suffix(".partial").open("rb") as file:
        for row in index:
            row["done"] = zlib.crc32(file.read(size)) == row["crc"] and row["done"] == 1
    return index


def _make_room(unfinished: Path, size: int) -> None:
    """Create the unfinished file with `size` bytes, if the disk has room for them."""
    needed = size - (unfinished.stat().st_blocks * 512 if unfinished.exists() else 0)
    free = shutil.disk_usage(unfinished.parent).free
    if needed > free:
        raise UserError(
            f"{unfinished.parent}: the cache needs {needed:,} bytes, {free:,} are free; free some "
            "space, name another disk with exp.dataset.cache_dir, or set exp.dataset.cache=none"
        )
    with unfinished.open("ab") as file:
        file.truncate(size)
