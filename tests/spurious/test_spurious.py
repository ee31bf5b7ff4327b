"""Statistics of pairs and clusters of delta matrices, with numbers worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import softmax

from src.evaluation.metrics import count_groups
from src.io import UserError
from src.spurious.clusters import (
    bicluster,
    cluster_stability,
    find_clusters,
    kmeans,
    share_together,
    svd_features,
)
from src.spurious.delta import benjamini_hochberg, count_pairs, gaps, knee, label_association

# ---------------------------------------------------------------------------- counts


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 30), st.just(4)), elements=st.integers(0, 1)),
    st.integers(0, 2**32 - 1),
)
def test_matrix_products_count_as_the_loop_over_groups_does(attributes, seed):
    right = np.random.default_rng(seed).random((len(attributes), 2)) < 0.7
    labels = attributes[:, :2]
    correct, total = count_pairs(right, labels, attributes)
    for task in range(2):
        logits = np.where(right[:, task] == (labels[:, task] == 1), 1.0, -1.0)
        for attribute in range(4):
            groups = 2 * labels[:, task].astype(int) + attributes[:, attribute]
            expected = count_groups((logits > 0) == (labels[:, task] == 1), groups, 4)
            assert correct[task, attribute].tolist() == expected[0].tolist()
            assert total[task, attribute].tolist() == expected[1].tolist()


def test_a_weight_of_two_counts_an_example_twice():
    rng = np.random.default_rng(0)
    attributes = rng.integers(0, 2, (50, 3))
    right = rng.random((50, 3)) < 0.6
    times = rng.integers(0, 3, 50)
    rows = np.repeat(np.arange(50), times)
    weighted = count_pairs(right, attributes, attributes, times)
    repeated = count_pairs(right[rows], attributes[rows], attributes[rows])
    assert np.array_equal(weighted[0], repeated[0])
    assert np.array_equal(weighted[1], repeated[1])


def test_unknown_labels_and_attributes_are_not_counted():
    labels, attributes = np.array([[0], [-1], [1], [1]]), np.array([[0], [1], [-1], [1]])
    correct, total = count_pairs(np.ones((4, 1), bool), labels, attributes)
    assert correct.tolist() == total.tolist() == [[[1, 0, 0, 1]]]


# ---------------------------------------------------------------------------- gaps


def test_accuracies_99_90_60_95_of_100_each_give_delta_44_with_error_6_58():
    # p_j = (101, 92, 62, 97) / 104; sum of x (104 - x): 303 + 1104 + 2604 + 679 = 4690.
    result = gaps(np.array([99, 90, 60, 95]), np.array([100, 100, 100, 100]))
    se = 100 * math.sqrt(4690 / 104**2 / 100)
    assert result.signed == pytest.approx(44)
    assert result.se == pytest.approx(se) == pytest.approx(6.58496, abs=1e-5)
    assert result.p == pytest.approx(math.erfc(44 / se / math.sqrt(2)), rel=1e-6)
    other = gaps(np.array([90, 99, 95, 60]), np.array([100, 100, 100, 100]))
    assert (other.signed, other.delta) == (pytest.approx(-44), pytest.approx(44))


def test_a_column_of_zeros_leaves_every_figure_of_the_pair_undefined():
    attributes = np.array([[0, 0], [1, 0], [0, 0], [1, 0]])
    correct, total = count_pairs(attributes[:, :1] == 1, attributes[:, :1], attributes)
    assert total[0, 1].tolist() == [2, 0, 2, 0]
    result = gaps(correct, total)
    for values in (result.signed, result.delta, result.se, result.p):
        assert np.isnan(values[0, 1])
    assert not result.tested[0, 1]


def test_a_pair_with_a_group_of_3_has_a_delta_but_no_test():
    result = gaps(np.array([99, 90, 60, 3]), np.array([100, 100, 100, 3]))
    assert result.delta == pytest.approx(99 + 100 - 90 - 60)
    assert result.se > 0
    assert not result.tested
    assert np.isnan(result.p)
    assert gaps(np.array([10, 10, 10, 10]), np.array([100, 100, 100, 10])).tested


@pytest.mark.parametrize("accuracy", [0.6, 0.9])
def test_predictions_that_ignore_the_attribute_are_rejected_at_about_the_level(accuracy):
    rng = np.random.default_rng(5)
    total = np.broadcast_to([400, 300, 200, 60], (20_000, 4))
    p = gaps(rng.binomial(total, accuracy), total).p
    for level in (0.05, 0.01):
        # Never much above; a little below, as the added two successes and failures widen the error.
        assert 0.6 * level < np.mean(p < level) < 1.2 * level


def test_q_values_of_four_p_values_by_hand():
    # Sorted: 4*.01/1 = .04, 4*.03/2 = .06, 4*.04/3 = .0533, 4*.2/4 = .2; minima from the right.
    q = benjamini_hochberg(np.array([[0.01, 0.04], [0.03, 0.20]]))
    assert q.ravel() == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.20])


# ---------------------------------------------------------------------------- labels, threshold


def test_phi_and_risk_difference_by_hand():
    # 100 examples, 40 with a, 50 with y, 30 with both.
    phi, difference = label_association(np.array([40, 10, 20, 30]))
    assert phi == pytest.approx(1000 / math.sqrt(40 * 60 * 50 * 50))
    assert difference == pytest.approx(30 / 40 - 20 / 60)


def test_phi_is_the_correlation_of_the_two_columns():
    columns = np.random.default_rng(1).integers(0, 2, (60, 3))
    _, total = count_pairs(columns == 1, columns, columns)
    assert label_association(total)[0] == pytest.approx(np.corrcoef(columns.T))


def test_the_knee_lies_farthest_below_the_chord():
    # Chord 100, 75, 50, 25, 0: the values lie 0, 35, 40, 20, 0 below.
    assert knee(np.array([5, 100, 40, 0, 10])) == 10


# ---------------------------------------------------------------------------- clusters


def planted(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two blocks of 70 in a 12x12 matrix of small values, in mixed order; and each row's block."""
    blocks = rng.permutation(np.repeat([0, 1], 6))
    matrix = rng.uniform(0, 6, (12, 12))
    matrix[blocks[:, None] == blocks[None, :]] += 70
    np.fill_diagonal(matrix, 0)
    return matrix, blocks


