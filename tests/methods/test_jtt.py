"""JTT: multiplicities by hand, error sets on disk."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from src.data.groupings import parse_groupings
from src.io import UserError
from src.methods.jtt import error_table, load_error_set, multiplicities, save_error_set

NONE_ONE_TWO_THREE_WRONG = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]], bool)


@pytest.mark.parametrize(
    ("join", "expected"),
    [
        ("union", [1, 50, 50, 50]),
        ("inv", [1, 50, 25, 17]),  # 1 + 49, 1 + round(24.5) half to even, 1 + round(16.33)
        ("xor", [1, 50, 1, 50]),
        ("task", [1, 6, 21, 50]),  # losses 1, 3, 6 of 10: 1 + 4.9, 1 + 19.6, 1 + 49
    ],
)
def test_multiplicities_with_lambda_50_and_none_to_three_of_three_tasks_wrong(join, expected):
    times = multiplicities(NONE_ONE_TWO_THREE_WRONG, 50, join, np.array([1.0, 3.0, 6.0]))
    assert times.tolist() == expected and times.dtype == np.int64


def test_halves_are_rounded_to_even_even_where_one_over_e_is_not_exact():
    six_wrong = np.ones((1, 6), bool)
    # 1 + 27 / 6 = 1 + 4.5 and 1 + 33 / 6 = 1 + 5.5.
    assert multiplicities(six_wrong, 28, "inv").tolist() == [5]
    assert multiplicities(six_wrong, 34, "inv").tolist() == [7]


def test_task_join_is_union_where_all_losses_are_zero():
    times = multiplicities(NONE_ONE_TWO_THREE_WRONG, 50, "task", np.zeros(3))
    assert times.tolist() == [1, 50, 50, 50]


def test_lambda_1_is_plain_erm():
    assert multiplicities(NONE_ONE_TWO_THREE_WRONG, 1).tolist() == [1, 1, 1, 1]


@given(
    arrays(bool, st.tuples(st.integers(1, 30), st.just(1))),
    st.integers(1, 200),
    st.floats(0, 9),
)
def test_for_one_task_all_joins_give_lambda_to_errors_and_1_to_the_rest(errors, lambda_up, loss):
    for join in ("inv", "union", "xor", "task"):
        times = multiplicities(errors, lambda_up, join, np.array([loss]))
        assert times.tolist() == np.where(errors[:, 0], lambda_up, 1).tolist()


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=8)), st.integers(1, 99))
def test_multiplicities_do_not_depend_on_the_order_of_tasks_or_examples(errors, lambda_up):
    losses = np.arange(errors.shape[1]) + 1.0
    for join in ("inv", "union", "xor", "task"):
        times = multiplicities(errors, lambda_up, join, losses)
        flipped = multiplicities(errors[::-1, ::-1], lambda_up, join, losses[::-1])
        assert times[::-1].tolist() == flipped.tolist()
        assert ((times >= 1) & (times <= lambda_up)).all()


NAMES = np.array([f"{i:06d}.jpg" for i in range(1, 12)])
TASKS = ["Blond_Hair", "Big_Lips"]


@pytest.fixture
def saved(tmp_path):
    errors = np.random.default_rng(0).random((11, 2)) < 0.3
    path = tmp_path / "error_set.npz"
    save_error_set(path, NAMES, TASKS, errors, np.array([0.25, 0.5]), "rows")
    return path, errors


def test_an_error_set_comes_back_in_the_order_of_the_runs_tasks(saved):
    path, errors = saved
    for tasks, order in ((TASKS, [0, 1]), (TASKS[::-1], [1, 0])):
        loaded, losses = load_error_set(path, NAMES, tasks, "rows")
        assert np.array_equal(loaded, errors[:, order]) and loaded.dtype == bool
        assert losses.tolist() == [[0.25, 0.5][task] for task in order]


def test_an_error_set_of_other_tasks_or_examples_is_refused(saved):
    path, _ = saved
    with pytest.raises(UserError, match=r"of the tasks Blond_Hair, Big_Lips, but .* trains Young"):
        load_error_set(path, NAMES, ["Young"], "rows")
    for names, rows in ((NAMES[:-1], "rows"), (NAMES[::-1], "rows"), (NAMES, "other labels")):
        with pytest.raises(UserError, match="was made from other data"):
            load_error_set(path, names, TASKS, rows)


def test_a_missing_or_truncated_error_set_is_refused(saved):
    path, _ = saved
    with pytest.raises(UserError, match="is missing: run stage 1"):
        load_error_set(path.with_name("other.npz"), NAMES, TASKS, "rows")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="delete it, then run stage 1"):
        load_error_set(path, NAMES, TASKS, "rows")


def test_a_pickled_error_set_is_not_read(tmp_path):
    path = tmp_path / "error_set.npz"
    np.savez(path, names=np.array([b"a", None], dtype=object), tasks=[], errors=[], task_losses=[])
    with pytest.raises(UserError, match="cannot be read"):
        load_error_set(path, NAMES, TASKS, "rows")


def test_the_table_counts_errors_per_task_and_group():
    groupings = parse_groupings(["Blond_Hair:Male", "Young:Male"])
    groups = np.array([[0, 3], [0, 2], [3, 2], [1, 2], [3, 2]])
    errors = np.array([[1, 0], [0, 1], [1, 1], [0, 0], [1, 0]], bool)
    table = error_table(errors, np.array([0.2, 0.7]), groups, groupings)
    blond, young = table.iloc[:4], table.iloc[4:]
    assert blond.errors.tolist() == [1, 0, 0, 2] and blond.total.tolist() == [2, 1, 0, 2]
    assert young.errors.tolist() == [0, 0, 2, 0] and young.total.tolist() == [0, 0, 4, 1]
    assert young.name.tolist() == [f"Young={y} Male={m}" for y in (0, 1) for m in (0, 1)]
    assert table.val_loss.tolist() == [0.2] * 4 + [0.7] * 4
    assert table.grouping.tolist() == ["Blond_Hair:Male"] * 4 + ["Young:Male"] * 4
