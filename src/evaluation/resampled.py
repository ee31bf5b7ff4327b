"""What drawing a group's images anew does to accuracies, of many rows of a report at once.

K rows of G groups and M networks each; src/evaluation/intervals.py makes intervals of it and says
why.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# An accuracy that no group has: an empty group is never the lowest.
EMPTY = 9.0

# Of one row of a report, for each of G groups (S, N_g) bool: whether the network of each of S seeds
# is right about each of the group's images.
Right = Sequence[np.ndarray]


def counts(rows: Sequence[Right]) -> tuple[np.ndarray, np.ndarray]:
    """On how many images of each group two networks are both right (K, G, M, M), and how many
    images there are (K, G), of K rows; the diagonal counts those on which a network is right.

    Counted in float32, exact for groups of fewer than 2**24 images.
    """
    size = np.array([[group.shape[1] for group in row] for row in rows])  # (K, G)
    found = [[group.astype(np.float32) for group in row] for row in rows]
    both = np.array([[group @ group.T for group in row] for row in found], dtype=float)
    return both, size


def accuracies(correct: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Of `correct` (K, G, M) right of `size` (K, G) images; `EMPTY` where there are none."""
    size = size[:, :, None]
    return np.where(size > 0, correct / size.clip(min=1), EMPTY)


@dataclass(frozen=True)
class Resampled:
    """Accuracies of M networks in G groups on resampled images, the same images for all, of K rows.

    mean: (K, G, M), `EMPTY` where a group is; covariance: (K, G, M, M), zero between groups.
    """

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(
        cls, both: np.ndarray, size: np.ndarray, extra: int, extra_both: np.ndarray | float
    ) -> "Resampled":
        """
        Args:
            both, size: `counts` (K, G, M, M) and (K, G).
            extra: images that each group gets besides; extra_both: on how many of these two
                networks are both right, (M, M) or the same for all.
        """
        more = (size + extra)[..., None, None]
        moment = (both + extra_both) / more  # (K, G, M, M)
        mean = moment.diagonal(axis1=2, axis2=3)  # (K, G, M)
        covariance = (moment - mean[..., None] * mean[..., None, :]) / more
        return cls(np.where(size[..., None] > 0, mean, EMPTY), covariance)

    def variance(self, weights: np.ndarray) -> np.ndarray:
        """Of each group's accuracy (K, G), summed over networks with `weights` (M,)."""
        return self.covariance @ weights @ weights

    def draw(self, resamples: int, seed: int) -> np.ndarray:
        """Normal draws (K, G, M, B) with this mean and covariance."""
        values, vectors = np.linalg.eigh(self.covariance)
        scale = np.sqrt(values.clip(min=0))[..., None, :]  # (K, G, 1, M)
        root = (vectors * scale) @ vectors.swapaxes(-1, -2)  # (K, G, M, M)
        drawn = root @ _normals(*self.mean.shape[1:], resamples, seed)
        drawn += self.mean[..., None]
        return drawn


@lru_cache(maxsize=8)
def _normals(groups: int, networks: int, resamples: int, seed: int) -> np.ndarray:
    """Standard normals (G, M, B) for G groups; the second half mirrors the first.

    So their mean is 0, and within a group their covariance is made exactly 1: they are the same for
    every row of a report, and their errors would be, too.
    """
    count = max((resamples + 1) // 2, networks)
    drawn = np.random.default_rng(seed).standard_normal((groups, count, networks))
    half = np.linalg.qr(drawn).Q.transpose(0, 2, 1) * count**0.5  # (G, M, B / 2)
    both = np.concatenate([half, -half], axis=2)
    both.flags.writeable = False
    return both


def minimum_bias(
    drawn: np.ndarray, images: Resampled, accuracy: np.ndarray, chosen: np.ndarray | slice
) -> np.ndarray:
    """How far the mean over seeds of the lowest group accuracy lies below the truth, at most (K,).

    Args:
        drawn: (K, G, M, B) of `images`; accuracy: (K, G, M), measured or smoothed; chosen: which
            networks. A group counts as tied with the worst of its seed where it is less than two
            standard errors of the difference above it.
    """
    accuracy = accuracy[..., chosen]  # (K, G, S)
    variance = images.covariance.diagonal(axis1=2, axis2=3)[..., chosen]  # (K, G, S)
    lowest = accuracy.argmin(axis=1)[:, None]  # (K, 1, S)
    of_lowest = np.take_along_axis(variance, lowest, axis=1)
    above = accuracy - accuracy.min(axis=1, keepdims=True)
    tied = above <= 2 * np.sqrt(variance + of_lowest)  # (K, G, S)
    noise = drawn[:, :, chosen] - images.mean[..., chosen, None]  # (K, G, S, B)
    noise[~tied] = np.inf
    # The noise of a group that is alone has mean 0.
    return np.maximum(0.0, -noise.min(axis=1).mean(axis=(1, 2)))
