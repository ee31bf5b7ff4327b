"""Decode image files: all of a split in several processes, or those of a batch when needed."""

import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from src.data.images import ImageFiles
from src.data.pixels import BadImage, Pixels, WrongFrame
from src.data.pool import run_in_processes
from src.io import UserError

CHUNK = 128  # images per task of a worker
# Of each image: CRC32 of its record, height and width of the picture in its file, written or not.
INDEX = np.dtype([("crc", "<u4"), ("height", "<u4"), ("width", "<u4"), ("done", "u1")])


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
                "get them again, or leave them out: python -m scripts.prepare_data --skip_bad ...",
            ]
        )


def decode_file(
    images: ImageFiles, name: str, pixels: Pixels
) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the pixels of an image by name, and the size of its picture; see `Pixels.decode`.

    Raises:
        OSError, BadImage: it cannot be read.
        UserError: it has not the size of the data set's frames.
    """
    try:
        return pixels.decode(images.read(name))
    except WrongFrame as error:
        raise UserError(
            f"{images.path(name)}: {error}, the size of CelebA's aligned images. Use the images of "
            f"img_align_celeba.zip, or take other pictures with exp.dataset.crop=square (or full)"
        ) from None


@dataclass(frozen=True)
class Chunk:
    """Decoded images `start`, `start` + 1, ... of a list.

    Attributes:
        index: (n,) of type INDEX.
        bad: {name: reason} of those that cannot be read.
    """

    start: int
    index: np.ndarray
    bad: dict[str, str]


def decode_all(
    images: ImageFiles,
    names: Sequence[str],
    pixels: Pixels,
    done: np.ndarray | None = None,
    path: Path | None = None,
    workers: int | None = None,
    label: str | None = None,
) -> Iterator[Chunk]:
    """Decode images in chunks of CHUNK by several processes; yield the chunks as they are done.

    Args:
        done: (N,) bool; chunks that are done are skipped.
        path: an existing file, into which image i is written as record i; None writes nothing.
        workers: processes; default one per core.
        label: of the progress bar; None shows none.
    """
    if done is None:
        done = np.zeros(len(names), bool)
    parts = (slice(start, start + CHUNK) for start in range(0, len(names), CHUNK))
    chunks = [(p.start, list(map(str, names[p]))) for p in parts if not done[p].all()]
    left = sum(len(part) for _, part in chunks)
    total, hidden = len(names), True if label is None else None  # None: only in a terminal
    with tqdm(
        total=total, initial=total - left, desc=f"decoding {label}", unit=" images", disable=hidden
    ) as bar:
        decode = partial(_decode_chunk, images, pixels, path)
        for chunk in run_in_processes(decode, chunks, workers):
            yield chunk
            bar.update(len(chunk.index))


def _decode_chunk(
    images: ImageFiles, pixels: Pixels, path: Path | None, chunk: tuple[int, list[str]]
) -> Chunk:
    start, names = chunk
    records = np.zeros((len(names), *pixels.shape), np.uint8)
    index, bad = np.zeros(len(names), INDEX), {}
    for row, name in enumerate(names):
        try:
            records[row], (index["height"][row], index["width"][row]) = decode_file(
                images, name, pixels
            )
        except (OSError, BadImage) as error:
            bad[name] = str(error)
        else:
            index["crc"][row], index["done"][row] = zlib.crc32(records[row]), 1
    if path is not None:
        _write_records(path, records, start)
    return Chunk(start, index, bad)


def _write_records(path: Path, records: np.ndarray, start: int) -> None:
    """Write records to their place in the file and flush them to the disk."""
    data, offset = memoryview(records).cast("B"), start * records[0].nbytes
    with path.open("rb+", buffering=0) as file:
        while data:
            written = os.pwrite(file.fileno(), data, offset)
            data, offset = data[written:], offset + written
        os.fdatasync(file.fileno())


def check_images(
    images: ImageFiles,
    names: Sequence[str],
    pixels: Pixels,
    workers: int | None = None,
    label: str | None = None,
) -> dict[str, str]:
    """Return {name: reason} of the images that are missing or cannot be decoded."""
    bad = dict.fromkeys(images.missing(names), "missing")
    names = [name for name in names if name not in bad]
    for chunk in decode_all(images, names, pixels, workers=workers, label=label):
        bad |= chunk.bad
    return bad


class StreamedImages:
    """Images decoded at each use, by `workers` threads; reads like `src.data.cache.Records`.

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
            UserError: an image is missing or unreadable.
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
            raise UserError(
                f"{self.images.path(name)}: cannot be read ({error}); get it again, or leave it "
                f"out: python -m scripts.prepare_data --skip_bad ..."
            ) from None
