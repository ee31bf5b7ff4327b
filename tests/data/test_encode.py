"""What stands in a column, and the classes that it becomes."""

import numpy as np
import pandas as pd
import pytest

from src.data.encode import NotClasses, encode
from src.io import UserError


def encoded(values, **options):
    codes, classes = encode(pd.Series(values, name="x"), **options)
    return codes.tolist(), classes


@pytest.mark.parametrize(
    ("values", "codes", "classes"),
    [
        ([0, 1, 1], [0, 1, 1], ("0", "1")),
        ([-1, 1], [0, 1], ("0", "1")),
        ([1, 1], [1, 1], ("0", "1")),
        ([True, False], [1, 0], ("false", "true")),
        (["True", "false", None], [1, 0, -1], ("false", "true")),
        ([1.0, np.nan, 0.0], [1, -1, 0], ("0", "1")),
        ([3, 10, 2, np.nan], [1, 2, 0, -1], ("2", "3", "10")),
        (["dog", " cat", None, ""], [1, 0, -1, -1], ("cat", "dog")),
        (["a", 1, "1"], [1, 0, 0], ("1", "a")),
        ([-1, 0, 1], [0, 1, 2], ("-1", "0", "1")),
    ],
)
def test_values_become_classes(values, codes, classes):
    assert encoded(values) == (codes, classes)


def test_a_category_keeps_its_order():
    column = pd.Categorical(["low", "high", None], ["low", "mid", "high"])
    assert encoded(column) == ([0, 1, -1], ("low", "high"))


def test_bins_cut_numbers_below_the_limit():
    ages = [19, 20, 39.5, 40, np.nan]
    assert encoded(ages, bins=[20, 40]) == ([0, 1, 1, 2, -1], ("<20", "20-40", ">=40"))
    assert encoded([0.2, 0.5], bins=[0.5]) == ([0, 1], ("<0.5", ">=0.5"))


def test_listed_values_are_missing():
    assert encoded([-1, 0, 1], missing=["-1"]) == ([-1, 0, 1], ("0", "1"))
    assert encoded([-999, 30], bins=[20], missing=["-999"])[0] == [-1, 1]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([0.3, 0.7], "such as 0.3: cut it into classes with exp.dataset.bins.x"),
        (range(2000), r"2,000 different values.*exp.dataset.bins.x=\[499.75,999.5,1499.25\]"),
        ([f"t{i}" for i in range(2000)], "name another column"),
        (["cat", "cat"], "one value only, 'cat'"),
        ([None, None], "no values"),
    ],
)
def test_what_is_no_class_is_refused_with_a_hint(values, reason):
    with pytest.raises(NotClasses, match=reason):
        encoded(list(values))


def test_bins_of_texts_are_refused():
    with pytest.raises(UserError, match="'old' in column 'x' is not a number"):
        encoded([20, "old"], bins=[30])
