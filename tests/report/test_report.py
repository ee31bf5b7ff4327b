"""The report: which runs are one row, what is compared with what, how it is printed."""

import csv

import numpy as np
import pytest

from scripts.report_results import main
from src.report.collect import Answers, Measured, compare, comparison_key
from src.report.published import reference
from src.report.runs import find_runs, weighting_of
from src.report.text import comparison_table, csv_text, gap, latex, latex_text, result_table
from tests.report_example import BROWS, LIPS, example_grid, example_report


def row(groupings, grouping, rule, seeds=(0, 1), **changes):
    return {
        "split": "test",
        "rule": rule,
        "method": "erm",
        "weighting": "static_equal",
        "settings": {"lr": 0.1},
        "groupings": list(groupings),
        "grouping": grouping,
        "seeds": list(seeds),
        "runs": [f"logs/{seed}" for seed in seeds],
        "groups": [{}] * 4,
        **changes,
    }


def predictions(shares, data="d"):
    """Of 4 groups of 100 images, a share that is right; the same for two seeds."""
    return [np.tile(np.arange(100) < 100 * share, (2, 1)) for share in shares], data


A, B = "Young:Male", "Bald:Chubby"


def compared(rows, measured):
    """The last row against those before it, which are of tasks alone."""
    *singles, together = (
        Measured(row, Answers(*made, {"groups": [{}] * 4})) for row, made in zip(rows, measured)
    )
    alone = {}
    for single in singles:
        key = comparison_key(single, single.row["rule"])
        alone.setdefault(key, []).append(single)
    return compare([together], alone)


def test_a_task_together_is_held_against_the_same_task_alone_by_the_rule_that_is_the_same():
    rows = [row([A], A, "best-group"), row([A], A, "best-avg"), row([A, B], A, "best-worst")]
    measured = [
        predictions([0.9, 0.9, 0.9, 0.5]),
        predictions([1.0, 1.0, 1.0, 0.1]),
        predictions([0.8, 0.9, 0.9, 0.7]),
    ]
    (found,) = compared(rows, measured)
    # average: (80 + 90 + 90 + 70) / 4 - (90 + 90 + 90 + 50) / 4; worst group: 70 - 50
    assert found["average"]["difference"] == pytest.approx(0.025)
    assert found["worst_group"]["difference"] == pytest.approx(0.20)
    assert found["worst_group"]["low"] < 0.20 < found["worst_group"]["high"]
    assert found["interval"] == "seeds and images" and found["alone"] == ["logs/0", "logs/1"]


def test_other_images_or_another_method_are_no_comparison():
    together = row([A, B], A, "best-group")
    ours = predictions([0.9] * 4)
    assert compared([row([A], A, "best-group", method="suby"), together], [ours, ours]) == []
    elsewhere = predictions([0.9] * 4, data="other")
    assert compared([row([A], A, "best-group"), together], [elsewhere, ours]) == []


def test_of_several_settings_alone_the_one_of_the_same_values_counts():
    rows = [
        row([A], A, "best-group", settings={"lr": 0.5}, runs=["other"]),
        row([A], A, "best-group", runs=["same"]),
        row([A, B], A, "best-group"),
    ]
    (found,) = compared(rows, [predictions([0.9] * 4)] * 3)
    assert found["alone"] == ["same"]


@pytest.mark.parametrize(
    "method, worst, verdict, difference",
    [
        ("erm", 0.500, "within 2 std", 0.031),  # 46.9 +- 2.8: up to 52.5
        ("erm", 0.526, "outside", 0.057),
        ("jtt", 0.700, "difference only", -0.111),  # 81.1, no std
    ],
)
def test_a_published_result_is_within_two_standard_deviations_or_not(
    method, worst, verdict, difference
):
    found = reference(
        method, ["Blond_Hair:Male"], "resnet50", "test", "celeba", "best-group", worst
    )
    assert found["verdict"] == verdict
    assert found["difference"] == pytest.approx(difference)


