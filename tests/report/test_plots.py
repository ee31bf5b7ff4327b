"""Forests of a report: every mark is a row's number, and what is unknown is not drawn."""

import pytest

from src.report.plots import MOST_LINES, forest, plot_report
from tests.report_example import LIPS, PAIR, example_report


@pytest.fixture
def rows():
    found = [row for row in example_report()["rows"] if row["split"] == "test"]
    return [row for row in found if "best-group" in row["shown"]]


def draw(rows, together=True):
    alone = [row for row in rows if len(row["groupings"]) == 1]
    shown = [row for row in rows if len(row["groupings"]) == 2] if together else alone
    return forest(shown, alone, "worst_group", "best-group")


def marks(axes) -> list[float]:
    """Return the value of each mark from the top."""
    found = [(line.get_ydata()[0], line.get_xdata()[0]) for line, *_ in axes.containers]
    return [round(float(value), 2) for _, value in sorted(found)]


def intervals(axes) -> list[list[float]]:
    found = [bar.get_segments()[0] for _, _, (bar,) in axes.containers]
    return [segment[:, 0].round(2).tolist() for segment in sorted(found, key=lambda s: s[0, 1])]


def test_tasks_are_shown_alone_together_and_as_a_difference(rows):
    accuracy, difference = draw(rows).axes
    assert marks(accuracy)[:5] == [42.0, 48.0, 63.5, 63.0, 61.0]  # means of seeds' worst groups
    assert marks(difference) == [6.0, -2.0, 10.0, 5.0]
    assert intervals(accuracy)[:2] == [[34.0, 50.0], [40.0, 56.0]]
    assert intervals(difference)[0] == [-4.0, 16.0]
    assert "mean +4.7" in difference.get_xlabel()  # (6 - 2 + 10 + 5) / 4 = 4.75
    names = [text.get_text() for text in accuracy.get_yticklabels()]
    assert names == [
        "Big Lips : Chubby\nwith Bushy Eyebrows : Blond Hair",
        "Bushy Eyebrows : Blond Hair\nwith Big Lips : Chubby",
    ]


def test_a_missing_worst_group_is_not_drawn(rows):
    row = next(row for row in rows if row["difference"])
    row["worst_group"] |= {"mean": None, "low": None, "high": None}
    row["difference"]["matched"] = False
    accuracy, difference = draw(rows).axes
    assert (len(marks(accuracy)), len(marks(difference))) == (10 - 1, 4 - 1)


def test_networks_of_one_task_have_a_figure(rows):
    (axes,) = draw(rows, together=False).axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == ["Big Lips : Chubby", "Bushy Eyebrows : Blond Hair"]
    assert marks(axes) == [42.0, 63.0, 25.0, 62.5]
    assert draw([], together=False) is None


def test_many_tasks_are_cut_and_counted(rows):
    many = [rows[0] | {"grouping": f"Task:{at}"} for at in range(MOST_LINES + 3)]
    figure = forest(many, [], "average", "best-group")
    assert len(figure.axes[0].get_yticks()) == MOST_LINES
    assert "3 more tasks are in the table" in figure.get_supxlabel().replace("\n", " ")


def test_figures_are_png_and_pdf_equal_twice_and_replace_older_ones(tmp_path):
    families = {"disjoint": [PAIR], "strong": [[LIPS, "Male"]]}
    report = example_report()
    report["rows"] = [row for row in report["rows"] if row["split"] == "test"]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "results_old_average.png").touch()
    for name in "ab":
        drawn = plot_report(tmp_path / name, report, families, "best-group")
        assert list(drawn) == ["single", "disjoint"]
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in "ab")
    assert first == second
    assert set(first) == {
        f"results_{name}_{measure}.{kind}"
        for measure in ("average", "worst_group")
        for name in ("single", "disjoint")
        for kind in ("png", "pdf")
    }
