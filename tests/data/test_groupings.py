"""Groupings, their group ids, their errors; semantics of section 1 on the complete annotations."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.data.celeba import ATTRIBUTES
from src.data.groupings import CELEBA, Grouping, absent_classes, parse_grouping, parse_groupings
from src.data.table import BINARY, Table
from src.evaluation.logits import Logits, Source
from src.evaluation.results import evaluate
from src.io import UserError
from tests.data.small_celeba import table_of


def table(**columns: list[int]) -> Table:
    """Return a table of CelebA's attributes that are 0 except in the named columns."""
    attributes = np.zeros((len(next(iter(columns.values()))), 40), np.uint8)
    for name, values in columns.items():
        attributes[:, ATTRIBUTES.index(name)] = values
    return table_of(attributes)


def test_one_attribute_gives_groups_in_the_order_y0a0_y0a1_y1a0_y1a1():
    attributes = table(Blond_Hair=[0, 0, 1, 1], Male=[0, 1, 0, 1])
    grouping = parse_grouping("Blond_Hair:Male")
    assert grouping.group_ids(attributes).tolist() == [0, 1, 2, 3]
    assert grouping.labels(attributes).tolist() == [0, 0, 1, 1]
    assert grouping.group_names == [
        "Blond_Hair=0 Male=0",
        "Blond_Hair=0 Male=1",
        "Blond_Hair=1 Male=0",
        "Blond_Hair=1 Male=1",
    ]


def test_the_groups_of_a_bare_task_are_its_classes():
    grouping = parse_grouping("Young")
    assert grouping == Grouping("Young")
    assert grouping.group_ids(table(Young=[0, 1])).tolist() == [0, 1]
    assert grouping.group_names == ["Young=0", "Young=1"]


@given(
    st.lists(st.sampled_from(ATTRIBUTES), min_size=1, max_size=5, unique=True),
    st.integers(0, 2**32 - 1),
)
def test_a_group_id_is_the_binary_number_of_its_bits(names, seed):
    attributes = np.random.default_rng(seed).integers(0, 2, (7, 40), dtype=np.uint8)
    grouping = Grouping(names[0], tuple(names[1:]))
    for row, group in zip(attributes, grouping.group_ids(table_of(attributes))):
        bits = [str(row[ATTRIBUTES.index(name)]) for name in names]
        assert group == int("".join(bits), 2)
        shown = " ".join(f"{name}={bit}" for name, bit in zip(names, bits))
        assert grouping.group_names[group] == shown


@given(st.lists(st.sampled_from(ATTRIBUTES), min_size=1, max_size=5, unique=True))
def test_a_grouping_is_read_back_from_its_name(names):
    grouping = Grouping(names[0], tuple(names[1:]))
    assert parse_grouping(grouping.name) == grouping


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("Blonde_Hair:Male", "did you mean 'Blond_Hair'"),
        ("Blond_Hair:male", "did you mean 'Male'"),
        ("Blond_Hair:Male+Mael", "unknown attribute 'Mael'"),
        ("Blond_Hair:Male+Male", "'Male' is given twice"),
        ("Blond_Hair:Blond_Hair", "is the task itself"),
        ("Blond_Hair:", "an empty part"),
        (":Male", "an empty part"),
        ("Blond_Hair:Male+", "an empty part"),
        ("", "an empty part"),
        ("Attractive:Male,Young", "unknown attribute 'Male,Young'"),
    ],
)
def test_an_error_names_the_grouping_and_what_is_allowed(text, part):
    with pytest.raises(UserError) as raised:
        parse_grouping(text, CELEBA)
    assert f"grouping '{text}'" in str(raised.value)
    assert part in str(raised.value)


def test_all_problems_of_a_list_are_named_at_once():
    with pytest.raises(UserError) as raised:
        parse_groupings(["Blonde_Hair:Male", "Young:Young", "Smiling:Male"], columns=CELEBA)
    assert len(raised.value.problems) == 2
    with pytest.raises(UserError, match="empty"):
        parse_groupings([])


def test_a_task_given_twice_is_an_error_in_training_only():
    twice = ["Blond_Hair:Male", "Blond_Hair:Young"]
    assert [grouping.name for grouping in parse_groupings(twice)] == twice
    with pytest.raises(UserError, match="task 'Blond_Hair' is given twice"):
        parse_groupings(twice, training=True)


def test_bare_tasks_beside_task_attr_are_an_error_that_shows_the_plus_form():
    with pytest.raises(UserError, match=r"Attractive:Male\+Young"):
        parse_groupings(["Attractive:Male", "Young"], training=True)
    assert len(parse_groupings(["Attractive", "Young"], training=True)) == 2


def test_no_attribute_name_is_two_others_joined_so_run_folders_stay_apart():
    joined = {f"{a}_{b}" for a, b in itertools.permutations(ATTRIBUTES, 2)}
    assert not joined & set(ATTRIBUTES)


