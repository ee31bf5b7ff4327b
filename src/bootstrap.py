"""Intervals that hold for other test images and other seeds: a crossed bootstrap with few seeds.

S networks that differ only in their seed are measured on the same N images, so images and seeds are
crossed random effects: an image that is hard for one network is hard for the others. Resampling
both (the pigeonhole bootstrap of Owen 2007, Annals of Applied Statistics 1(2)) gets their variance
right within terms of order 1/(SN); no bootstrap is exact for crossed effects (McCullagh 2000,
Bernoulli 6(2)).

Images: groups stay as large as they are, and each resample draws a group's images with
replacement, the same ones for every network. What that does to means is known without drawing: the
networks' accuracies get the covariance of their answers to one image, divided by the number of
images. Only the lowest of several groups is drawn, from normals with these covariances. Each group
also gets four images that are not there, two that every network has right and two that none has
(Agresti and Coull 1998): at an accuracy of 0 or 1 the images would else not vary at all.

Seeds: all figures are means over seeds, so the variance of drawing seeds is known without drawing:
(S-1)/S * s^2/S, with s the standard deviation over seeds. The factor (S-1)/S halves it at S = 2; it
is left out, and the two parts of the half-width are joined as squares, each with its own quantile:

    half-width^2 = (t(n-1))^2 V_images + (t(S-1))^2 s^2/S

t(1) = 12.7 is what two seeds are worth. (One t with Satterthwaite's degrees of freedom for both
parts was tried: with two seeds that happen to agree it covers only 87 %.) Noise of single images is
in both terms, so the sum is a little too large. A difference between two methods uses the same
images for both; their seeds are independent draws (the same number starts different networks on
different tasks), so the seed part is s^2/S + r^2/R with the degrees of freedom of Satterthwaite
(1946, Biometrics Bulletin 2(6)).

The worst group: the target is the expectation over seeds of the lowest *true* group accuracy. The
lowest of several measured ones lies below it on average. The upper limit is raised by that bias as
it would be if every group that cannot be told from the worst were equally bad, its largest value;
so the interval is not symmetric, and where groups are tied it covers more than it says, not less.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import stdtrit  # quantile of Student's t; scipy.stats takes 100 times as long

from src.metrics import wilson, worst_group

RESAMPLES = 1000
LEVEL = 0.95


def over_seeds(
    right: np.ndarray,
    groups: np.ndarray,
    num_groups: int,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Average, worst-group and group accuracies over seeds, with 95 % intervals.

    Args:
        right: (S, N) bool, whether each seed's network is right about each image.
        groups: (N,) group ids in [0, num_groups).

    Returns:
        `average` and `worst_group` with mean, std (n-1; None for one seed), n, low, high and values
        by seed, `worst_group` also with `ids` and `totals` of the worst group by seed; `groups`, a
        list of G with total, mean, low, high and values, None where a group is empty. Fractions.
        With one seed the limits are those of src/metrics.py and tell of the test images only.
    """
    total = np.bincount(groups, minlength=num_groups)  # (G,)
    present = np.flatnonzero(total)
    size, share = total[present], total[present] / total.sum()  # (P,)
    both = right_together(right, groups, present)  # (P, S, S)
    correct = both.diagonal(axis1=1, axis2=2)  # (P, S)
    accuracy = correct / size[:, None]  # (P, S)
    average = correct.sum(axis=0) / size.sum()  # (S,)
    if len(right) == 1:
        counts = correct[:, 0].astype(int)
        limits = [wilson(int(c), int(n)) for c, n in zip(counts, size)]
        average_limits = wilson(int(counts.sum()), int(size.sum()))
        worst = worst_group(counts, size)
        worst_limits = worst["low"], worst["high"]
    else:
        images = Resampled.of(both, size, 4, 2.0)
        variance = images.variance(np.full(len(right), 1 / len(right)))  # (P,)
        centre = images.mean.mean(axis=1)  # (P,)
        limits = [
            _limits(c, half_width(v, [of_seeds], n))
            for c, v, of_seeds, n in zip(centre, variance, accuracy, size)
        ]
        half = half_width(share**2 @ variance, [average], size.sum())
        average_limits = _limits(average.mean(), half)
        worst_limits = _worst(images, accuracy, size, resamples, seed)
    places = accuracy.argmin(axis=0)  # (S,)
    return {
        "average": _figures(average, average_limits),
        "worst_group": _figures(accuracy.min(axis=0), worst_limits)
        | {"ids": present[places].tolist(), "totals": size[places].tolist()},
        "groups": _group_figures(total, present, accuracy, limits),
    }


