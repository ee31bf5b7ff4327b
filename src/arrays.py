"""Reading .npz files that may be damaged: every array is checked whole, nothing is unpickled."""

import struct
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

# What reading a damaged .npy or .npz can raise: RuntimeError where a bit says encrypted or a newer
# format, MemoryError and OverflowError where a shape is absurd, SyntaxError and
# TokenError in a header.
DAMAGE = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, RuntimeError, MemoryError),
    *(OverflowError, SyntaxError, tokenize.TokenError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file.

    numpy checks an array's CRC32 only where it reads it to the end, and a damaged header can ask
    for less; so the parts are checked first.

    Raises:
        FileNotFoundError, or another of `DAMAGE` where the file is damaged.
    """
    with zipfile.ZipFile(path) as parts:
        damaged = parts.testzip()
    if damaged is not None:
        raise ValueError(f"its part {damaged} is damaged")
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
