"""The ranking's probabilities, on methods whose true accuracies are known."""

import numpy as np
import pytest

from scripts.benchmark_limits import draw_answers, reliability
from src.report.ranking import draw_worst_groups, ranks


def test_equal_answers_are_equally_often_best():
    right = [np.arange(100)[None].repeat(3, 0) % 10 > 0, np.arange(50)[None].repeat(3, 0) % 5 > 0]
    right[1] = right[1] ^ np.eye(3, 50, dtype=bool)  # one answer differs, so the seeds vary
    found = ranks(draw_worst_groups([right] * 4))
    assert [entry["best"] for entry in found] == pytest.approx([0.25] * 4, abs=0.03)
    assert all((entry["low"], entry["high"]) == (1, 4) for entry in found)


def test_images_that_all_methods_share_do_not_blur_their_order():
    rng = np.random.default_rng(0)
    hard = rng.random(100) < 0.5
    worse = hard & (np.arange(100) > 3)  # the same images, and four more wrong ones
    found = ranks(draw_worst_groups([[hard[None].repeat(3, 0)], [worse[None].repeat(3, 0)]]))
    assert found[0]["best"] > 0.9
    other = [rng.permuted(worse)[None].repeat(3, 0)]  # wrong on other images
    assert ranks(draw_worst_groups([[hard[None].repeat(3, 0)], other]))[0]["best"] < 0.8


def test_differences_have_the_spread_of_new_seeds_and_images():
    true = np.array([[0.95, 0.8]] * 6)
    rng = np.random.default_rng(0)
    gaps, spreads = [], []
    for trial in range(150):
        rights = draw_answers(true, (400, 100), 3, rng)
        first, second, *_ = (
            np.minimum(*(group.mean(axis=1) for group in r)).mean() for r in rights
        )
        drawn = draw_worst_groups(rights, 200, trial)
        gaps.append(first - second)
        spreads.append((drawn[0] - drawn[1]).std())
    assert np.mean(spreads) == pytest.approx(np.std(gaps), rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "unequal"), [(3, 0.0), (3, 0.5), (10, 0.0)])
def test_stated_probabilities_hold_within_three_points(seeds, unequal):
    stated, held = reliability(3000, seeds, unequal=unequal)["most likely best"]
    assert stated == pytest.approx(held, abs=0.03)