def difference(
    ours: np.ndarray,
    theirs: np.ndarray,
    groups: np.ndarray,
    num_groups: int,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """How much better `ours` (S, N) is than `theirs` (R, N) on the same images, with intervals.

    Returns:
        `average` and `worst_group` with difference, low, high and n, the smaller number of seeds.
        Where it is 1 the interval tells of the test images only.
    """
    total = np.bincount(groups, minlength=num_groups)
    present = np.flatnonzero(total)
    size, share = total[present], total[present] / total.sum()  # (P,)
    mine = np.arange(len(ours) + len(theirs)) < len(ours)
    both = right_together(np.concatenate([ours, theirs]), groups, present)  # (P, S + R, S + R)
    accuracy = both.diagonal(axis1=1, axis2=2) / size[:, None]  # (P, S + R)
    # Agresti and Min 2005: half an image of each kind, both methods right, one of them, none;
    # without a discordant image all were certain.
    images = Resampled.of(both, size, 2, np.where(mine == mine[:, None], 1.0, 0.5))
    weights = np.where(mine, 1 / len(ours), -1 / len(theirs))  # (S + R,)
    least = min(len(ours), len(theirs))

    def figures(values: np.ndarray, variance: float, n: int) -> dict[str, float]:
        seeds = [] if least == 1 else [values[mine], values[~mine]]
        gap, half = float(weights @ values), half_width(variance, seeds, n)
        return {"difference": gap, "low": gap - half, "high": gap + half, "n": least}

    drawn = images.draw(resamples, seed)  # (P, B, S + R)
    smallest = size[accuracy.argmin(axis=0)].min()
    worst = figures(accuracy.min(axis=0), (drawn.min(axis=0) @ weights).var(), smallest)
    worst["low"] -= minimum_bias(drawn, images, accuracy, ~mine)
    worst["high"] += minimum_bias(drawn, images, accuracy, mine)
    average = figures(share @ accuracy, share**2 @ images.variance(weights), size.sum())
    return {
        name: found | {key: _clip(found[key], -1.0) for key in ("low", "high")}
        for name, found in (("average", average), ("worst_group", worst))
    }


def right_together(right: np.ndarray, groups: np.ndarray, present: np.ndarray) -> np.ndarray:
    """On how many images of each group two networks are both right: (P, M, M) of (M, N) bool.

    The diagonal counts the images on which a network is right.
    """
    parts = [right[:, groups == group].astype(float) for group in present]
    return np.stack([part @ part.T for part in parts])


@dataclass(frozen=True)
class Resampled:
    """Accuracies of M networks in P groups on resampled images, the same images for all.

    mean: (P, M); covariance: (P, M, M), zero between groups.
    """

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(
        cls, both: np.ndarray, size: np.ndarray, extra: int, extra_both: np.ndarray | float
    ) -> "Resampled":
        """
        Args:
            both: `right_together` (P, M, M); size: images of each group (P,).
            extra: images that each group gets besides; extra_both: on how many of these two
                networks are both right, (M, M) or the same for all.
        """
        size = (size + extra)[:, None, None]
        moment = (both + extra_both) / size  # (P, M, M)
        mean = moment.diagonal(axis1=1, axis2=2)  # (P, M)
        return cls(mean, (moment - mean[:, :, None] * mean[:, None]) / size)

    def variance(self, weights: np.ndarray) -> np.ndarray:
        """Of each group's accuracy (P,), summed over networks with `weights` (M,)."""
        return self.covariance @ weights @ weights

    def draw(self, resamples: int, seed: int) -> np.ndarray:
        """Normal draws (P, B, M) with this mean and covariance."""
        values, vectors = np.linalg.eigh(self.covariance)
        scale = np.sqrt(values.clip(min=0))[:, None]  # (P, 1, M)
        root = (vectors * scale) @ vectors.transpose(0, 2, 1)  # (P, M, M)
        return self.mean[:, None] + _normals(len(root), resamples, root.shape[1], seed) @ root


@lru_cache(maxsize=8)
def _normals(places: int, resamples: int, networks: int, seed: int) -> np.ndarray:
    """Standard normals (P, B, M); the second half mirrors the first, so their mean is 0."""
    half = np.random.default_rng(seed).standard_normal((places, (resamples + 1) // 2, networks))
    both = np.concatenate([half, -half], axis=1)
    both.flags.writeable = False
    return both


def half_width(images: float, seeds: Sequence[np.ndarray], n: int) -> float:
    """Half the interval of a mean over seeds, or of a difference of two.

    Args:
        images: variance under resampled images; seeds: for each method its value by seed (S,).
        n: images that the figure rests on.
    """
    quantile = 0.5 + LEVEL / 2
    square = stdtrit(max(n - 1, 1), quantile) ** 2 * images
    parts = [values.var(ddof=1) / len(values) for values in seeds]
    if sum(parts):
        freedom = sum(parts) ** 2 / sum(
            part**2 / (len(values) - 1) for part, values in zip(parts, seeds)
        )
        square += stdtrit(freedom, quantile) ** 2 * sum(parts)
    return float(np.sqrt(square))


def minimum_bias(
    drawn: np.ndarray, images: Resampled, accuracy: np.ndarray, chosen: np.ndarray | slice
) -> float:
    """How far the mean over seeds of the lowest group accuracy lies below the truth, at most.

    Args:
        drawn: (P, B, M) of `images`; accuracy: (P, M) measured; chosen: which networks. A group
            counts as tied with the worst of its seed where it is less than two standard errors of
            the difference above it.
    """
    accuracy = accuracy[:, chosen]  # (P, S)
    variance = images.covariance.diagonal(axis1=1, axis2=2)[:, chosen]  # (P, S)
    of_worst = np.take_along_axis(variance, accuracy.argmin(axis=0)[None], axis=0)  # (1, S)
    tied = accuracy - accuracy.min(axis=0) <= 2 * np.sqrt(variance + of_worst)  # (P, S)
    if not (tied.sum(axis=0) > 1).any():
        return 0.0
    noise = (drawn - images.mean[:, None])[:, :, chosen]  # (P, B, S)
    lowest = np.where(tied[:, None], noise, np.inf).min(axis=0)  # (B, S)
    return max(0.0, float(-lowest.mean()))


def _worst(
    images: Resampled, accuracy: np.ndarray, size: np.ndarray, resamples: int, seed: int
) -> tuple[float, float]:
    """Limits of the worst group's mean over seeds, from accuracies (P, S) and sizes (P,)."""
    drawn = images.draw(resamples, seed)  # (P, B, S)
    n = size[accuracy.argmin(axis=0)].min()
    half = half_width(drawn.min(axis=0).mean(axis=1).var(), [accuracy.min(axis=0)], n)
    bias = minimum_bias(drawn, images, images.mean, slice(None))
    return _limits(images.mean.min(axis=0).mean(), half, half + bias)


def _limits(centre: float, half: float, above: float | None = None) -> tuple[float, float]:
    return _clip(centre - half), _clip(centre + (half if above is None else above))


def _clip(value: float, least: float = 0.0) -> float:
    return float(min(max(value, least), 1.0))


def _figures(values: np.ndarray, limits: tuple[float, float]) -> dict[str, Any]:
    mean = float(values.mean())
    return {
        "mean": mean,
        "std": float(values.std(ddof=1)) if len(values) > 1 else None,
        "n": len(values),
        "low": min(limits[0], mean),
        "high": max(limits[1], mean),
        "values": values.tolist(),
    }


def _group_figures(
    total: np.ndarray, present: np.ndarray, accuracy: np.ndarray, limits: Sequence[tuple]
) -> list[dict[str, Any]]:
    empty = {"mean": None, "low": None, "high": None, "values": [None] * accuracy.shape[1]}
    found = {group: _figures(*of) for group, *of in zip(present, accuracy, limits)}
    return [
        {"total": int(count)} | {key: found.get(group, empty)[key] for key in empty}
        for group, count in enumerate(total)
    ]
