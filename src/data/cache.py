"""Decoded images as fixed-size uint8 records in one file, each with a CRC32, read by position.

A cache is three files: `X.bin` (the records), `X.crc.npy` (their checksums) and `X.json` (what it
was made from). `X.bin` gets its name last, so that a cache without it does not exist. It is used
only while the images are those it was made from. Records are read with `preadv`, not mapped:
resident memory stays flat when the split is larger than RAM.
"""

import hashlib
import math
import multiprocessing
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from src.data.celeba import ImageFiles, cache_folder, load_annotations
from src.data.pixels import Pixels
from src.data.record_builder import build_records
from src.io import DAMAGE, UserError, exclusive, read_json, write_error

VERSION = 1


class Records:
    """The records of a split in the order of its annotations. Safe to read from many threads."""

    def __init__(self, path: Path, pixels: Pixels, names: Sequence[str], checksums: np.ndarray):
        self.path, self.pixels, self.names = path, pixels, names
        self.checksums = checksums  # (N,) uint32
        self._file = path.open("rb", buffering=0)

    def __len__(self) -> int:
        return len(self.checksums)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.pixels.shape

    @property
    def fingerprint(self) -> dict[str, str]:
        """Identify the pixels: a hash of all checksums."""
        return {"crc": hashlib.sha256(np.ascontiguousarray(self.checksums)).hexdigest()}

    def read(self, positions: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Pixels (B, H, W, 3) uint8 of the records at `positions` (B,), in that order.

        Args:
            positions: row numbers within the split.
            out: memory (B, H, W, 3) uint8 to fill, C-contiguous (pinned, perhaps).

        Raises:
            UserError: a record is damaged; the message says how to rebuild the cache.
            IndexError: a position outside the split.
        """
        positions = np.asarray(positions, np.int64)
        if out is None:
            out = np.empty((len(positions), *self.shape), np.uint8)
        if out.shape != (len(positions), *self.shape) or not out.flags.c_contiguous:
            raise ValueError(f"out {out.shape}: wanted {(len(positions), *self.shape)}, contiguous")
        if len(positions) and not 0 <= positions.min() <= positions.max() < len(self):
            raise IndexError(f"positions outside 0..{len(self) - 1}")
        if not len(positions):
            return out
        # Plain numbers, one view: at 64x64 indexing arrays would take longer than the reading.
        memory, size = memoryview(out).cast("B"), math.prod(self.shape)
        checksums = self.checksums[positions].tolist()
        breaks = (np.flatnonzero(np.diff(positions) != 1) + 1).tolist()
        for start, stop in zip([0, *breaks], [*breaks, len(positions)]):  # runs in one read each
            first = int(positions[start])
            self._fill(memory[start * size : stop * size], first, size)
            for row in range(start, stop):
                if zlib.crc32(memory[row * size : (row + 1) * size]) != checksums[row]:
                    raise self._damaged(first + row - start, "its CRC32 differs")
        return out

    def _fill(self, memory: memoryview, first: int, size: int) -> None:
        """Read the records from position `first` on that fit into the memory."""
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
    root: str | Path,
    split: str,
    resolution: tuple[int, int],
    full_frame: bool = False,
    cache_dir: str | Path | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Records:
    """The decoded images of a split; decodes them first where that is not done yet.

    Of several processes that want the same cache one builds it and the others wait. A build that
    was stopped goes on where it was.

    Args:
        root: the CelebA folder.
        split: train, val or test.
        resolution: (height, width) of the cropped records, or of the crops drawn from full frames.
        full_frame: keep the whole 178x218 frame, for augmentation.
        cache_dir: default `data/cache`.
        workers: decoding processes; default one per core.
        progress: show a bar while building.

    Raises:
        UserError: missing or unreadable images (a `BadImages`), too little disk space.
    """
    names = load_annotations(root, cache_dir).of_split(split).names
    if not len(names):
        raise UserError(f"{root}: no image belongs to the split '{split}'")
    images = ImageFiles(root)
    pixels = Pixels((int(resolution[0]), int(resolution[1])), full_frame)
    path = cache_folder(root, cache_dir) / f"{split}-{pixels.kind}.bin"
    source = {
        "version": VERSION,
        "images": str(images.location.resolve()),
        "fingerprint": images.fingerprint(names),
        "kind": pixels.kind,
        "shape": list(pixels.shape),
        "count": len(names),
    }
    records = _open(path, pixels, names, source)
    if records is not None:
        return records
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # A decoding process that runs the main script: it would wait for its parent's lock.
        raise UserError('put the code that opens the cache under `if __name__ == "__main__":`')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        waiting = f"{path}: another process is building this cache; waiting for it"
        with exclusive(path.with_suffix(".lock"), waiting):
            records = _open(path, pixels, names, source)
            if records is None:
                if path.exists():
                    print(f"{path}: made from other images, or damaged; built again", flush=True)
                build_records(path, images, names, pixels, source, workers, progress)
                records = _open(path, pixels, names, source)
    except OSError as error:
        raise write_error(path, error) from error
    if records is None:
        raise UserError(f"{path}: damaged while it was built; start the same command again")
    return records


def _open(path: Path, pixels: Pixels, names: Sequence[str], source: dict) -> Records | None:
    """The finished cache, or None where there is none made from `source`, whole and undamaged."""
    try:
        meta = read_json(path.with_suffix(".json"))
        checksums = np.load(path.with_suffix(".crc.npy"), allow_pickle=False)
        size = path.stat().st_size
    except (*DAMAGE, UserError):
        return None
    if not isinstance(meta, dict) or meta.get("source") != source:
        return None
    if meta.get("checksums") != zlib.crc32(checksums):
        return None
    if size != len(names) * int(np.prod(pixels.shape)):
        return None
    return Records(path, pixels, names, checksums)
