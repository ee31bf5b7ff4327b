"""Confidence intervals for other test images and other seeds, from few seeds.

S networks that differ only in their seed are measured on the same N images. Images and seeds are
therefore crossed random effects: an image that is hard for one network is hard for the others.
Resampling both (the pigeonhole bootstrap of Owen 2007, Annals of Applied Statistics 1(2)) gives the
right variance up to terms of order 1/(SN). No bootstrap is exact for crossed effects (McCullagh
2000, Bernoulli 6(2)).

Images: a resample draws the images of each group with replacement, the same images for all
networks; group sizes are fixed. The effect on means is known in closed form: the accuracies of the
networks get the covariance of their answers to one image, divided by the number of images. Only
the worst group needs sampling, from normals with these covariances. (If several groups are tied
near 0 or 1, its spread is up to 30 % off; the interval still covers more than its nominal level.)
Each group also gets four pseudo-images: two that all networks get right, and two that none does
(Agresti and Coull 1998). Otherwise the images would not vary at all at an accuracy of 0 or 1. The
intervals of groups and of the worst group are centred on these smoothed accuracies and always
contain the measured mean. The smoothing moves very small groups far: 5 of 5 counts as 7 of 9.

Seeds: all figures are means over seeds, so the variance from drawing seeds is known in closed form:
(S-1)/S * s^2/S, where s is the standard deviation over seeds. We omit the factor (S-1)/S, which
would halve the variance at S = 2. The two parts of the half-width add as squares, each with its own
quantile:

    half-width^2 = (t(n-1))^2 V_images + (t(S-1))^2 s^2/S

With two seeds t(1) = 12.7. (We tried one t with Satterthwaite's degrees of freedom for both parts:
for two seeds that happen to agree it covers only 87 %.) Both terms contain the noise of single
images, so the sum is slightly too large. A difference between two methods uses the same images for
both, but independent seeds (the same seed gives different networks on different tasks). Its seed
part is s^2/S + r^2/R with the degrees of freedom of Satterthwaite (1946, Biometrics Bulletin 2(6)).

Worst group: the target is the expectation over seeds of the lowest *true* group accuracy. The
lowest *measured* accuracy lies below it on average. We raise the upper limit by the largest
possible bias, which assumes that all groups that cannot be told from the worst are equally bad. The
interval is therefore not symmetric, and for tied groups it covers more than its nominal level.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit  # quantile of Student's t; scipy.stats takes 100 times as long

from src.evaluation.metrics import wilson, worst_group
from src.evaluation.resampled import Resampled, Right, accuracies, counts, minimum_bias

RESAMPLES = 1000
LEVEL = 0.95


def over_seeds(right: Right, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """Compute average, worst-group and group accuracies over seeds, with 95 % intervals.

    With one seed, the limits are those of `src/evaluation/metrics.py` and cover the choice of test
    images only.

    Returns:
        Fractions. `average` and `worst_group` hold mean, std (n-1; None for one seed), n, low,
        high, and values by seed. `worst_group` also holds the `ids` and `totals` of the worst group
        by seed. `groups` is a list of G with total, mean, low, high and values; all but the total
        are None for an empty group.
    """
    both, size = counts(right)
    seeds, total = both.shape[-1], size.sum()
    correct, accuracy = both.diagonal(axis1=1, axis2=2), accuracies(both, size)  # (G, S)
    worst = accuracy.argmin(axis=0)  # (S,) ids
    # (G + 2, S): the groups, the average, and the worst group.
    values = np.stack([*accuracy, correct.sum(axis=0) / total, accuracy.min(axis=0)])
    mean = values.mean(axis=1)  # (G + 2,)
    if seeds == 1:
        std, limits = [None] * len(values), _image_limits(correct[:, 0].astype(int), size)
    else:
        images = Resampled.of(both, size, 4, 2.0)
        drawn = images.draw(resamples, seed)  # (G, S, B)
        variance = images.variance(np.full(seeds, 1 / seeds))  # (G,)
        average_variance = ((size / total) ** 2 * variance).sum()
        worst_variance = drawn.min(axis=0).mean(axis=0).var()
        half = half_width(
            np.array([*variance, average_variance, worst_variance]),
            [values],
            np.array([*size, total, size[worst].min()]),
        )
        smoothed = images.mean.mean(axis=1)  # (G,)
        centre = np.array([*smoothed, mean[-2], images.mean.min(axis=0).mean()])
        std, limits = values.std(axis=1, ddof=1).tolist(), np.stack([centre - half, centre + half])
        limits[1, -1] += minimum_bias(drawn, images, images.mean)
    low, high = np.minimum(limits[0], mean).clip(0), np.maximum(limits[1], mean).clip(max=1)
    *groups, average, worst_figures = (
        dict(zip(("mean", "std", "n", "low", "high", "values"), figures))
        for figures in zip(
            *(mean.tolist(), std, [seeds] * len(mean), low.tolist(), high.tolist()),
            values.tolist(),
        )
    )
    empty = {"mean": None, "low": None, "high": None, "values": [None] * seeds}
    return {
        "average": average,
        "worst_group": worst_figures | {"ids": worst.tolist(), "totals": size[worst].tolist()},
        "groups": [
            {"total": count} | {key: (group if count else empty)[key] for key in empty}
            for group, count in zip(groups, size.tolist())
        ],
    }


def paired_difference(
    ours: Right, theirs: Right, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Compute how much better the first of two methods is on the same images.

    Returns:
        `average` and `worst_group` with difference, low, high, and n, the smaller number of seeds.
        If n is 1, the interval covers the choice of test images only.
    """
    both, size = counts([np.concatenate(group) for group in zip(ours, theirs)])
    seeds = len(ours[0]), len(theirs[0])
    mine = np.arange(sum(seeds)) < seeds[0]  # (M,)
    accuracy, total = accuracies(both, size), size.sum()  # (G, M)
    # Agresti and Min 2005: add half an image of each kind (both methods right, one right, none).
    # Without a discordant image the difference would have no variance.
    images = Resampled.of(both, size, 2, np.where(mine == mine[:, None], 1.0, 0.5))
    weights = np.where(mine, 1 / seeds[0], -1 / seeds[1])  # (M,)
    drawn = images.draw(resamples, seed)  # (G, M, B)
    average = both.diagonal(axis1=1, axis2=2).sum(axis=0) / total  # (M,)
    values = np.stack([average, accuracy.min(axis=0)])  # (2, M)
    half = half_width(
        np.array(
            [
                ((size / total) ** 2 * images.variance(weights)).sum(),
                (weights @ drawn.min(axis=0)).var(),
            ]
        ),
        [] if min(seeds) == 1 else [values[:, mine], values[:, ~mine]],
        np.array([total, size[accuracy.argmin(axis=0)].min()]),
    )
    gap = values[:, mine].mean(axis=1) - values[:, ~mine].mean(axis=1)  # (2,)
    low, high = gap - half, gap + half
    low[1] -= minimum_bias(drawn, images, accuracy, ~mine)
    high[1] += minimum_bias(drawn, images, accuracy, mine)
    figures = np.stack([gap, low.clip(-1), high.clip(max=1)], axis=1).tolist()
    return {
        name: dict(zip(("difference", "low", "high"), numbers)) | {"n": min(seeds)}
        for name, numbers in zip(("average", "worst_group"), figures)
    }


