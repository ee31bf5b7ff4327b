"""Intervals that hold for other test images and other seeds, of which there are few.

S networks that differ only in their seed are measured on the same N images, so images and seeds are
crossed random effects: an image that is hard for one network is hard for the others. Resampling
both (the pigeonhole bootstrap of Owen 2007, Annals of Applied Statistics 1(2)) gets their variance
right within terms of order 1/(SN); no bootstrap is exact for crossed effects (McCullagh 2000,
Bernoulli 6(2)).

Images: groups stay as large as they are, and a resample would draw a group's images with
replacement, the same ones for every network. What that does to means is known without drawing: the
networks' accuracies get the covariance of their answers to one image, divided by the number of
images. Only the lowest of several groups is drawn, from normals with these covariances. (Where
several groups are tied near 0 or 1 its spread is up to 30 % off; the interval still covers more
than it says.) Each group also gets four images that are not there, two that every network has right
and two that none has (Agresti and Coull 1998): at an accuracy of 0 or 1 the images would else not
vary at all. The intervals of groups and of the worst one stand around these smoothed accuracies,
and always hold the measured mean. A very small group is pulled far: 5 of 5 right counts as 7 of 9.

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
    places = accuracy.argmin(axis=0)  # (S,)
    # A row for each group, the average, and the worst group.
    values = np.vstack([accuracy, correct.sum(axis=0) / size.sum(), accuracy.min(axis=0)])
    if len(right) == 1:
        limits = _limits_of_images(correct[:, 0].astype(int), size)  # (P + 2, 2)
    else:
        images = Resampled.of(both, size, 4, 2.0)
        drawn = images.draw(resamples, seed)  # (P, S, B)
        variance = images.variance(np.full(len(right), 1 / len(right)))  # (P,)
        of_worst = drawn.min(axis=0).mean(axis=0).var()
        half = half_width(
            np.array([*variance, share**2 @ variance, of_worst]),
            [values],
            np.array([*size, size.sum(), size[places].min()]),
        )
        centre = [*images.mean.mean(axis=1), values[-2].mean(), images.mean.min(axis=0).mean()]
        limits = np.stack([centre - half, centre + half], axis=1)  # (P + 2, 2)
        limits[-1, 1] += minimum_bias(drawn, images, images.mean, slice(None))
    *of_groups, average, worst = _figures(values, limits)
    known = dict(zip(present.tolist(), of_groups))
    none = {"mean": None, "low": None, "high": None, "values": [None] * len(right)}
    return {
        "average": average,
        "worst_group": worst | {"ids": present[places].tolist(), "totals": size[places].tolist()},
        "groups": [
            {"total": count} | {key: known.get(group, none)[key] for key in none}
            for group, count in enumerate(total.tolist())
        ],
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
    drawn = images.draw(resamples, seed)  # (P, S + R, B)
    values = np.stack([share @ accuracy, accuracy.min(axis=0)])  # average and worst group
    least = min(len(ours), len(theirs))
    half = half_width(
        np.array([share**2 @ images.variance(weights), (weights @ drawn.min(axis=0)).var()]),
        [] if least == 1 else [values[:, mine], values[:, ~mine]],
        np.array([size.sum(), size[accuracy.argmin(axis=0)].min()]),
    )
    gap = values[:, mine].mean(axis=1) - values[:, ~mine].mean(axis=1)
    low, high = gap - half, gap + half
    low[1] -= minimum_bias(drawn, images, accuracy, ~mine)
    high[1] += minimum_bias(drawn, images, accuracy, mine)
    columns = zip(gap.tolist(), low.clip(-1).tolist(), high.clip(max=1).tolist())
    return {
        name: dict(zip(("difference", "low", "high"), column)) | {"n": least}
        for name, column in zip(("average", "worst_group"), columns)
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
        """Normal draws (P, M, B) with this mean and covariance."""
        values, vectors = np.linalg.eigh(self.covariance)
        scale = np.sqrt(values.clip(min=0))[:, None]  # (P, 1, M)
        root = (vectors * scale) @ vectors.transpose(0, 2, 1)  # (P, M, M)
        return self.mean[:, :, None] + root @ _normals(*self.mean.shape, resamples, seed)


@lru_cache(maxsize=8)
def _normals(groups: int, networks: int, resamples: int, seed: int) -> np.ndarray:
    """Standard normals (P, M, B) for P groups; the second half mirrors the first.

    So their mean is 0, and within a group their covariance is made exactly 1: they are the same for
    every row of a report, and their errors would be, too.
    """
    count = max((resamples + 1) // 2, networks)
    drawn = np.random.default_rng(seed).standard_normal((groups, count, networks))
    half = np.linalg.qr(drawn).Q.transpose(0, 2, 1) * count**0.5  # (P, M, B / 2)
    both = np.concatenate([half, -half], axis=2)
    both.flags.writeable = False
    return both


def half_width(images: np.ndarray, seeds: Sequence[np.ndarray], n: np.ndarray) -> np.ndarray:
    """Half the intervals (K,) of K means over seeds, or of differences of two.

    Args:
        images: (K,) variance under resampled images; seeds: for each method its values (K, S).
        n: (K,) images that each figure rests on.
    """
    quantile = 0.5 + LEVEL / 2
    square = stdtrit(np.maximum(n - 1, 1), quantile) ** 2 * images
    if seeds:
        parts = np.stack([of.var(axis=1, ddof=1) / of.shape[1] for of in seeds])  # (M, K)
        total, less_one = parts.sum(axis=0), np.array([[of.shape[1] - 1] for of in seeds])
        spread = (parts**2 / less_one).sum(axis=0)  # (K,)
        freedom = np.divide(total**2, spread, out=np.ones_like(total), where=spread > 0)
        square += stdtrit(freedom, quantile) ** 2 * total
    return np.sqrt(square)


def minimum_bias(
    drawn: np.ndarray, images: Resampled, accuracy: np.ndarray, chosen: np.ndarray | slice
) -> float:
    """How far the mean over seeds of the lowest group accuracy lies below the truth, at most.

    Args:
        drawn: (P, M, B) of `images`; accuracy: (P, M), measured or smoothed; chosen: which
            networks. A group counts as tied with the worst of its seed where it is less than two
            standard errors of the difference above it.
    """
    accuracy = accuracy[:, chosen]  # (P, S)
    variance = images.covariance.diagonal(axis1=1, axis2=2)[:, chosen]  # (P, S)
    of_worst = np.take_along_axis(variance, accuracy.argmin(axis=0)[None], axis=0)  # (1, S)
    tied = accuracy - accuracy.min(axis=0) <= 2 * np.sqrt(variance + of_worst)  # (P, S)
    if not (tied.sum(axis=0) > 1).any():
        return 0.0  # the noise of one group alone has mean 0
    noise = drawn[:, chosen] - images.mean[:, chosen, None]  # (P, S, B)
    lowest = np.where(tied[:, :, None], noise, np.inf).min(axis=0)  # (S, B)
    return max(0.0, float(-lowest.mean()))


def _limits_of_images(correct: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Limits (P + 2, 2) of one network's groups, average and worst group."""
    worst = worst_group(correct, size)
    of_groups = [wilson(*of) for of in zip(correct.tolist(), size.tolist())]
    average = wilson(int(correct.sum()), int(size.sum()))
    return np.array([*of_groups, average, (worst["low"], worst["high"])])


def _figures(values: np.ndarray, limits: np.ndarray) -> list[dict[str, Any]]:
    """Mean, std, limits and values of each row of `values` (K, S); limits (K, 2)."""
    seeds = values.shape[1]
    mean = values.mean(axis=1)  # (K,)
    std = values.std(axis=1, ddof=1).tolist() if seeds > 1 else [None] * len(values)
    low, high = np.minimum(limits[:, 0], mean).clip(0), np.maximum(limits[:, 1], mean).clip(max=1)
    columns = zip(mean.tolist(), std, low.tolist(), high.tolist(), values.tolist())
    return [
        {"mean": mean, "std": std, "n": seeds, "low": low, "high": high, "values": row}
        for mean, std, low, high, row in columns
    ]
