"""Images of a split, read by position: decoded records, or files decoded when needed."""

import hashlib
import math
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from src.data.features import input_type
from src.data.images import BadImages, ImageFiles, decode_file
from src.data.pixels import BadImage, Pixels
from src.io import UserError

# Of each record: its CRC32, height and width of the picture in its file, whether it is written.
INDEX = np.dtype([("crc", "<u4"), ("height", "<u4"), ("width", "<u4"), ("done", "u1")])


class ImageSource(Protocol):
    """The images of a split, read by position: decoded records, or images decoded when needed.

    Features (src/data/features.py) are read in the same way.

    Attributes:
        pixels: what is kept of each image.
        shape: (H, W, 3) of an image.
        sizes: (N, 2) height and width of the pictures that full frames are scaled copies of.
        fingerprint: identifies the pixels.
    """

    pixels: Pixels
    shape: tuple[int, ...]
    sizes: np.ndarray
    fingerprint: dict[str, str]

    def read(self, positions: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Fill `out` (B, H, W, 3) with the images at `positions` (B,)."""


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
            out: memory (B, H, W, 3) uint8 to fill.

        Raises:
            UserError: a record is damaged.
            IndexError: a position outside the split.
        """
        positions = np.asarray(positions, np.int64)
        if out is None:
            out = np.empty((len(positions), *self.shape), np.uint8)
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


class StreamedImages:
    """Images decoded at each use, by `workers` threads; reads like `Records`.

    Attributes:
        sizes: (N, 2) height and width of the pictures that have been read.
    """

    def __init__(self, images: ImageFiles, names: Sequence[str], pixels: Pixels, workers: int = 1):
        self.images, self.names, self.pixels, self.workers = images, names, pixels, workers
        self.shape = pixels.shape
        self.sizes = np.zeros((len(names), 2), np.int64)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def fingerprint(self) -> dict[str, str]:
        """Identify the pixels: a hash of the names, sizes and mtimes of the files."""
        return {"files": self.images.fingerprint(self.names)}

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max(1, self.workers), "decode")

    def read(self, positions: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return the pixels (B, H, W, 3) uint8 of the images at `positions` (B,).

        Raises:
            BadImages: an image is missing or unreadable.
        """
        if out is None:
            out = np.empty((len(positions), *self.shape), np.uint8)
        decoded = self._threads.map(self._decode, positions)
        for row, (position, result) in enumerate(zip(positions, decoded)):
            out[row], self.sizes[position] = result
        return out

    def _decode(self, position: int) -> tuple[np.ndarray, tuple[int, int]]:
        name = str(self.names[position])
        try:
            return decode_file(self.images, name, self.pixels)
        except (OSError, BadImage) as error:
            raise BadImages(self.images, {name: str(error)}) from None


class ImageView:
    """The images at given positions of one or more sources, one after the other.

    Args:
        parts: pairs of a source and positions (n,) in it.
    """

    def __init__(self, parts: Sequence[tuple[ImageSource, np.ndarray]]):
        self.sources = [source for source, _ in parts]
        self.pixels, self.shape = self.sources[0].pixels, self.sources[0].shape
        self.dtype = input_type(self.sources[0])
        self.sizes = np.concatenate([source.sizes[rows] for source, rows in parts])  # (N, 2)
        self._source = np.repeat(np.arange(len(parts)), [len(rows) for _, rows in parts])  # (N,)
        self._row = np.concatenate([rows for _, rows in parts])  # (N,)

    @property
    def fingerprint(self) -> dict[str, str]:
        """Identify the pixels: by those of the sources, and the positions."""
        digest = hashlib.sha256(np.stack([self._source, self._row]).astype(np.int64).tobytes())
        for source in self.sources:
            digest.update(str(source.fingerprint).encode())
        return dict.fromkeys(self.sources[0].fingerprint, digest.hexdigest())

    def read(self, positions: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Fill `out` (B, H, W, 3) with the images at `positions` (B,)."""
        for number, source in enumerate(self.sources):
            chosen = np.flatnonzero(self._source[positions] == number)
            if len(chosen):
                rows = self._row[positions[chosen]]
                out[chosen] = source.read(rows, np.empty((len(rows), *self.shape), self.dtype))
                self.sizes[positions[chosen]] = source.sizes[rows]  # known once it is decoded
        return out
