"""Intervals over seeds and test images: worked by hand, and checked by simulation."""

import numpy as np
import pytest
from scipy.stats import norm

from src.evaluation.intervals import half_width, over_seeds, paired_difference
from src.evaluation.metrics import wilson, worst_group
from src.evaluation.resampled import Resampled, counts

SIZES = (350, 250, 100, 60)


def predictions(*seeds: tuple[int, ...], size: int = 10) -> list[np.ndarray]:
    """right, for each group (S, size): of each seed, how many of each group's images are right."""
    return [np.arange(size) < np.array(group)[:, None] for group in zip(*seeds)]


def by_group(right: np.ndarray, groups: np.ndarray) -> list[np.ndarray]:
    return [right[:, groups == group] for group in range(groups.max() + 1)]


def test_means_and_worst_groups_are_those_of_each_seed():
    # Seed 0: 9 and 4 of 10; seed 1: 5 and 8 of 10. Averages 65 % both; worst 40 % (g1), 50 % (g0).
    result = over_seeds(predictions((9, 4), (5, 8)))
    assert result["average"]["values"] == [0.65, 0.65] and result["average"]["std"] == 0
    worst = result["worst_group"]
    assert worst["mean"] == pytest.approx(0.45) and worst["values"] == [0.4, 0.5]
    assert worst["std"] == pytest.approx(0.1 / 2**0.5)
    assert (worst["ids"], worst["totals"], worst["n"]) == ([1, 0], [10, 10], 2)
    assert [group["mean"] for group in result["groups"]] == pytest.approx([0.7, 0.6])


def test_a_seed_with_worst_group_zero_is_one_value_of_the_mean():
    worst = over_seeds(predictions((10, 0), (10, 6), (10, 9)))["worst_group"]
    assert worst["values"] == [0.0, 0.6, 0.9] and worst["mean"] == pytest.approx(0.5)
    assert worst["low"] < 0.5 < worst["high"]


def test_an_empty_group_has_no_figures_and_is_never_the_worst():
    for seeds in (1, 2):
        first, third = predictions(*[(9, 4)] * seeds)
        none = np.zeros((seeds, 0), bool)
        result = over_seeds([first, none, third, none])
        assert result["worst_group"]["ids"] == [2] * seeds
        assert [group["total"] for group in result["groups"]] == [10, 0, 10, 0]
        assert result["groups"][1]["mean"] is result["groups"][1]["low"] is None
        assert result["groups"][1]["values"] == [None] * seeds


def test_one_seed_has_the_limits_of_a_single_evaluation():
    result = over_seeds(predictions((9, 4)))
    average, worst = result["average"], result["worst_group"]
    assert (average["low"], average["high"]) == wilson(13, 20) and average["std"] is None
    single = worst_group(np.array([9, 4]), np.array([10, 10]))
    assert (worst["low"], worst["high"]) == (single["low"], single["high"])


def test_two_seeds_alone_give_students_interval():
    # s^2 / 2 = 0.02^2 / 2 / 2 = 0.01^2 and t(1) = 12.7062.
    half = half_width(np.zeros(1), [np.array([[0.90, 0.92]])], np.array([1000]))
    assert half == pytest.approx([12.7062 * 0.01], rel=1e-4)


def test_images_and_seeds_join_as_squares():
    # t(1e6) = 1.96: (1.96 * 0.03)^2 + (12.7062 * 0.01)^2; the second figure has no seed part.
    values = np.array([[0.90, 0.92], [0.5, 0.5]])
    half = half_width(np.array([0.03, 0.02]) ** 2, [values], np.array([10**6] * 2))
    joined = ((1.95996 * 0.03) ** 2 + 0.127062**2) ** 0.5
    assert half == pytest.approx([joined, 1.95996 * 0.02], rel=1e-4)


def test_seeds_of_two_methods_join_with_satterthwaites_freedom():
    # s^2/S: .0001 (2 seeds) and .0002 (2 seeds), so (.0003)^2 / (.0001^2 + .0002^2) = 1.8
    # degrees of freedom; t(1.8) = 4.7949 at 97.5 %.
    seeds = [np.array([[0.90, 0.92]]), np.array([[0.5, 0.5 + 0.02 * 2**0.5]])]
    half = half_width(np.zeros(1), seeds, np.array([1000]))
    assert half == pytest.approx([4.7949 * 0.0003**0.5], rel=1e-3)


def test_a_method_compared_with_itself_differs_by_nothing():
    right = predictions((9, 4), (8, 5))
    result = paired_difference(right, right)
    for figures in result.values():
        assert figures["difference"] == 0 and figures["low"] < 0 < figures["high"]
        assert figures["n"] == 2


def test_shared_images_make_a_difference_sharper_than_two_intervals():
    rng = np.random.default_rng(0)
    hard = rng.random(2000) < 0.3  # both methods fail on the same images
    ours = np.tile(~hard, (3, 1)) & (rng.random((3, 2000)) < 0.99)
    theirs = np.tile(~hard, (3, 1)) & (rng.random((3, 2000)) < 0.95)
    gap = paired_difference([ours], [theirs])["average"]
    alone = over_seeds([ours])["average"]
    assert gap["low"] > 0
    assert gap["high"] - gap["low"] < 0.8 * (alone["high"] - alone["low"])


def test_resampling_has_the_covariance_of_one_image_divided_by_their_number():
    # Of 6 images both networks have 2 right, the first 2 more, the second 1 more. With two more
    # that both have right and two that none has: means 6/10 and 5/10, both right 4/10, so the
    # variances are .6 * .4 / 10 and .5 * .5 / 10, the covariance is (.4 - .6 * .5) / 10.
    right = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 1, 0]], dtype=bool)
    both, size = counts([right])
    assert both.tolist() == [[[4, 2], [2, 3]]] and size.tolist() == [6]
    images = Resampled.of(both, size, 4, 2.0)
    assert images.mean == pytest.approx(np.array([[0.6, 0.5]]))
    assert images.covariance == pytest.approx(np.array([[[0.024, 0.01], [0.01, 0.025]]]))
    # Of the first minus the second: .024 + .025 - 2 * .01.
    assert images.variance(np.array([1, -1])) == pytest.approx(np.array([0.029]))