def test_a_published_result_stands_beside_nothing_else():
    blond = ["Blond_Hair:Male"]
    assert reference("erm", blond, "resnet18", "test", "celeba", "best-group", 0.5) is None
    assert reference("erm", blond, "resnet50", "val", "celeba", "best-group", 0.5) is None
    assert reference("erm", blond, "resnet50", "test", "synthetic", "best-group", 0.5) is None
    assert reference("erm", [A], "resnet50", "test", "celeba", "best-group", 0.5) is None
    assert reference("suby", blond, "resnet50", "test", "celeba", "best-group", 0.5) is None


def test_weightings_have_the_names_of_the_flag():
    data = {"loss_balanced_task_weighting": False, "task_weights": None}
    assert weighting_of(data) == "static_equal"
    assert weighting_of(data | {"task_weights": [1.0, 1.0]}) == "static_equal"
    assert weighting_of(data | {"task_weights": [0.4, 0.6]}) == "static_delta"
    assert weighting_of(data | {"loss_balanced_task_weighting": True}) == "dynamic"


def test_a_jtt_run_is_found_once(tmp_path):
    for place in ("erm/seed0", "jtt/seed0", "jtt/seed0/stage_1", "jtt/seed0/stage_2"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "config.yaml").touch()
    runs = [tmp_path / "erm/seed0", tmp_path / "jtt/seed0"]
    assert find_runs([tmp_path]) == runs
    assert find_runs([*runs, tmp_path]) == runs


def test_latex_and_csv_hold_every_row():
    report = example_report()
    table = latex_text(report["rows"])
    assert table.count(r"\\") == len(report["rows"]) + 1
    assert r"Big\_Lips:Chubby & Bushy\_Eyebrows:Blond\_Hair & erm & dynamic" in table
    assert latex("Big_Lips & 5 %") == r"Big\_Lips \& 5 \%"
    lines = csv_text(report["rows"]).splitlines()
    assert len(lines) == len(report["rows"]) + 1
    first = dict(zip(lines[0].split(","), next(csv.reader(lines[1:]))))
    assert (first["weight_decay"], first["epochs"], first["chosen_epochs"]) == ("0.1", "4", "2 3")
    assert float(first["worst_group_mean"]) == pytest.approx(0.44)  # 40 and 44, and 2 points on val
    assert csv_text([]).startswith("split,rule,grouping,method")


def test_the_table_names_partners_and_the_settings_that_differ():
    rows = example_grid()["rows"]
    heads, *lines = result_table([row for row in rows if row["split"] == "test"])
    found = [dict(zip(heads, line)) for line in lines]
    assert [line["settings"] for line in found if line["task"] == LIPS][:2] == [
        "lr 1e-05, wd 0.001",
        "lr 0.0001, wd 0.001",
    ]
    assert {line["trained with"] for line in found if line["task"] == LIPS} == {BROWS}
    assert found[0]["worst group %"] == "40.0" and found[0]["seeds"] == "1"
    heads, *_ = result_table([row for row in rows if row["settings"]["lr"] == 1e-3])
    assert "settings" not in heads


def test_differences_are_a_table_with_the_number_of_seeds():
    heads, *lines = comparison_table(example_report()["comparisons"])
    line = dict(zip(heads, lines[0]))
    assert line["trained with"] == BROWS and line["seeds"] == "2"
    assert line["worst group"] == "+6.0 (-4.0 to +16.0)"


def test_a_difference_is_told_in_points():
    assert gap({"difference": 0.0123, "low": -0.005, "high": 0.0294}) == "+1.2 (-0.5 to +2.9)"


def test_mistakes_end_with_exit_code_2(tmp_path, capsys):
    for argv, told in (
        (["--log_dirs", str(tmp_path / "none*")], "no such folder"),
        (["--log_dirs", str(tmp_path)], "there is no run"),
        (["--log_dirs", str(tmp_path), "--by", "colour"], "use method, task, weighting"),
        (["--log_dirs", str(tmp_path), "--threshold", "nan"], "--threshold nan: a number"),
        (["--log_dirs", str(tmp_path), "--split", "tset"], "choose from"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 2 and told in capsys.readouterr().err
