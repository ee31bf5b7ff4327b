"""Reading .npz files that may be damaged: every array is checked whole, nothing is unpickled."""

import io
import lzma
import math
import os
import struct
import tokenize
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from src.files import open_regular

# What reading a damaged .npy or .npz can raise: RuntimeError where a bit says encrypted or a newer
# format, MemoryError and OverflowError where a shape is absurd, SyntaxError and
# TokenError in a header.
DAMAGE = (
    *(OSError, EOFError, ValueError, TypeError, LookupError, RuntimeError, MemoryError),
    *(OverflowError, SyntaxError, tokenize.TokenError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
)

# Bytes of all arrays of a file. The largest that is written, logits of 40 tasks for the 202,599
# images of CelebA, has 32 MB; a few kB can unpack to many GB.
MAX_SIZE = 1 << 30
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # those of numpy
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file.

    A part read whole is checked against its CRC32; numpy alone reads what the header asks for,
    and a damaged one can ask for less.

    Raises:
        FileNotFoundError, or another of `DAMAGE` where the file is damaged.
    """
    with open_regular(path) as file:
        _check_size(os.fstat(file.fileno()).st_size)
        # One read: zipfile alone asks for a few bytes at a time, slow where files are far away.
        packed = io.BytesIO(file.read())
    with zipfile.ZipFile(packed) as parts:
        if any(part.compress_type not in _METHODS for part in parts.infolist()):
            raise ValueError("packed with a method other than stored or deflated")
        _check_size(sum(part.file_size for part in parts.infolist()))
        return {
            part.filename.removesuffix(".npy"): _read_array(_read_part(parts, part))
            for part in parts.infolist()
        }


def _check_size(size: int) -> None:
    if size > MAX_SIZE:
        raise ValueError(f"it holds {size:,} bytes; at most {MAX_SIZE:,} are read")


def _read_part(parts: zipfile.ZipFile, part: zipfile.ZipInfo) -> bytes:
    with parts.open(part) as file:
        return file.read(part.file_size)  # without the number, all it unpacks to, promised or not


def _read_array(data: bytes) -> np.ndarray:
    """The array of an .npy file, whose header must promise as many bytes as there are."""
    length, start = ("<H", 10) if data[6:7] == b"\1" else ("<I", 12)
    end = start + struct.unpack_from(length, data, 8)[0]
    shape, by_columns, dtype, start = _read_header(data[:end])
    count = math.prod(shape)
    if dtype.hasobject:
        raise ValueError("it holds pickled objects")
    # Without bytes to a value, a header can promise any number of them.
    if count * dtype.itemsize != len(data) - start or (count and not dtype.itemsize):
        raise ValueError(f"an array of {count:,} values has {len(data) - start:,} bytes")
    values = np.ndarray(count, dtype, data, start).copy()
    return values.reshape(shape, order="F" if by_columns else "C")


@lru_cache(maxsize=256)
def _read_header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, whether by columns, dtype, where the values begin. Thousands of files have the same
    few headers, and numpy parses each as a Python expression."""
    file = io.BytesIO(data)
    return *_HEADERS[npy.read_magic(file)](file), file.tell()