def test_where_one_group_is_clearly_the_worst_its_interval_is_the_groups_own():
    right = predictions((100, 40), (100, 50), (100, 60), size=100)
    result = over_seeds(right)
    for limit in ("low", "high"):
        assert result["worst_group"][limit] == pytest.approx(result["groups"][1][limit], abs=1e-12)


def test_draws_have_the_moments_they_were_asked_for():
    covariance = np.array([[[0.024, 0.01], [0.01, 0.025]], [[0.01, 0.01], [0.01, 0.01]]])
    mean = np.array([[0.6, 0.5], [0.3, 0.3]])
    drawn = Resampled(mean, covariance).draw(20_000, 0)  # (G, M, B)
    assert drawn.mean(axis=2) == pytest.approx(mean, abs=1e-12)
    for place in range(2):
        assert np.cov(drawn[place], ddof=0) == pytest.approx(covariance[place], abs=1e-12)
    assert np.cov(drawn[0, 0], drawn[1, 0])[0, 1] == pytest.approx(0, abs=5e-4)


def test_the_lowest_group_varies_as_if_images_were_drawn_one_by_one():
    """Two networks, three groups of which any can be the lowest; drawn with replacement."""
    rng = np.random.default_rng(0)
    size = np.array([40, 60, 90])
    right = rng.random((2, size.sum())) < 0.5 + 0.2 * (rng.random(size.sum()) - 0.5)
    groups = np.repeat(np.arange(3), size)
    images = Resampled.of(*counts(by_group(right, groups)), 0, 0.0)
    drawn = images.draw(4000, 0).min(axis=0).mean(axis=0)
    places = [np.flatnonzero(groups == group) for group in range(3)]
    one_by_one = np.array(
        [
            np.min([right[:, rng.choice(of, len(of))].mean(axis=1) for of in places], axis=0).mean()
            for _ in range(4000)
        ]
    )
    assert drawn.mean() == pytest.approx(one_by_one.mean(), abs=0.005)
    assert drawn.std() == pytest.approx(one_by_one.std(), rel=0.06)


# ---------------------------------------------------------------------------- by simulation


class World:
    """Networks whose seeds differ, on images whose difficulty all networks share."""

    def __init__(self, ease: list[float], seed_effect: float, seed: int):
        self.ease, self.effect = np.array(ease), seed_effect
        self.rng = np.random.default_rng(seed)
        self.groups = np.repeat(np.arange(len(SIZES)), SIZES)
        true = self.true(self._seeds(200_000))
        self.average = float((true @ np.array(SIZES)).mean() / sum(SIZES))
        self.worst = float(true.min(axis=1).mean())

    def _seeds(self, count: int) -> np.ndarray:
        shape = (count, len(self.ease))
        both = self.rng.normal(size=(count, 1)) + self.rng.normal(size=shape)
        return self.ease + self.effect * both  # (S, G)

    @staticmethod
    def true(logits: np.ndarray) -> np.ndarray:
        return norm.cdf(logits / 2**0.5)

    def measure(self, seeds: int, difficulty: np.ndarray) -> np.ndarray:
        noise = self.rng.normal(size=(seeds, len(self.groups)))
        return self._seeds(seeds)[:, self.groups] + difficulty + noise > 0

    def difficulty(self) -> np.ndarray:
        return self.rng.normal(size=len(self.groups))


CLEAR, TIED = [3.0, 4.0, 1.0, 0.3], [0.6, 0.5, 0.5, 0.5]


def coverage(ease: list[float], seeds: int, draws: int) -> tuple[float, float]:
    """Share of draws whose intervals hold the true average and worst-group accuracy."""
    world, held = World(ease, 0.25, seeds), np.zeros(2)
    for _ in range(draws):
        right = world.measure(seeds, world.difficulty())
        result = over_seeds(by_group(right, world.groups))
        for place, (name, true) in enumerate(
            [("average", world.average), ("worst_group", world.worst)]
        ):
            held[place] += result[name]["low"] <= true <= result[name]["high"]
    return tuple(held / draws)


def gap_coverage(seeds: int, draws: int) -> tuple[float, float]:
    """The same for the differences of two methods."""
    ours, theirs = World(CLEAR, 0.25, seeds), World([2.8, 3.9, 1.2, 0.7], 0.25, seeds + 100)
    truths = (ours.average - theirs.average, ours.worst - theirs.worst)
    held = np.zeros(2)
    for _ in range(draws):
        images = ours.difficulty()
        pair = (by_group(of.measure(seeds, images), of.groups) for of in (ours, theirs))
        result = paired_difference(*pair)
        for place, (figures, true) in enumerate(zip(result.values(), truths)):
            held[place] += figures["low"] <= true <= figures["high"]
    return tuple(held / draws)


def test_few_draws_are_covered():
    assert min(coverage(CLEAR, 2, 60)) >= 0.85
    assert min(gap_coverage(3, 60)) >= 0.85


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_intervals_cover_91_to_99_percent(seeds):
    for share in coverage(CLEAR, seeds, 1000):
        assert 0.91 <= share <= 0.99
    for share in gap_coverage(seeds, 1000):
        assert 0.91 <= share <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 10])
def test_tied_groups_are_covered_at_least_as_often(seeds):
    assert min(coverage(TIED, seeds, 1000)) >= 0.91