def same_partition(one: np.ndarray, other: np.ndarray) -> bool:
    return np.array_equal(one[:, None] == one, other[:, None] == other)


@pytest.mark.parametrize("seed", range(3))
def test_every_method_finds_two_planted_blocks(seed):
    matrix, blocks = planted(np.random.default_rng(seed))
    found = find_clusters(matrix, np.arange(12), k=2, gamma=0.8)
    assert set(found) == {
        "bicluster_T",
        "bicluster_TA",
        "bicluster_TT",
        "svd_attributes",
        "svd_tasks",
    }
    for name, clusters in found.items():
        assert same_partition(clusters["rows"], blocks), name
        if name.startswith("bicluster"):
            assert same_partition(clusters["columns"], blocks), name


def test_bicluster_rows_and_columns_of_one_block_share_their_number():
    matrix, _ = planted(np.random.default_rng(3))
    clusters = bicluster(softmax(matrix / 100, axis=0), 2)
    assert clusters["rows"].tolist() == clusters["columns"].tolist()
    assert clusters["rows"][0] == 0


def test_one_dominant_singular_value_gives_one_factor():
    ones = np.outer([1.0, 2.0, 3.0], [5.0, 1.0, 2.0])
    features = svd_features(ones, gamma=0.9)
    # Columns normalised: three equal unit vectors, so s = sqrt(3) and U s is one of them times it.
    unit = np.array([1, 2, 3]) / math.sqrt(14)
    assert np.abs(features) == pytest.approx(unit[:, None] * math.sqrt(3))


@pytest.mark.parametrize(
    ("gamma", "d"), [(0.01, 1), (0.25, 1), (0.26, 2), (0.75, 3), (0.9999999, 4), (1, 4)]
)
def test_four_equal_factors_are_kept_up_to_the_share_gamma(gamma, d):
    assert svd_features(np.diag([3.0, 1.0, 7.0, 2.0]), gamma).shape == (4, d)


@pytest.mark.parametrize("gamma", [0, -0.1, 1.01, float("nan")])
def test_a_gamma_outside_of_0_to_1_is_named(gamma):
    with pytest.raises(UserError, match="--gamma"):
        svd_features(np.eye(2), gamma)


@pytest.mark.parametrize("k", [0, 5])
def test_more_clusters_than_members_are_refused(k):
    with pytest.raises(UserError, match="--k"):
        kmeans(np.eye(4), k)
    with pytest.raises(UserError, match="--k"):
        bicluster(np.ones((4, 6)), k)


def test_without_some_tasks_the_rest_is_clustered_and_t_with_t_is_over_their_own_rows():
    matrix, _ = planted(np.random.default_rng(4))
    tasks = np.array([0, 2, 5, 6, 9])
    found = find_clusters(matrix[:, tasks], tasks, k=2, gamma=0.8)
    assert len(found["bicluster_T"]["rows"]) == 12
    assert len(found["bicluster_T"]["columns"]) == 5
    assert len(found["bicluster_TT"]["rows"]) == 5
    assert len(found["svd_tasks"]["rows"]) == 5
    assert "bicluster_TT" not in find_clusters(matrix, None, k=2, gamma=0.8)


def test_share_together_and_stability_by_hand():
    together = share_together([np.array([0, 0, 1]), np.array([0, 0, 0]), np.array([1, 0, 0])])
    third = 1 / 3
    assert together == pytest.approx(
        np.array([[1, 2 * third, third], [2 * third, 1, 2 * third], [third, 2 * third, 1]])
    )
    stability = cluster_stability(np.array([0, 0, 1]), together)
    assert stability == {0: pytest.approx(2 / 3), 1: None}
