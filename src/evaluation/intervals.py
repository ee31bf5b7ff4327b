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

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit  # quantile of Student's t; scipy.stats takes 100 times as long

from src.evaluation.metrics import wilson, worst_group
from src.evaluation.resampled import Resampled, Right, accuracies, counts, minimum_bias

RESAMPLES = 1000
LEVEL = 0.95
# Numbers drawn at once: 2 MB. Of many small rows most of the time is NumPy's own per call.
MOST_DRAWN = 2**18


def over_seeds(
    rows: Sequence[Right], resamples: int = RESAMPLES, seed: int = 0
) -> list[dict[str, Any]]:
    """Average, worst-group and group accuracies over seeds, with 95 % intervals, of each row.

    Returns:
        For each row `average` and `worst_group` with mean, std (n-1; None for one seed), n, low,
        high and values by seed, `worst_group` also with `ids` and `totals` of the worst group by
        seed; `groups`, a list of G with total, mean, low, high and values, None where a group is
        empty. Fractions. With one seed the limits are those of src/evaluation/metrics.py and tell
        of the test images only.
    """

    def of_alike(part: Sequence[Right]) -> list[dict[str, Any]]:
        return _over_seeds(*counts(part), resamples, seed)

    return _in_parts(of_alike, rows, [(len(row), len(row[0])) for row in rows], resamples)


def differences(
    pairs: Sequence[tuple[Right, Right]], resamples: int = RESAMPLES, seed: int = 0
) -> list[dict[str, dict[str, float]]]:
    """How much better the first of two methods is than the second on the same images, of each pair.

    Returns:
        For each pair `average` and `worst_group` with difference, low, high and n, the smaller
        number of seeds. Where it is 1 the interval tells of the test images only.
    """

    def of_alike(part: Sequence[tuple[Right, Right]]) -> list[dict[str, dict[str, float]]]:
        joined = [[np.concatenate(group) for group in zip(*pair)] for pair in part]
        num_ours, num_theirs = (len(right[0]) for right in part[0])
        mine = np.arange(num_ours + num_theirs) < num_ours
        return _differences(*counts(joined), mine, resamples, seed)

    shapes = [(len(ours), len(ours[0]), len(theirs[0])) for ours, theirs in pairs]
    return _in_parts(of_alike, pairs, shapes, resamples)


