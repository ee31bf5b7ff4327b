"""Resample the images of each group, for many rows of a report at once.

There are K rows with G groups and M networks each. `src/evaluation/intervals.py` turns the result
into intervals and explains the method.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# The accuracy of an empty group: larger than any real one, so an empty group is never the worst.
EMPTY = 9.0

# One row of a report: for each of G groups (S, N_g) bool, whether the network of each of S seeds
# classifies each of the group's N_g images correctly.
Right = Sequence[np.ndarray]


def counts(rows: Sequence[Right]) -> tuple[np.ndarray, np.ndarray]:
    """Count the images that two networks both classify correctly, per row and group.

    Counts are in float32, which is exact for groups of fewer than 2**24 images.

    Returns:
        counts (K, G, M, M), with the correct images of each network on the diagonal, and the number
        of images (K, G).
    """
    size = np.array([[group.shape[1] for group in row] for row in rows])  # (K, G)
    numbers = [[group.astype(np.float32) for group in row] for row in rows]
    both = np.array([[group @ group.T for group in row] for row in numbers], dtype=float)
    return both, size


def accuracies(correct: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Divide `correct` (K, G, M) by `size` (K, G); empty groups get `EMPTY`."""
    size = size[:, :, None]
    return np.where(size > 0, correct / size.clip(min=1), EMPTY)


@dataclass(frozen=True)
class Resampled:
    """Mean and covariance of accuracies when all networks see the same resampled images.

    Attributes:
        mean: (K, G, M); `EMPTY` for empty groups.
        covariance: (K, G, M, M) between networks; groups are independent.
    """

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(
        cls, both: np.ndarray, size: np.ndarray, extra: int, extra_both: np.ndarray | float
    ) -> "Resampled":
        """Compute mean and covariance from counts.

        Args:
            both, size: the result of `counts`, (K, G, M, M) and (K, G).
            extra: pseudo-images added to each group.
            extra_both: number of pseudo-images that two networks both get right, (M, M) or a
                number for all pairs.
        """
        more = (size + extra)[..., None, None]
        moment = (both + extra_both) / more  # (K, G, M, M)
        mean = moment.diagonal(axis1=2, axis2=3)  # (K, G, M)
        covariance = (moment - mean[..., None] * mean[..., None, :]) / more
        return cls(np.where(size[..., None] > 0, mean, EMPTY), covariance)

    def variance(self, weights: np.ndarray) -> np.ndarray:
        """Return the variance (K, G) of the sum over networks with `weights` (M,)."""
        return self.covariance @ weights @ weights

    def draw(self, resamples: int, seed: int) -> np.ndarray:
        """Draw accuracies (K, G, M, B) from normals with this mean and covariance."""
        values, vectors = np.linalg.eigh(self.covariance)
        scale = np.sqrt(values.clip(min=0))[..., None, :]  # (K, G, 1, M)
        root = (vectors * scale) @ vectors.swapaxes(-1, -2)  # (K, G, M, M)
        drawn = root @ _normals(*self.mean.shape[1:], resamples, seed)
        drawn += self.mean[..., None]
        return drawn


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
    drawn: np.ndarray, images: Resampled, accuracy: np.ndarray, chosen: np.ndarray | slice
) -> np.ndarray:
    """Bound how far the mean over seeds of the worst-group accuracy lies below the truth, (K,).

    A group counts as tied with the worst group of its seed if it lies less than two standard errors
    of the difference above it.

    Args:
        drawn: (K, G, M, B), from `images.draw`.
        accuracy: (K, G, M), measured or smoothed.
        chosen: the networks to use.
    """
    accuracy = accuracy[..., chosen]  # (K, G, S)
    variance = images.covariance.diagonal(axis1=2, axis2=3)[..., chosen]  # (K, G, S)
    lowest = accuracy.argmin(axis=1)[:, None]  # (K, 1, S)
    of_lowest = np.take_along_axis(variance, lowest, axis=1)
    above = accuracy - accuracy.min(axis=1, keepdims=True)
    tied = above <= 2 * np.sqrt(variance + of_lowest)  # (K, G, S)
    noise = drawn[:, :, chosen] - images.mean[..., chosen, None]  # (K, G, S, B)
    noise[~tied] = np.inf
    # Without ties the mean of the noise is 0.
    return np.maximum(0.0, -noise.min(axis=1).mean(axis=(1, 2)))
