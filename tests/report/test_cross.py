"""The table of methods and task weightings, by hand."""

import pytest

from src.report.cross import cross_page, cross_table

TASKS = ["Bald:Male", "Young:Male"]


def row(task: str, average: float, worst: float, rule: str = "best-group") -> dict:
    def figure(mean: float) -> dict:
        return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}

    return {
        **{"split": "test", "rule": rule, "method": "erm", "weighting": "uw", "seeds": [0, 1]},
        **{"groupings": TASKS, "grouping": task, "runs": ["a", "b"], "average": figure(average)},
        "worst_group": figure(worst) | {"groups": [f"{task} g1", f"{task} g2"]},
    }


def pair(task: str, difference: float, high: float, matched: bool = True) -> dict:
    gap = {"difference": difference, "low": difference - 0.1, "high": high}
    about = {"split": "test", "rule": "best-group", "grouping": task, "runs": ["a", "b"]}
    return {**about, "matched": matched, "average": gap, "worst_group": gap}


def test_a_line_has_mean_minimum_worst_cell_and_delta_m():
    report = {
        "rows": [row("Bald:Male", 0.9, 0.4), row("Young:Male", 0.8, 0.6)],
        "comparisons": [pair("Bald:Male", -0.1, -0.05), pair("Young:Male", 0.1, 0.2)],
    }
    (line,) = cross_table(report).to_dict("records")
    assert line["average_mean"] == pytest.approx(0.85)
    assert (line["worst_group_mean"], line["minimum_mean"]) == pytest.approx((0.5, 0.4))
    assert (line["minimum_low"], line["minimum_high"]) == pytest.approx((0.3, 0.5))
    assert line["worst_cell"] in ("Bald:Male, Bald:Male g1", "Bald:Male, Bald:Male g2")
    # Alone 0.5 and 0.5: (-0.1 / 0.5 + 0.1 / 0.5) / 2.
    assert line["delta_m_worst_group_mean"] == pytest.approx(0)
    # Alone 1.0 and 0.7.
    assert line["delta_m_average_mean"] == pytest.approx((-0.1 / 1.0 + 0.1 / 0.7) / 2)
    assert (line["compared"], line["below"], line["surely_below"]) == (2, 1, 1)


def test_other_settings_alone_are_no_comparison():
    report = {
        "rows": [row("Bald:Male", 0.9, 0.4), row("Young:Male", 0.8, 0.6)],
        "comparisons": [pair("Bald:Male", -0.1, 0.1), pair("Young:Male", 0.1, 0.2, matched=False)],
    }
    (line,) = cross_table(report).to_dict("records")
    assert line["delta_m_average_mean"] is None and line["compared"] == 1
    assert "1 (0) of 1" in cross_page(cross_table(report), "index.html")


def test_the_best_epoch_of_each_task_is_one_line():
    rows = [
        row("Bald:Male", 0.9, 0.4, "best-group-Bald"),
        row("Young:Male", 0.8, 0.6, "best-group-Young"),
    ]
    (line,) = cross_table({"rows": rows, "comparisons": []}).to_dict("records")
    assert line["rule"] == "best-group-own" and line["minimum_mean"] == pytest.approx(0.4)


def test_a_network_of_one_task_has_no_line():
    alone = row("Bald:Male", 0.9, 0.4) | {"groupings": TASKS[:1]}
    assert cross_table({"rows": [alone], "comparisons": []}).empty
