"""A JSON value fits its shape, or the first place that does not is named."""

import pytest

from src.json_shapes import Number, Or, misfit

SHAPE = {
    "epochs": {"*": {"*": Number}},
    "selected": {"*": int},
    "note": Or(str, None),
    "all": [int],
}
FITS = {
    "epochs": {"1": {"best": 0.5}},
    "selected": {"best": 1},
    "note": None,
    "all": [1, 2],
    "x": 0,
}


def test_a_value_that_fits_has_no_misfit_and_more_keys_are_allowed():
    assert misfit(FITS, SHAPE) is None
    assert misfit(FITS | {"epochs": {}, "note": "text", "all": []}, SHAPE) is None


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"epochs": []}, "epochs is not a table"),
        ({"epochs": {"1": {"best": "0.5"}}}, "epochs.1.best is not a number"),
        ({"epochs": {"1": {"best": True}}}, "epochs.1.best is not a number"),
        ({"epochs": {"1": {"best": float("nan")}}}, "epochs.1.best is not a number"),
        ({"epochs": {"1": {"best": float("inf")}}}, "epochs.1.best is not a number"),
        ({"selected": {"best": 1.5}}, "selected.best is not a whole number"),
        ({"selected": {"best": 2**63}}, "selected.best is too large a number"),
        ({"epochs": {"1": {"best": -(10**400)}}}, "epochs.1.best is too large a number"),
        ({"note": 3}, "note is not a text"),
        ({"all": {}}, "all is not a list"),
        ({"all": [1, None]}, "all[1] is not a whole number"),
    ],
)
def test_the_place_that_does_not_fit_is_named(change, found):
    assert misfit(FITS | change, SHAPE) == found


def test_what_is_missing_or_no_table_at_all_is_named():
    assert misfit({"epochs": {}}, SHAPE) == "selected is missing"
    assert misfit([], SHAPE) == "it is not a table"
    assert misfit(None, [int]) == "it is not a list"
