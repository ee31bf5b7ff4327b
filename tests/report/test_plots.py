"""Forests of a report: every mark is a row's number, and what is unknown is not drawn."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from src.report.plots import (
    METHOD_COLOURS,
    MOST_LINES,
    Line,
    forest,
    plot_report,
    row_marks,
    single_tasks,
    together_and_alone,
)
from src.report.rows import pairings
from tests.report_example import BROWS, LIPS, PAIR, example_report


@pytest.fixture
def rows():
    return pairings(example_report(), "test", "best-group")


def marks(axis) -> list[tuple[float, str, bool]]:
    """Value, colour and whether hollow, of each mark of a forest plot from the top."""
    drawn = [line for line in axis.lines if line.get_marker() in ("o", "s", "D")]
    found = [
        (float(y), round(float(x), 2), to_hex(line.get_color()), line.get_markerfacecolor())
        for line in drawn
        for x, y in zip(line.get_xdata(), line.get_ydata())
    ]
    return [(x, colour, face == "white") for _, x, colour, face in sorted(found)]


def bars(axis) -> list[list[float]]:
    """Both ends of each interval, from the top."""
    found = [segment for bar in axis.collections for segment in bar.get_segments()]
    found = [segment for segment in found if len(segment) and not np.isnan(segment).any()]
    found.sort(key=lambda segment: segment[0, 1])
    return [segment[:, 0].round(2).tolist() for segment in found]


def test_tasks_are_shown_alone_together_and_as_a_difference(rows):
    accuracy, difference = together_and_alone(rows[0], "worst_group").axes
    erm, suby = METHOD_COLOURS["erm"], METHOD_COLOURS["suby"]
    assert marks(accuracy)[:5] == [  # means of the two seeds' worst groups
        (42.0, erm, True),
        (48.0, erm, False),
        (63.5, METHOD_COLOURS["jtt"], False),
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


def test_error_bars_end_at_the_limits(rows):
    accuracy, difference = together_and_alone(rows[0], "worst_group").axes
    assert bars(accuracy)[:2] == [[34.0, 50.0], [40.0, 56.0]]
    assert bars(difference)[0] == [-4.0, 16.0]


def test_a_missing_worst_group_is_not_drawn(rows):
    pairs, _ = rows
    pairs[0].row["worst_group"] |= {"mean": None, "low": None, "high": None}
    pairs[0].difference["worst_group"] |= {"difference": None, "low": None, "high": None}
    accuracy, difference = together_and_alone(pairs, "worst_group").axes
    assert 0.0 not in [value for value, *_ in marks(accuracy)]
    assert (len(marks(accuracy)), len(marks(difference))) == (10 - 1, 4 - 1)


def test_differences_at_other_settings_are_not_drawn(rows):
    pairs, _ = rows
    pairs[0].difference["matched"] = False
    _, difference = together_and_alone(pairs, "worst_group").axes
    assert len(marks(difference)) == 4 - 1
    for pair in pairs:
        if pair.difference:
            pair.difference["matched"] = False
    assert len(together_and_alone(pairs, "worst_group").axes) == 1


def test_networks_of_one_task_have_a_figure(rows):
    (axis,) = single_tasks(rows[1], "worst_group").axes
    names = [text.get_text() for text in axis.get_yticklabels()]
    assert names == ["Big Lips : Chubby", "Bushy Eyebrows : Blond Hair"]
    assert [value for value, *_ in marks(axis)] == [42.0, 63.0, 25.0, 62.5]
    assert single_tasks([], "worst_group") is None


def test_many_tasks_are_cut_and_counted(rows):
    mark = row_marks(rows[1], "average")[:1]
    figure = forest("title", {"%": [Line(str(at), "", mark) for at in range(MOST_LINES + 3)]}, "n")
    assert len(figure.axes[0].get_yticklabels()) == MOST_LINES
    assert any("3 more tasks are on the page" in text.get_text() for text in figure.texts)


def test_figures_are_png_and_pdf_and_equal_twice(tmp_path):
    families = {"disjoint": [PAIR], "strong": [[LIPS, "Male"]]}
    first, second = (
        plot_report(tmp_path / name, example_report(), families, "test", "best-group")
        for name in "ab"
    )
    assert [path.name for path in first] == [
        f"results_{name}_{measure}.{kind}"
        for measure in ("average", "worst_group")
        for name in ("single", "disjoint")
        for kind in ("png", "pdf")
    ]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_figures_of_an_earlier_report_are_removed(tmp_path):
    families = {"pair": [PAIR]}
    assert plot_report(tmp_path, example_report(), families, "test", "best-group")
    nothing = {"runs": [], "rows": [], "comparisons": []}
    plot_report(tmp_path, nothing, families, "test", "best-group")
    assert list(tmp_path.iterdir()) == []


def test_rows_pair_at_a_rule_that_one_task_does_not_have():
    pairs, alone = pairings(example_report(), "val", "best-worst")
    assert {row["rule"] for row in alone} == {"best-group"}
    assert {row["grouping"] for row in alone} == {LIPS, BROWS}
    assert all(pair.alone for pair in pairs if pair.row["method"] != "jtt")
