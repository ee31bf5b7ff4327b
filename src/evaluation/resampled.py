"""Resample the images of each group; `src/evaluation/intervals.py` explains the method.

Shapes: G groups, M networks that see the same images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# The accuracy of an empty group: larger than any real one, so an empty group is never the worst.
EMPTY = 9.0

# For each of G groups (S, N_g) bool: whether the network of each of S seeds classifies each of the
# group's N_g images correctly.
Right = Sequence[np.ndarray]


def counts(right: Right) -> tuple[np.ndarray, np.ndarray]:
    """Count the images that two networks both classify correctly, per group.

    Counts are in float32, which is exact for groups of fewer than 2**24 images.

    Returns:
        counts (G, M, M), with the correct images of each network on the diagonal, and the number
        of images (G,).
    """
    numbers = [group.astype(np.float32) for group in right]
    both = np.array([group @ group.T for group in numbers], dtype=float)
    return both, np.array([group.shape[1] for group in right])


def accuracies(both: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return accuracies (G, M) from `counts`; empty groups get `EMPTY`."""
    correct, size = both.diagonal(axis1=1, axis2=2), size[:, None]
    return np.where(size > 0, correct / size.clip(min=1), EMPTY)


@dataclass(frozen=True)
class Resampled:
    """Mean and covariance of accuracies when all networks see the same resampled images.

    Attributes:
        mean: (G, M); `EMPTY` for empty groups.
        covariance: (G, M, M) between networks; groups are independent.
    """

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(
        cls, both: np.ndarray, size: np.ndarray, extra: int, extra_both: np.ndarray | float
    ) -> "Resampled":
        """Compute mean and covariance from `counts`.

        Args:
            extra: pseudo-images added to each group.
            extra_both: number of pseudo-images that two networks both get right, (M, M) or a
                number for all pairs.
        """
        more = (size + extra)[:, None, None]
        moment = (both + extra_both) / more  # (G, M, M)
        mean = moment.diagonal(axis1=1, axis2=2)  # (G, M)
        covariance = (moment - mean[..., None] * mean[:, None, :]) / more
        return cls(np.where(size[:, None] > 0, mean, EMPTY), covariance)

    def variance(self, weights: np.ndarray) -> np.ndarray:
        """Return the variance (G,) of the sum over networks with `weights` (M,)."""
        return self.covariance @ weights @ weights

    def draw(self, resamples: int, seed: int) -> np.ndarray:
        """Draw accuracies (G, M, B) from normals with this mean and covariance."""
        values, vectors = np.linalg.eigh(self.covariance)
        scale = np.sqrt(values.clip(min=0))[:, None, :]  # (G, 1, M)
        root = (vectors * scale) @ vectors.swapaxes(-1, -2)  # (G, M, M)
        return root @ _normals(*self.mean.shape, resamples, seed) + self.mean[..., None]


@lru_cache(maxsize=8)
def _normals(groups: int, networks: int, resamples: int, seed: int) -> np.ndarray:
    """Draw standard normals (G, M, B); each group has exactly mean 0 and covariance 1.

    The second half mirrors the first, and a QR decomposition whitens each group. All rows of a
    report share these numbers, so they would also share their sampling error.
    """
    count = max((resamples + 1) // 2, networks)
    drawn = np.random.default_rng(seed).standard_normal((groups, count, networks))
    half = np.linalg.qr(drawn).Q.transpose(0, 2, 1) * count**0.5  # (G, M, B / 2)
    normals = np.concatenate([half, -half], axis=2)
    normals.flags.writeable = False  # cached
    return normals


def minimum_bias(
    drawn: np.ndarray,
    images: Resampled,
    accuracy: np.ndarray,
    chosen: np.ndarray | slice = slice(None),
) -> float:
    """Bound how far the mean over networks of the worst-group accuracy lies below the truth.

    A group counts as tied with the worst group of its network if it lies less than two standard
    errors of the difference above it.

    Args:
        drawn: (G, M, B), from `images.draw`.
        accuracy: (G, M), measured or smoothed.
        chosen: the networks to use.
    """
    accuracy = accuracy[:, chosen]  # (G, S)
    variance = images.covariance.diagonal(axis1=1, axis2=2)[:, chosen]  # (G, S)
    of_lowest = np.take_along_axis(variance, accuracy.argmin(axis=0)[None], axis=0)
    tied = accuracy - accuracy.min(axis=0) <= 2 * np.sqrt(variance + of_lowest)  # (G, S)
    noise = drawn[:, chosen] - images.mean[:, chosen, None]  # (G, S, B)
    noise[~tied] = np.inf
    # Without ties the mean of the noise is 0.
    return max(0.0, -noise.min(axis=0).mean())
