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

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit  # quantile of Student's t; scipy.stats takes 100 times as long

from src.evaluation.metrics import wilson, worst_group
from src.evaluation.resampled import Resampled, Right, accuracies, counts, minimum_bias

RESAMPLES = 1000
LEVEL = 0.95
# Random numbers per batch of rows (2 MB). Batches save NumPy's overhead per call.
MAX_DRAWN = 2**18


def over_seeds(
    rows: Sequence[Right], resamples: int = RESAMPLES, seed: int = 0
) -> list[dict[str, Any]]:
    """Compute average, worst-group and group accuracies over seeds, with 95 % intervals.

    With one seed, the limits are those of `src/evaluation/metrics.py` and cover the choice of test
    images only.

    Returns:
        A dictionary per row, with fractions. `average` and `worst_group` hold mean, std (n-1; None
        for one seed), n, low, high, and values by seed. `worst_group` also holds the `ids` and
        `totals` of the worst group by seed. `groups` is a list of G with total, mean, low, high and
        values; all but the total are None for an empty group.
    """

    def estimate(part: Sequence[Right]) -> list[dict[str, Any]]:
        return _over_seeds(*counts(part), resamples, seed)

    return _in_batches(estimate, rows, [(len(row), len(row[0])) for row in rows], resamples)


def differences(
    pairs: Sequence[tuple[Right, Right]], resamples: int = RESAMPLES, seed: int = 0
) -> list[dict[str, dict[str, float]]]:
    """Compute how much better the first of two methods is on the same images, for each pair.

    Returns:
        For each pair `average` and `worst_group` with difference, low, high, and n, the smaller
        number of seeds. If n is 1, the interval covers the choice of test images only.
    """

    def estimate(part: Sequence[tuple[Right, Right]]) -> list[dict[str, dict[str, float]]]:
        stacked = [[np.concatenate(group) for group in zip(*pair)] for pair in part]
        num_ours, num_theirs = (len(right[0]) for right in part[0])
        mine = np.arange(num_ours + num_theirs) < num_ours
        return _differences(*counts(stacked), mine, resamples, seed)

    shapes = [(len(ours), len(ours[0]), len(theirs[0])) for ours, theirs in pairs]
    return _in_batches(estimate, pairs, shapes, resamples)


