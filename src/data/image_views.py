"""Images at chosen positions of other image sources, as one source."""

import hashlib
from collections.abc import Sequence

import numpy as np

from src.data.features import input_type
from src.data.read_ahead import ImageSource


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