def test_more_than_2048_groups_are_refused():
    names = [name for name in ATTRIBUTES if name != "Young"]
    assert parse_grouping("Young:" + "+".join(names[:10])).num_groups == 2048
    with pytest.raises(UserError, match="4,096 groups; name fewer attributes"):
        parse_grouping("Young:" + "+".join(names[:11]))


SHAPES = {"shape": ("circle", "square", "star"), "texture": ("dots", "lines"), "size": ("s", "l")}


def shapes_table() -> Table:
    codes = np.array([[0, 0, 0], [1, 1, 0], [2, 0, 1], [2, -1, 1], [-1, 1, 1]], np.int8)
    names = np.array(list("abcde"))
    split = np.array([0, 0, 1, 1, 2], np.uint8)
    return Table(names, split, codes, tuple(SHAPES), tuple(SHAPES.values()))


def test_group_ids_of_three_classes_are_mixed_radix():
    grouping = parse_grouping("shape:texture+size", SHAPES)
    assert (grouping.num_classes, grouping.num_groups) == (3, 12)
    # (1, 1, 0) is 1 * 4 + 1 * 2 + 0 = 6; (2, 0, 1) is 2 * 4 + 0 * 2 + 1 = 9
    assert grouping.group_ids(shapes_table()).tolist() == [0, 6, 9, -1, -1]
    assert grouping.labels(shapes_table()).tolist() == [0, 1, 2, 2, -1]
    assert grouping.group_names[9] == "shape=star texture=dots size=l"
    bare = grouping.without_attributes()
    assert bare == parse_grouping("shape", SHAPES)
    assert bare.group_names == ["shape=circle", "shape=square", "shape=star"]
    assert bare.group_ids(shapes_table()).tolist() == [0, 1, 2, 2, -1]


def test_overlapping_groups_count_an_example_in_each_of_its_groups():
    columns = {"toxic": BINARY, "male": BINARY, "black": BINARY, "shape": SHAPES["shape"]}
    codes = np.array([[0, 1, 1, 0], [1, 0, 1, 0], [1, 0, 0, 1], [-1, 1, 1, 0], [1, 1, -1, 2]])
    rows = Table(np.array(list("abcde")), np.zeros(5, np.uint8), codes, tuple(columns))
    grouping = parse_grouping("toxic:male|black", columns)
    assert (grouping.name, grouping.num_groups) == ("toxic:male|black", 4)
    assert grouping.group_names[1:3] == ["toxic=0 black", "toxic=1 male"]
    assert [values.tolist() for values in grouping.members(rows)] == [[0, 0, 1, 4], [0, 1, 3, 2]]
    logits = Logits(np.array([[-1], [-1], [1], [1], [1]]), ("toxic",), (2,), Source("", "", "", ""))
    figures = evaluate(logits, [grouping], rows)[grouping.name]
    assert [group["correct"] for group in figures["groups"]] == [1, 1, 1, 0]  # of 1 each
    assert figures["avg_acc"] == 0.75 and figures["worst_group"]["id"] == 3
    with pytest.raises(UserError, match="each must be in one here"):
        grouping.group_ids(rows)
    with pytest.raises(UserError, match="'shape' is not binary"):
        parse_grouping("toxic:male|shape", columns)


def test_a_class_that_train_lacks_is_named():
    grouping, rows = parse_grouping("shape", SHAPES), shapes_table()
    warning = "task 'shape': no train example is of class star"
    assert warning in absent_classes([grouping], rows.of_split("train"), rows)[0]
    assert absent_classes([grouping], rows, rows) == []
    with pytest.raises(UserError, match=r"fewer than two classes \(circle 0, square 0, star 2\)"):
        absent_classes([grouping], rows.select(np.array([2, 3, 4])), rows)


def test_only_the_columns_of_the_table_are_known():
    with pytest.raises(UserError, match="unknown attribute 'textur': did you mean 'texture'"):
        parse_grouping("shape:textur", SHAPES)
    with pytest.raises(UserError, match="unknown attribute 'shape'"):
        parse_groupings(["shape:Male"], columns=CELEBA)
    assert parse_grouping("shape:Male").num_groups == 4  # any name, two classes


def test_a_table_selects_splits_rows_and_columns():
    table = shapes_table()
    assert table.of_split("val").names.tolist() == ["c", "d"]
    assert table.select(np.array([4, 0])).column("shape").tolist() == [-1, 0]
    assert len(table) == 5
    with pytest.raises(UserError, match="split 'dev' does not exist: use train, val, test"):
        table.of_split("dev")
    with pytest.raises(UserError, match="column 'shap' does not exist: did you mean 'shape'"):
        table.column("shap")


def test_the_identity_of_a_table_changes_with_every_cell():
    table = shapes_table()
    assert shapes_table().identity == table.identity
    identities = {table.identity}
    for field in ("names", "split", "codes"):
        changed = getattr(shapes_table(), field).copy()
        changed[2] = changed[1]
        identities.add(replace(table, **{field: changed}).identity)
    assert len(identities) == 4