def _in_parts(
    function: Callable[[list[Any]], list[Any]],
    rows: Sequence[Any],
    shapes: Sequence[tuple[int, ...]],
    resamples: int,
) -> list[Any]:
    """`function` of the rows, in their order; it is given rows of one shape, some at a time.

    Args:
        shapes: of each row its number of groups, and the numbers of networks.
    """
    alike: dict[tuple[int, ...], list[int]] = {}
    for place, shape in enumerate(shapes):
        alike.setdefault(shape, []).append(place)
    results: dict[int, Any] = {}
    for (groups, *networks), places in alike.items():
        step = max(1, MOST_DRAWN // (groups * sum(networks) * resamples))
        for start in range(0, len(places), step):
            part = places[start : start + step]
            results |= zip(part, function([rows[place] for place in part]))
    return [results[place] for place in range(len(rows))]


def _over_seeds(
    both: np.ndarray, size: np.ndarray, resamples: int, seed: int
) -> list[dict[str, Any]]:
    """`over_seeds` of the `counts` (K, G, S, S) and (K, G) of K rows."""
    seeds = both.shape[-1]
    correct = both.diagonal(axis1=2, axis2=3)  # (K, G, S)
    accuracy = accuracies(correct, size)  # (K, G, S)
    places = accuracy.argmin(axis=1)  # (K, S)
    all_sizes = size.sum(axis=1, keepdims=True)  # (K, 1)
    # Of each row the groups, the average, and the worst group.
    average = correct.sum(axis=1) / all_sizes  # (K, S)
    values = np.concatenate([accuracy, average[:, None], accuracy.min(axis=1)[:, None]], axis=1)
    of_worst = np.take_along_axis(size, places, axis=1)  # (K, S)
    if seeds == 1:
        limits = np.stack([_limits_of_images(*of) for of in zip(correct[:, :, 0], size)])
    else:
        images = Resampled.of(both, size, 4, 2.0)
        drawn = images.draw(resamples, seed)  # (K, G, S, B)
        variance = images.variance(np.full(seeds, 1 / seeds))  # (K, G)
        of_average = ((size / all_sizes) ** 2 * variance).sum(axis=1)  # (K,)
        of_lowest = drawn.min(axis=1).mean(axis=1).var(axis=1)  # (K,)
        half = half_width(
            np.column_stack([variance, of_average, of_lowest]),
            [values],
            np.column_stack([size, all_sizes, of_worst.min(axis=1)]),
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
    return [
        _row_figures(*of)
        for of in zip(values, limits, size.tolist(), places.tolist(), of_worst.tolist())
    ]


def _differences(
    both: np.ndarray, size: np.ndarray, mine: np.ndarray, resamples: int, seed: int
) -> list[dict[str, dict[str, float]]]:
    """`differences` of the `counts` (K, G, M, M) and (K, G) of K pairs, both methods' networks in a
    row; mine: (M,) which are the first method's."""
    num_ours, num_theirs = int(mine.sum()), int((~mine).sum())
    correct = both.diagonal(axis1=2, axis2=3)  # (K, G, M)
    accuracy = accuracies(correct, size)  # (K, G, M)
    all_sizes = size.sum(axis=1, keepdims=True)  # (K, 1)
    # Agresti and Min 2005: half an image of each kind, both methods right, one of them, none;
    # without a discordant image all were certain.
    images = Resampled.of(both, size, 2, np.where(mine == mine[:, None], 1.0, 0.5))
    weights = np.where(mine, 1 / num_ours, -1 / num_theirs)  # (M,)
    drawn = images.draw(resamples, seed)  # (K, G, M, B)
    average = correct.sum(axis=1) / all_sizes  # (K, M)
    values = np.stack([average, accuracy.min(axis=1)], axis=1)  # (K, 2, M): average, worst group
    least = min(num_ours, num_theirs)
    of_average = ((size / all_sizes) ** 2 * images.variance(weights)).sum(axis=1)  # (K,)
    of_worst = np.take_along_axis(size, accuracy.argmin(axis=1), axis=1)  # (K, M)
    half = half_width(
        np.column_stack([of_average, (weights @ drawn.min(axis=1)).var(axis=1)]),
        [] if least == 1 else [values[..., mine], values[..., ~mine]],
        np.column_stack([all_sizes, of_worst.min(axis=1)]),
    )  # (K, 2)
    gap = values[..., mine].mean(axis=2) - values[..., ~mine].mean(axis=2)  # (K, 2)
    low, high = gap - half, gap + half
    low[:, 1] -= minimum_bias(drawn, images, accuracy, ~mine)
    high[:, 1] += minimum_bias(drawn, images, accuracy, mine)
    figures = np.stack([gap, low.clip(-1), high.clip(max=1)], axis=2)  # (K, 2, 3)
    return [
        {
            name: dict(zip(("difference", "low", "high"), of)) | {"n": least}
            for name, of in zip(("average", "worst_group"), row)
        }
        for row in figures.tolist()
    ]


def half_width(images: np.ndarray, seeds: Sequence[np.ndarray], n: np.ndarray) -> np.ndarray:
    """Half the intervals (...) of means over seeds, or of differences of two.

    Args:
        images: (...) variance under resampled images; seeds: for each method its values (..., S).
        n: (...) images that each figure rests on.
    """
    quantile = 0.5 + LEVEL / 2
    square = stdtrit(np.maximum(n - 1, 1), quantile) ** 2 * images
    if seeds:
        parts = [of.var(axis=-1, ddof=1) / of.shape[-1] for of in seeds]  # (...) of each method
        total = sum(parts)
        spread = sum(part**2 / (of.shape[-1] - 1) for part, of in zip(parts, seeds))
        freedom = np.divide(total**2, spread, out=np.ones_like(total), where=spread > 0)
        square += stdtrit(freedom, quantile) ** 2 * total
    return np.sqrt(square)


def _limits_of_images(correct: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Limits (G + 2, 2) of one network's groups, average and worst group."""
    worst = worst_group(correct.astype(int), size)
    of_groups = [wilson(int(right), int(of)) or (0.0, 1.0) for right, of in zip(correct, size)]
    average = wilson(int(correct.sum()), int(size.sum()))
    return np.array([*of_groups, average, (worst["low"], worst["high"])])


def _row_figures(
    values: np.ndarray,
    limits: np.ndarray,
    size: list[int],
    places: list[int],
    of_worst: list[int],
) -> dict[str, Any]:
    """A row of `over_seeds`.

    Args:
        values: (G + 2, S), groups, average and worst group; limits: (G + 2, 2); size: (G,);
            places, of_worst: the worst group of each seed, and how many images it has.
    """
    seeds = values.shape[1]
    mean = values.mean(axis=1)  # (G + 2,)
    std = values.std(axis=1, ddof=1).tolist() if seeds > 1 else [None] * len(values)
    low, high = np.minimum(limits[:, 0], mean).clip(0), np.maximum(limits[:, 1], mean).clip(max=1)
    columns = zip(mean.tolist(), std, low.tolist(), high.tolist(), values.tolist())
    *of_groups, average, worst = (
        {"mean": mean, "std": std, "n": seeds, "low": low, "high": high, "values": of_seeds}
        for mean, std, low, high, of_seeds in columns
    )
    none = {"mean": None, "low": None, "high": None, "values": [None] * seeds}
    return {
        "average": average,
        "worst_group": worst | {"ids": places, "totals": of_worst},
        "groups": [
            {"total": count} | {key: (group if count else none)[key] for key in none}
            for group, count in zip(of_groups, size)
        ],
    }
