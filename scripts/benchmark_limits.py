"""What a benchmark can tell: simulate methods whose true accuracies are known.

python -m scripts.benchmark_limits

Prints how often the probabilities of the ranking hold, and how often a true difference is found,
for worst groups of several sizes. docs/benchmark.md shows the result.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

from scripts.status import print_table
from src.evaluation.intervals import paired_difference
from src.evaluation.resampled import Right
from src.report.ranking import draw_worst_groups

# Spread of images and seeds in probits, where the noise of a network on an image is 1. Two networks
# then agree as two runs on CelebA do, and a seed moves an accuracy of 80 % by two points.
IMAGE, SEED = 1.0, 0.1
SIZES, TRIALS = (44, 180, 500, 2000, 5000), 200


def draw_answers(
    true: np.ndarray,
    sizes: Sequence[int],
    seeds: int,
    rng: np.random.Generator,
    seed_spread: float | np.ndarray = SEED,
) -> list[Right]:
    """Draw which answers are right, for methods with the true accuracies (M, G).

    A network is right where its skill exceeds the difficulty of the image, which all networks
    share, and noise of its own. A seed moves all groups of a network.

    Args:
        seed_spread: one for all methods, or (M,).
    """
    seed_spread = np.broadcast_to(seed_spread, len(true))[:, None, None]  # (M, 1, 1)
    skill = norm.ppf(true)[..., None] * (1 + IMAGE**2 + seed_spread**2) ** 0.5  # (M, G, 1)
    skill = skill + seed_spread * rng.standard_normal((len(true), 1, seeds))  # (M, G, S)
    rights: list[list[np.ndarray]] = [[] for _ in true]
    for group, size in enumerate(sizes):
        difficulty = IMAGE * rng.standard_normal(size)
        for method, right in enumerate(rights):
            noise = rng.standard_normal((seeds, size))
            right.append(skill[method, group, :, None] > difficulty + noise)
    return rights


def reliability(
    trials: int, seeds: int, smallest: int = 180, methods: int = 6, unequal: float = 0.0
) -> dict[str, tuple[float, float]]:
    """Return, by kind of statement, the mean stated probability and how often it was true.

    True worst groups are 80 +- 6 %, the other group lies 12 points above.

    Args:
        smallest: images of the worst group.
        unequal: how differently methods vary with the seed; 0: equally.
    """
    rng = np.random.default_rng(0)
    said, true_best = [], []
    for trial in range(trials):
        worst = 0.8 + 0.06 * rng.standard_normal(methods)
        true = np.stack([worst + 0.12, worst], axis=1).clip(0.02, 0.98)  # (M, G)
        spread = SEED * np.exp(unequal * rng.standard_normal(methods))
        rights = draw_answers(true, (600, smallest), seeds, rng, spread)
        best = draw_worst_groups(rights, 1000, trial).argmax(axis=0)
        said.append(np.bincount(best, minlength=methods) / len(best))
        true_best.append(np.arange(methods) == true[:, 1].argmax())
    stated, held = np.array(said), np.array(true_best)  # (trials, M)
    first = np.arange(trials), stated.argmax(axis=1)
    found = {"most likely best": (float(stated[first].mean()), float(held[first].mean()))}
    for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 0.5), (0.5, 0.7), (0.7, 0.9), (0.9, 1.01)):
        some = (stated >= low) & (stated < high)
        name = f"{100 * low:.0f} to {min(100, 100 * high):.0f} %"
        found[name] = float(stated[some].mean()), float(held[some].mean())
    return found


def detection(size: int, seeds: int, points: float, trials: int = TRIALS) -> float:
    """Return how often the interval of a true difference in the worst group excludes zero."""
    rng = np.random.default_rng(0)
    true = np.array([[0.95, 0.80 + points / 100], [0.95, 0.80]])
    pairs = [draw_answers(true, (2 * size, size), seeds, rng) for _ in range(trials)]
    gaps = [paired_difference(*pair, resamples=200) for pair in pairs]
    return float(np.mean([gap["worst_group"]["low"] > 0 for gap in gaps]))


def main() -> None:
    lines = [("3 seeds, stated %", "true %", "10 seeds, stated %", "true %")]
    for few, many in zip(reliability(3000, 3).items(), reliability(3000, 10).items()):
        cells = [f"{100 * share:.0f}" for share in (*few[1], *many[1])]
        lines.append((f"{few[0]}: {cells[0]}", *cells[1:]))
    print_table(lines)
    cases = [(points, seeds) for points in (2, 5) for seeds in (3, 10)]
    heads = [f"{points} points, {seeds} seeds" for points, seeds in cases]
    lines = [("images of the worst group", *heads)]
    for size in SIZES:
        shares = [detection(size, seeds, points) for points, seeds in cases]
        lines.append((f"{size:,}", *(f"{100 * share:.0f} %" for share in shares)))
    print_table(lines)


if __name__ == "__main__":
    main()
