"""Reading .npz files that may be damaged: every array is checked whole, nothing is unpickled."""

import io
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.lib.format import read_array

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

    A part read whole is checked against its CRC32; numpy alone reads what the header asks for,
    and a damaged one can ask for less.

    Raises:
        FileNotFoundError, or another of `DAMAGE` where the file is damaged.
    """
    with zipfile.ZipFile(path) as parts:
        return {
            name.removesuffix(".npy"): read_array(io.BytesIO(parts.read(name)), allow_pickle=False)
            for name in parts.namelist()
        }