def half_width(images: np.ndarray, seeds: Sequence[np.ndarray], n: np.ndarray) -> np.ndarray:
    """Return half the width (...) of intervals of means over seeds, or of their differences.

    Args:
        images: (...) variance under resampled images.
        seeds: the values (..., S) of each method; an empty list leaves seeds out.
        n: (...) number of images behind each figure.
    """
    quantile = 0.5 + LEVEL / 2
    square = stdtrit(np.maximum(n - 1, 1), quantile) ** 2 * images
    if seeds:
        parts = [values.var(axis=-1, ddof=1) / values.shape[-1] for values in seeds]  # (...) each
        total = sum(parts)
        spread = sum(part**2 / (values.shape[-1] - 1) for part, values in zip(parts, seeds))
        freedom = np.divide(total**2, spread, out=np.ones_like(total), where=spread > 0)
        square += stdtrit(freedom, quantile) ** 2 * total
    return np.sqrt(square)


def _image_limits(correct: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return limits (2, G + 2) for the groups, average and worst group of one network."""
    worst = worst_group(correct, size)
    groups = [wilson(int(right), int(total)) or (0.0, 1.0) for right, total in zip(correct, size)]
    average = wilson(int(correct.sum()), int(size.sum()))
    return np.array([*groups, average, (worst["low"], worst["high"])]).T
