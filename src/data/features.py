"""Features of any model in the place of images: one row of numbers per row of the table."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from src.io import UserError, expand, first_line

FEATURE_MODELS = ("linear", "mlp")  # networks on features, see `build_model`
_BLOCK = 1 << 24  # bytes hashed at once


def open_features(path: str | Path) -> np.ndarray:
    """Open the features (N, D) in a .npy file, or the only array of a .safetensors file.

    Raises:
        UserError: the file is missing or damaged, or holds no table of finite numbers.
    """
    path = expand(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            (values,) = load_file(path).values()
        else:
            values = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"exp.dataset.features={path}: no such file") from error
    except Exception as error:  # NumPy and safetensors raise many kinds for a damaged file
        reason = first_line(error)
        raise UserError(
            f"exp.dataset.features={path} cannot be read ({reason}): use one array (N, D), saved "
            f"with numpy.save or safetensors.numpy.save_file"
        ) from error
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise UserError(
            f"exp.dataset.features={path} has shape {values.shape} and type {values.dtype}: use "
            f"numbers with one row per row of the table, (N, D)"
        )
    return values


class FeatureRows:
    """The features of a split, read by position as images are; see `ImageSource`.

    Args:
        values: (N, D) features of all rows of the table.
        rows: (n,) those of the split.
    """

    dtype = np.float32
    pixels = None

    def __init__(self, values: np.ndarray, rows: np.ndarray):
        self.values, self.rows = values, rows
        self.shape = (values.shape[1],)
        self.sizes = np.ones((len(rows), 2), np.int64)  # as images have

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def fingerprint(self) -> dict[str, str]:
        """Identify the features: a checksum of the split's rows."""
        crc = 0
        for rows in np.array_split(self.rows, 1 + self.values.nbytes // _BLOCK):
            crc = zlib.crc32(np.ascontiguousarray(self.values[rows]), crc)
        return {"features": f"{crc:08x}"}

    def read(self, positions: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return the features (B, D) float32 at `positions` (B,).

        Raises:
            UserError: a number is not finite.
        """
        found = self.values[self.rows[positions]].astype(np.float32)
        if not np.isfinite(found).all():
            row = self.rows[positions[~np.isfinite(found).all(1)][0]]
            raise UserError(f"exp.dataset.features: row {row} (from 0) holds NaN or infinity")
        if out is None:
            return found
        out[...] = found
        return out


def input_type(source: Any) -> type:
    """Return the type of a source's numbers: uint8 for images, float32 for features."""
    return getattr(source, "dtype", np.uint8)