def _in_batches(
    function: Callable[[list[Any]], list[Any]],
    rows: Sequence[Any],
    shapes: Sequence[tuple[int, ...]],
    resamples: int,
) -> list[Any]:
    """Apply `function` to batches of rows with the same shape; return the results in row order.

    Args:
        shapes: number of groups and numbers of networks of each row.
    """
    rows_by_shape: dict[tuple[int, ...], list[int]] = {}
    for index, shape in enumerate(shapes):
        rows_by_shape.setdefault(shape, []).append(index)
    results: dict[int, Any] = {}
    for (groups, *networks), indices in rows_by_shape.items():
        step = max(1, MAX_DRAWN // (groups * sum(networks) * resamples))
        for start in range(0, len(indices), step):
            batch = indices[start : start + step]
            results |= zip(batch, function([rows[index] for index in batch]))
    return [results[index] for index in range(len(rows))]


def _over_seeds(
    both: np.ndarray, size: np.ndarray, resamples: int, seed: int
) -> list[dict[str, Any]]:
    """Compute `over_seeds` of K rows from their `counts` (K, G, S, S) and (K, G)."""
    seeds = both.shape[-1]
    correct = both.diagonal(axis1=2, axis2=3)  # (K, G, S)
    accuracy = accuracies(correct, size)  # (K, G, S)
    worst = accuracy.argmin(axis=1)  # (K, S) ids
    total = size.sum(axis=1, keepdims=True)  # (K, 1)
    average = correct.sum(axis=1) / total  # (K, S)
    # (K, G + 2, S): the groups, the average, and the worst group.
    values = np.concatenate([accuracy, average[:, None], accuracy.min(axis=1)[:, None]], axis=1)
    worst_size = np.take_along_axis(size, worst, axis=1)  # (K, S)
    if seeds == 1:
        limits = np.stack([_image_limits(*row) for row in zip(correct[:, :, 0], size)])
    else:
        images = Resampled.of(both, size, 4, 2.0)
        drawn = images.draw(resamples, seed)  # (K, G, S, B)
        variance = images.variance(np.full(seeds, 1 / seeds))  # (K, G)
        average_variance = ((size / total) ** 2 * variance).sum(axis=1)  # (K,)
        worst_variance = drawn.min(axis=1).mean(axis=1).var(axis=1)  # (K,)
        half = half_width(
            np.column_stack([variance, average_variance, worst_variance]),
            [values],
            np.column_stack([size, total, worst_size.min(axis=1)]),
        )  # (K, G + 2)
        centre = np.column_stack(
            [
                images.mean.mean(axis=2),
                values[:, -2].mean(axis=1),
                images.mean.min(axis=1).mean(axis=1),
            ]
        )
        limits = np.stack([centre - half, centre + half], axis=2)  # (K, G + 2, 2)
        limits[:, -1, 1] += minimum_bias(drawn, images, images.mean, slice(None))
    rows = zip(values, limits, size.tolist(), worst.tolist(), worst_size.tolist())
    return [_row_figures(*row) for row in rows]


def _differences(
    both: np.ndarray, size: np.ndarray, mine: np.ndarray, resamples: int, seed: int
) -> list[dict[str, dict[str, float]]]:
    """Compute `differences` of K pairs from their `counts` (K, G, M, M) and (K, G).

    Args:
        mine: (M,) bool, the networks of the first method; the others belong to the second.
    """
    num_ours, num_theirs = int(mine.sum()), int((~mine).sum())
    correct = both.diagonal(axis1=2, axis2=3)  # (K, G, M)
    accuracy = accuracies(correct, size)  # (K, G, M)
    total = size.sum(axis=1, keepdims=True)  # (K, 1)
    # Agresti and Min 2005: add half an image of each kind (both methods right, one right, none).
    # Without a discordant image the difference would have no variance.
    images = Resampled.of(both, size, 2, np.where(mine == mine[:, None], 1.0, 0.5))
    weights = np.where(mine, 1 / num_ours, -1 / num_theirs)  # (M,)
    drawn = images.draw(resamples, seed)  # (K, G, M, B)
    average = correct.sum(axis=1) / total  # (K, M)
    values = np.stack([average, accuracy.min(axis=1)], axis=1)  # (K, 2, M): average, worst group
    n = min(num_ours, num_theirs)
    average_variance = ((size / total) ** 2 * images.variance(weights)).sum(axis=1)  # (K,)
    worst_variance = (weights @ drawn.min(axis=1)).var(axis=1)  # (K,)
    worst_size = np.take_along_axis(size, accuracy.argmin(axis=1), axis=1)  # (K, M)
    half = half_width(
        np.column_stack([average_variance, worst_variance]),
        [] if n == 1 else [values[..., mine], values[..., ~mine]],
        np.column_stack([total, worst_size.min(axis=1)]),
    )  # (K, 2)
    gap = values[..., mine].mean(axis=2) - values[..., ~mine].mean(axis=2)  # (K, 2)
    low, high = gap - half, gap + half
    low[:, 1] -= minimum_bias(drawn, images, accuracy, ~mine)
    high[:, 1] += minimum_bias(drawn, images, accuracy, mine)
    figures = np.stack([gap, low.clip(-1), high.clip(max=1)], axis=2)  # (K, 2, 3)
    return [
        {
            name: dict(zip(("difference", "low", "high"), numbers)) | {"n": n}
            for name, numbers in zip(("average", "worst_group"), row)
        }
        for row in figures.tolist()
    ]


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
    """Return limits (G + 2, 2) for the groups, average and worst group of one network."""
    worst = worst_group(correct.astype(int), size)
    groups = [wilson(int(right), int(total)) or (0.0, 1.0) for right, total in zip(correct, size)]
    average = wilson(int(correct.sum()), int(size.sum()))
    return np.array([*groups, average, (worst["low"], worst["high"])])


def _row_figures(
    values: np.ndarray,
    limits: np.ndarray,
    size: list[int],
    worst_ids: list[int],
    worst_size: list[int],
) -> dict[str, Any]:
    """Return a row of `over_seeds`.

    Args:
        values: (G + 2, S), groups, average and worst group.
        limits: (G + 2, 2).
        size: (G,) images of each group.
        worst_ids, worst_size: (S,) the worst group of each seed, and its number of images.
    """
    seeds = values.shape[1]
    mean = values.mean(axis=1)  # (G + 2,)
    std = values.std(axis=1, ddof=1).tolist() if seeds > 1 else [None] * len(values)
    low, high = np.minimum(limits[:, 0], mean).clip(0), np.maximum(limits[:, 1], mean).clip(max=1)
    columns = zip(mean.tolist(), std, low.tolist(), high.tolist(), values.tolist())
    *groups, average, worst = (
        {"mean": mean, "std": std, "n": seeds, "low": low, "high": high, "values": by_seed}
        for mean, std, low, high, by_seed in columns
    )
    empty = {"mean": None, "low": None, "high": None, "values": [None] * seeds}
    return {
        "average": average,
        "worst_group": worst | {"ids": worst_ids, "totals": worst_size},
        "groups": [
            {"total": count} | {key: (group if count else empty)[key] for key in empty}
            for group, count in zip(groups, size)
        ],
    }
