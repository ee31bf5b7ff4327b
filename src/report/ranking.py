"""Rank methods by their worst group, with the uncertainty of few seeds and few test images.

All methods are measured on the same images, so images that are drawn anew move all methods
together, and seeds move each method alone.

Images: accuracies per group get normal noise, whose covariance is that of the answers to one image,
divided by the number of images.

Seeds: Student's t with scale s/sqrt(S). s^2 is the variance over seeds of the worst-group accuracy,
less what a network's own answers to these images add to it, which the images hold already. Three
seeds know s too badly (two degrees of freedom make every probability too small), so s is pooled:
methods are taken to vary equally with the seed.

The share of draws in which a method is best is the probability that it is best, if nothing is known
before. `scripts/benchmark_limits.py` checks this on methods whose true accuracies are known.
"""

from collections.abc import Sequence

import numpy as np

from src.evaluation.resampled import Resampled, Right, accuracies, counts

DRAWS = 4000


def draw_worst_groups(rights: Sequence[Right], draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Draw the worst-group accuracies of M methods, (M, B), as new seeds and images would.

    Args:
        rights: for each method and group (S, N_g) bool. The images are the same, S may differ. With
            one seed the draws cover the choice of images only.
    """
    rng = np.random.default_rng(seed)
    seeds = np.array([len(right[0]) for right in rights])  # (M,)
    both, size = counts([np.concatenate(group) for group in zip(*rights)])
    covariance = Resampled.of(both, size, 4, 2.0).covariance  # (G, networks, networks)
    mean = np.repeat(np.eye(len(seeds)) / seeds[:, None], seeds, axis=1)  # (M, networks)
    images = mean @ covariance @ mean.T  # (G, M, M)
    networks = covariance.diagonal(axis1=1, axis2=2) @ mean.T  # (G, M), mean over seeds
    values, vectors = np.linalg.eigh(images)
    roots = vectors * np.sqrt(values.clip(min=0))[:, None]  # (G, M, M)
    noise = roots @ rng.standard_normal((*roots.shape[:2], draws))  # (G, M, B)
    measured = accuracies(both, size)  # (G, networks)
    drawn, variance, freedom = np.empty((len(seeds), draws)), np.zeros(len(seeds)), seeds - 1
    for method, of_seeds in enumerate(np.split(measured, np.cumsum(seeds)[:-1], axis=1)):
        drawn[method] = (of_seeds[..., None] + noise[:, method, None]).min(axis=0).mean(axis=0)
        if freedom[method]:
            group = of_seeds.mean(axis=1).argmin()
            own = networks[group, method] - images[group, method, method]
            own *= seeds[method] / freedom[method]
            variance[method] = of_seeds.min(axis=0).var(ddof=1) - own
    pooled = max(0.0, freedom @ variance / max(freedom.sum(), 1))
    scale = np.sqrt(pooled / seeds) * (freedom > 0)
    return drawn + scale[:, None] * rng.standard_t(max(freedom.sum(), 1), drawn.shape)


def ranks(drawn: np.ndarray) -> list[dict[str, float]]:
    """Return for each method how often it is best, and the median and 90 % range of its rank."""
    place = 1 + (-drawn).argsort(axis=0).argsort(axis=0)  # (M, B), 1 is best
    low, median, high = np.quantile(place, (0.05, 0.5, 0.95), axis=1, method="nearest").tolist()
    best = (place == 1).mean(axis=1).tolist()
    return [dict(zip(("best", "rank", "low", "high"), row)) for row in zip(best, median, low, high)]
