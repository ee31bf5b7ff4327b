"""Counts, accuracies and intervals (semantics of section 6), with numbers worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from src.data.groupings import parse_grouping
from src.evaluation.logits import log_losses, predictions
from src.evaluation.metrics import count_groups, summarise, wilson, worst_group


def test_correct_and_total_are_counted_per_group_and_logit_0_predicts_class_0():
    logits = np.array([1.5, -2.0, 0.0, 3.0, -1.0, 0.5])
    labels = np.array([1, 0, 0, 0, 1, 1])
    groups = np.array([3, 0, 0, 1, 2, 3])
    correct, total = count_groups(predictions(logits) == labels, groups, 5)
    assert correct.tolist() == [2, 0, 0, 2, 0]
    assert total.tolist() == [2, 1, 1, 2, 0]


def test_wilson_of_8_in_10():
    # z = 1.959964, z^2 = 3.841459: centre (0.8 + 0.192073) / 1.384146, margin
    # 1.959964 * sqrt(0.016 + 0.00960365) / 1.384146 = 0.226578.
    assert wilson(8, 10) == approx((0.490162, 0.943318), abs=1e-6)


def test_wilson_of_none_and_of_all_touch_0_and_1_exactly():
    # The other limit is z^2 / (n + z^2) = 3.841459 / 13.841459 from the end.
    low, high = wilson(0, 10)
    assert low == 0.0 and high == approx(0.277533, abs=1e-6)
    assert wilson(10, 10) == approx((1 - 0.277533, 1.0), abs=1e-6)
    assert wilson(10, 10)[1] == 1.0


def test_wilson_without_examples_is_none():
    assert wilson(0, 0) is None


@given(st.integers(1, 10**6), st.floats(0, 1), st.floats(0.5, 0.9999))
def test_a_wilson_interval_holds_the_accuracy_lies_in_0_1_and_mirrors(total, share, level):
    correct = round(share * total)
    low, high = wilson(correct, total, level)
    assert 0 <= low <= correct / total + 1e-12 and correct / total - 1e-12 <= high <= 1
    assert wilson(total - correct, total, level) == approx((1 - high, 1 - low), abs=1e-9)


def test_the_worst_group_has_a_bonferroni_interval_from_the_lowest_limits_of_all_groups():
    # Two groups, level 1 - 0.05 / 2: z = 2.241403, z^2 = 5.023886. The lowest lower limit is that
    # of 1 in 1, 1 / (1 + z^2) = 0.166006; the lowest upper limit is that of 50 in 100,
    # (0.5 + 0.025119 + 2.241403 * sqrt(0.0025 + 0.000125597)) / 1.050239 = 0.609357.
    worst = worst_group(np.array([1, 50]), np.array([1, 100]))
    assert worst == {
        "id": 1,
        "acc": 0.5,
        "low": approx(0.166006, abs=1e-6),
        "high": approx(0.609357, abs=1e-6),
    }


def test_an_empty_group_is_not_the_worst_one_and_of_equals_the_first_is():
    assert worst_group(np.array([0, 5, 1]), np.array([0, 10, 2]))["id"] == 1
    assert worst_group(np.array([0, 0]), np.array([0, 0])) is None


def test_an_accuracy_of_0_is_a_number_and_not_an_empty_group():
    worst = worst_group(np.array([0, 9]), np.array([4, 10]))
    assert (worst["id"], worst["acc"], worst["low"]) == (0, 0.0, 0.0)
    assert worst["high"] > 0.5  # four examples say little


def test_a_summary_divides_last_and_shows_empty_groups_as_null():
    figures = summarise(
        parse_grouping("Blond_Hair:Male"), np.array([6, 1, 2, 0]), np.array([8, 1, 3, 0]), 0.5
    )
    assert figures["avg_acc"] == 9 / 12
    assert figures["loss"] == 0.5
    assert [group["acc"] for group in figures["groups"]] == [0.75, 1.0, 2 / 3, None]
    assert figures["groups"][3] == {
        "id": 3,
        "name": "Blond_Hair=1 Male=1",
        "correct": 0,
        "total": 0,
        "acc": None,
        "low": None,
        "high": None,
    }
    assert figures["groups"][0]["low"] == wilson(6, 8)[0]
    assert figures["worst_group"]["id"] == 2


def test_the_average_accuracy_is_over_examples_not_over_groups():
    figures = summarise(parse_grouping("Young"), np.array([90, 0]), np.array([90, 10]), 0.0)
    assert figures["avg_acc"] == 0.9


def test_the_log_loss_is_the_mean_of_minus_log_p():
    # logit 0: ln 2; logit ln 3 and label 1: p = 3/4.
    assert log_losses(np.array([0.0]), np.array([1])).mean() == approx(math.log(2))
    both = log_losses(np.array([0.0, math.log(3)], np.float32), np.array([0, 1]))
    assert both.mean() == approx((math.log(2) + math.log(4 / 3)) / 2, rel=1e-7)


@pytest.mark.parametrize(
    ("logit", "label", "loss"), [(1000, 0, 1000), (1000, 1, 0), (-1e9, 1, 1e9)]
)
def test_the_log_loss_of_extreme_logits_does_not_overflow(logit, label, loss):
    assert log_losses(np.array([logit], np.float32), np.array([label])) == [loss]


def test_three_classes_have_a_softmax_and_the_largest_logit_wins():
    logits = np.log([[1.0, 3.0, 1.0], [2.0, 1.0, 1.0]])
    assert predictions(logits).tolist() == [1, 0]
    # The true classes have probabilities 3/5 and 1/4.
    assert log_losses(logits, np.array([1, 2])) == approx([math.log(5 / 3), math.log(4)])


def test_examples_of_unknown_group_are_not_counted():
    correct, total = count_groups(np.array([True, True, False]), np.array([-1, 0, 1]), 2)
    assert (correct.tolist(), total.tolist()) == ([1, 0], [1, 1])
