"""Intervals that hold for other test images and other seeds: a crossed bootstrap with few seeds.

S networks that differ only in their seed are measured on the same N images, so images and seeds are
crossed random effects: an image that is hard for one network is hard for the others. Resampling
both (the pigeonhole bootstrap of Owen 2007, Annals of Applied Statistics 1(2)) gets their variance
right within terms of order 1/(SN); no bootstrap is exact for crossed effects (McCullagh 2000,
Bernoulli 6(2)).

Images: groups stay as large as they are, and each resample draws a group's images with
replacement, the same ones for every network. Images on which all networks fare alike are
exchangeable, so what is drawn is how often each pattern of right and wrong comes: a multinomial
with at most 2^S cells in place of N images. Each group also gets four images that are not there,
two that every network has right and two that none has (Agresti and Coull 1998): at an accuracy of
0 or 1 the images would else not vary at all.

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
    correct = np.stack([np.bincount(groups, row, num_groups) for row in right])  # (S, G)
    accuracy = correct[:, present] / total[present]  # (S, P)
    average = correct.sum(axis=1) / total.sum()  # (S,)
    if len(right) == 1:
        limits = [wilson(int(c), int(n)) for c, n in zip(correct[0, present], total[present])]
        average_limits = wilson(int(correct.sum()), int(total.sum()))
        worst = worst_group(correct[0], total)
        worst_limits = worst["low"], worst["high"]
    else:
        smooth = (correct[:, present] + 2) / (total[present] + 4)  # (S, P)
        drawn = draw(right, groups, present, _agreed(len(right)), resamples, seed)  # (B, S, P)
        images = drawn.mean(axis=1).var(axis=0)  # (P,)
        halves = [
            half_width(images[p], [accuracy[:, p]], total[group]) for p, group in enumerate(present)
        ]
        limits = [_limits(c, h, h) for c, h in zip(smooth.mean(axis=0), halves)]
        share = total[present] / total.sum()
        half = half_width((drawn @ share).mean(axis=1).var(), [average], total.sum())
        average_limits = _limits(average.mean(), half, half)
        worst_limits = _limits(*_worst(drawn, smooth, accuracy, total[present]))
    places = accuracy.argmin(axis=1)  # (S,)
    return {
        "average": _figures(average, average_limits),
        "worst_group": _figures(accuracy.min(axis=1), worst_limits)
        | {"ids": present[places].tolist(), "totals": total[present][places].tolist()},
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
    total = total[present]
    both = np.concatenate([ours, theirs])
    mine = np.arange(len(both)) < len(ours)
    counts = np.stack([np.bincount(groups, row, num_groups)[present] for row in both])
    accuracy = counts / total  # (S + R, P)
    # Agresti and Min 2005: half an image of each kind; without a discordant one all were certain.
    kinds = np.array([[1, 1], [1, 0], [0, 1], [0, 0]])
    extra = np.where(mine, kinds[:, :1], kinds[:, 1:]), np.full(4, 0.5)
    drawn = draw(both, groups, present, extra, resamples, seed)  # (B, S + R, P)
    alone = min(len(ours), len(theirs)) == 1

    def figures(drawn: np.ndarray, values: np.ndarray, n: int) -> dict[str, float]:
        seeds = [] if alone else [values[mine], values[~mine]]
        images = (drawn[:, mine].mean(axis=1) - drawn[:, ~mine].mean(axis=1)).var()
        half = half_width(images, seeds, n)
        gap = float(values[mine].mean() - values[~mine].mean())
        least = min(len(ours), len(theirs))
        low, high = _clip(gap - half, -1.0), _clip(gap + half, -1.0)
        return {"difference": gap, "low": low, "high": high, "n": least}

    share = total / total.sum()
    worst = figures(drawn.min(axis=2), accuracy.min(axis=1), total[accuracy.argmin(axis=1)].min())
    worst["low"] -= minimum_bias(drawn[:, ~mine], accuracy[~mine])
    worst["high"] += minimum_bias(drawn[:, mine], accuracy[mine])
    return {
        "average": figures(drawn @ share, accuracy @ share, int(total.sum())),
        "worst_group": worst | {key: _clip(worst[key], -1.0) for key in ("low", "high")},
    }


def draw(
    right: np.ndarray,
    groups: np.ndarray,
    present: np.ndarray,
    extra: tuple[np.ndarray, np.ndarray],
    resamples: int,
    seed: int,
) -> np.ndarray:
    """Accuracies (B, M, P) of M networks in P groups on resampled images, the same for all.

    Args:
        right: (M, N) bool; groups: (N,); present: (P,) the groups to draw.
        extra: patterns (K, M) of images that each group gets, and how many of each (K,).
    """
    rng = np.random.default_rng(seed)
    drawn = np.empty((resamples, len(right), len(present)))
    for place, group in enumerate(present):
        packed = np.packbits(right[:, groups == group], axis=0).T  # (n, ceil(M / 8))
        patterns, counts = np.unique(packed, axis=0, return_counts=True)
        patterns = np.unpackbits(patterns, axis=1, count=len(right))  # (K, M)
        patterns, counts = np.concatenate([patterns, extra[0]]), np.concatenate([counts, extra[1]])
        size = counts.sum()
        times = rng.multinomial(round(size), counts / size, resamples)  # (B, K)
        drawn[:, :, place] = times @ patterns.astype(float) / size
    return drawn


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


def minimum_bias(drawn: np.ndarray, accuracy: np.ndarray) -> float:
    """How far the mean over seeds of the lowest group accuracy lies below the truth, at most.

    Args:
        drawn: (B, S, P); accuracy: (S, P) measured. A group counts as tied with the worst of its
            seed where it is less than two standard errors of the difference above it.
    """
    worst = accuracy.argmin(axis=1)[:, None]  # (S, 1)
    above = accuracy - np.take_along_axis(accuracy, worst, axis=1)  # (S, P)
    gaps = drawn - np.take_along_axis(drawn, worst[None], axis=2)  # (B, S, P)
    tied = above <= 2 * gaps.std(axis=0)
    noise = np.where(tied, drawn - drawn.mean(axis=0), np.inf)  # (B, S, P)
    return max(0.0, float(-noise.min(axis=2).mean()))


def _worst(
    drawn: np.ndarray, smooth: np.ndarray, accuracy: np.ndarray, total: np.ndarray
) -> tuple[float, float, float]:
    """Centre and the two half-widths of the worst group's interval."""
    lowest = accuracy.min(axis=1)  # (S,)
    n = total[accuracy.argmin(axis=1)].min()
    half = half_width(drawn.min(axis=2).mean(axis=1).var(), [lowest], n)
    return smooth.min(axis=1).mean(), half, half + minimum_bias(drawn, smooth)


def _agreed(seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Two images that all have right, two that all have wrong; see `draw`."""
    return np.repeat([[1], [0]], seeds, axis=1), np.array([2.0, 2.0])


def _limits(centre: float, below: float, above: float) -> tuple[float, float]:
    return _clip(centre - below), _clip(centre + above)


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
    figures = [dict.fromkeys(("mean", "low", "high")) | {"values": [None] * len(accuracy)}]
    figures = [dict(figures[0]) for _ in total]
    for place, group in enumerate(present):
        whole = _figures(accuracy[:, place], limits[place])
        figures[group] = {key: whole[key] for key in ("mean", "low", "high", "values")}
    return [{"total": int(count)} | entry for count, entry in zip(total, figures)]
