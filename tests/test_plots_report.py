"""Figures of the report: every mark is a row's number, and what is not known is not drawn."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from src.plots_report import (
    METHOD_COLOURS,
    epoch_curves,
    family_contrasts,
    number_of_tasks,
    plot_report,
    stl_against_mtl,
)
from src.report_rows import pairings
from tests.report_example import BROWS, LIPS, PAIR, example_report


@pytest.fixture
def rows():
    return pairings(example_report(), "test", "best-group")


def marks(axis) -> list[tuple[float, str, bool]]:
    """Value, colour and whether hollow, of each mark of a forest plot from the top."""
    drawn = [line for line in axis.lines if line.get_marker() in ("o", "s", "D")]
    drawn.sort(key=lambda line: line.get_ydata()[0])
    return [
        (
            round(float(line.get_xdata()[0]), 2),
            to_hex(line.get_color()),
            line.get_markerfacecolor() == "white",
        )
        for line in drawn
    ]


def bars(axis) -> list[list[float]]:
    found = [np.array(bar.get_segments()[0])[:, 0] for bar in axis.collections]
    return [ends.round(2).tolist() for ends in found]


def test_each_task_shows_its_accuracy_alone_and_together_and_their_difference(rows):
    accuracy, difference = stl_against_mtl(rows[0], "worst_group").axes
    erm, suby = METHOD_COLOURS["erm"], METHOD_COLOURS["suby"]
    assert marks(accuracy)[:4] == [  # means of the two seeds' worst groups
        (42.0, erm, True),
        (48.0, erm, False),
        (63.0, suby, True),
        (61.0, suby, False),
    ]
    assert marks(difference) == [
        (6.0, erm, False),
        (-2.0, suby, False),
        (10.0, erm, False),
        (5.0, suby, False),
    ]
    names = [text.get_text() for text in accuracy.get_yticklabels()]
    assert names == [
        "Big Lips : Chubby\nwith Bushy Eyebrows : Blond Hair",
        "Bushy Eyebrows : Blond Hair\nwith Big Lips : Chubby",
    ]


def test_error_bars_end_where_the_intervals_do(rows):
    accuracy, difference = stl_against_mtl(rows[0], "worst_group").axes
    assert bars(accuracy)[:2] == [[34.0, 50.0], [40.0, 56.0]]
    assert bars(difference)[0] == [-4.0, 16.0]


def test_a_worst_group_that_does_not_exist_is_not_drawn(rows):
    pairs, _ = rows
    pairs[0].row["worst_group"] |= {"mean": None, "low": None, "high": None}
    pairs[0].difference["worst_group"] |= {"difference": None, "low": None, "high": None}
    accuracy, difference = stl_against_mtl(pairs, "worst_group").axes
    assert 0.0 not in [value for value, *_ in marks(accuracy)]
    assert len(marks(accuracy)) == 8 - 1
    assert len(marks(difference)) == 4 - 1


def test_without_a_task_trained_in_both_ways_there_is_no_figure(rows):
    pairs = [pair for pair in rows[0] if pair.row["method"] == "jtt"]
    assert stl_against_mtl(pairs, "average") is None
    assert stl_against_mtl([], "average") is None


def test_a_family_shows_the_mean_of_its_differences_without_an_interval(rows):
    families = {"strong": [PAIR], "weak": [PAIR], "similar": [PAIR]}
    (axis,) = family_contrasts(rows[0], families, "worst_group").axes
    names = [text.get_text().split("\n") for text in axis.get_yticklabels()]
    assert names[0] == ["strong +4.8", "mean of 4 results"]  # of 6, -2, 10 and 5
    assert [name for name, _ in names].count("Big Lips : Chubby") == 2
    assert len(names) == 2 * 3
    assert marks(axis)[0][0] == 4.75
    assert len(bars(axis)) == 8


def test_panels_keep_the_names_of_their_own_tasks(rows):
    """Panels that shared an axis would all show the names of the last one."""
    families = {"strong": [PAIR], "weak": [PAIR], "disjoint": [PAIR], "nondisjoint": [PAIR]}
    disjoint, strong = family_contrasts(rows[0], families, "worst_group").axes
    first = [axis.get_yticklabels()[0].get_text() for axis in (disjoint, strong)]
    assert [name.split()[0] for name in first] == ["disjoint", "strong"]


def test_a_contrast_needs_both_families(rows):
    assert family_contrasts(rows[0], {"strong": [PAIR], "weak": []}, "average") is None


def test_accuracy_stands_over_the_number_of_tasks_with_a_line_through_the_means(rows):
    pairs, alone = rows
    figure = number_of_tasks(pairs, alone, [PAIR], "worst_group")
    lips, brows = figure.axes
    assert [axis.get_title(loc="left") for axis in (lips, brows)] == [
        "Big Lips : Chubby",
        "Bushy Eyebrows : Blond Hair",
    ]
    curve = next(
        line
        for line in lips.lines
        if to_hex(line.get_color()) == METHOD_COLOURS["suby"] and len(line.get_xdata()) == 2
    )
    assert curve.get_xdata().tolist() == [1, 2]
    np.testing.assert_allclose(curve.get_ydata(), [63, 61])
    assert number_of_tasks(pairs, [], [PAIR], "worst_group") is None


def test_the_epochs_that_rules_choose_are_ringed_and_named():
    curves = {"Big_Lips": [0.2, 0.4, None], "Gray_Hair": [0.5, 0.4, 0.3]}
    figure = epoch_curves("title", [1, 2, 3], curves, {"best-group": 2, "best-avg": 3, "last": 3})
    (axis,) = figure.axes
    rings = [line for line in axis.lines if to_hex(line.get_color()) == "#ffffff"]
    np.testing.assert_allclose(rings[0].get_ydata(), [40, np.nan])
    np.testing.assert_allclose(rings[1].get_ydata(), [40, 30])
    assert "2: best-group; 3: best-avg, last" in figure.get_supxlabel()


def test_every_figure_that_has_rows_is_written_twice_the_same(tmp_path):
    families = {"disjoint": [PAIR], "strong": [[LIPS, "Male"]], "ablate_disjoint": [PAIR]}
    first, second = (
        plot_report(tmp_path / name, example_report(), families, "test", "best-group")
        for name in "ab"
    )
    assert [path.name for path in first] == [
        f"{name}_{measure}.png"
        for measure in ("average", "worst_group")
        for name in ("compare_disjoint", "compare_ablate_disjoint", "tasks_ablate_disjoint")
    ]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_figure_of_an_earlier_report_goes_where_this_one_has_no_rows_for_it(tmp_path):
    families = {"pair": [PAIR]}
    assert plot_report(tmp_path, example_report(), families, "test", "best-group")
    nothing = {"runs": [], "rows": [], "comparisons": []}
    plot_report(tmp_path, nothing, families, "test", "best-group")
    assert list(tmp_path.iterdir()) == []


def test_rows_pair_at_a_rule_that_one_task_does_not_know():
    pairs, alone = pairings(example_report(), "val", "best-worst")
    assert {row["rule"] for row in alone} == {"best-group"}
    assert {row["grouping"] for row in alone} == {LIPS, BROWS}
    assert all(pair.alone for pair in pairs if pair.row["method"] != "jtt")
