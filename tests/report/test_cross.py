"""The table of methods and task weightings, by hand."""

import pytest

from src.report.cross import cross_table, write_cross_page

TASKS = ["Bald:Male", "Young:Male"]


def row(task: str, average: float, worst: float, difference: dict | None = None, **changes) -> dict:
    def figure(mean: float) -> dict:
        return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}

    return {
        **{"split": "test", "shown": ["best-group"], "method": "erm", "weighting": "uw"},
        **{"groupings": TASKS, "grouping": task, "runs": ["a", "b"], "average": figure(average)},
        "worst_group": figure(worst) | {"groups": [f"{task} g1", f"{task} g2"]},
        **{"seeds": [0, 1], "difference": difference, **changes},
    }


def gap(difference: float, high: float, matched: bool = True) -> dict:
    figures = {"difference": difference, "low": difference - 0.1, "high": high}
    return {"matched": matched, "average": figures, "worst_group": figures}


def test_a_line_has_mean_minimum_worst_cell_and_delta_m():
    rows = [
        row("Bald:Male", 0.9, 0.4, gap(-0.1, -0.05)),
        row("Young:Male", 0.8, 0.6, gap(0.1, 0.2)),
    ]
    (line,) = cross_table({"rows": rows}).to_dict("records")
    assert line["average_mean"] == pytest.approx(0.85)
    assert (line["worst_group_mean"], line["minimum_mean"]) == pytest.approx((0.5, 0.4))
    assert (line["minimum_low"], line["minimum_high"]) == pytest.approx((0.3, 0.5))
    assert line["worst_cell"] in ("Bald:Male, Bald:Male g1", "Bald:Male, Bald:Male g2")
    # Alone 0.5 and 0.5: (-0.1 / 0.5 + 0.1 / 0.5) / 2.
    assert line["delta_m_worst_group_mean"] == pytest.approx(0)
    # Alone 1.0 and 0.7.
    assert line["delta_m_average_mean"] == pytest.approx((-0.1 / 1.0 + 0.1 / 0.7) / 2)
    assert (line["compared"], line["below"], line["surely_below"]) == (2, 1, 1)


def test_other_settings_alone_are_no_comparison(tmp_path):
    other = gap(0.1, 0.2, matched=False)
    rows = [row("Bald:Male", 0.9, 0.4, gap(-0.1, 0.1)), row("Young:Male", 0.8, 0.6, other)]
    table = cross_table({"rows": rows})
    (line,) = table.to_dict("records")
    assert line["delta_m_average_mean"] is None and line["compared"] == 1
    write_cross_page(tmp_path / "cross.html", table, "index.html")
    assert "1 (0) of 1" in (tmp_path / "cross.html").read_text()


def test_a_network_of_one_task_has_no_line():
    assert cross_table({"rows": [row("Bald:Male", 0.9, 0.4, groupings=TASKS[:1])]}).empty
