"""The report: comparisons, published results, tables as text."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest

from scripts.report_results import main
from src.report.collect import Measured, compare
from src.report.published import Published, published, reference
from src.report.rows import positions, rule_positions
from src.report.settings import name_differences, weighting_of
from src.report.text import DIFFERENCES, PAPER, csv_text, latex_text, result_table
from tests.report_example import BROWS, LIPS, example_report


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
        "has_validation": True,
        **changes,
    }


def right(*shares):
    """Of 4 groups of 100 images, a share that is right; the same for two seeds."""
    return [np.tile(np.arange(100) < 100 * share, (2, 1)) for share in shares]


A, B = "Young:Male", "Bald:Chubby"
RESNET50 = {"network": "resnet50", "start": "pretrained", "input": "224x224"}
ALIKE = right(0.9, 0.9, 0.9, 0.9)


def measured(groupings, answers=ALIKE, data="d", comparable=None, **changes):
    return Measured(row(groupings, A, "best-group", **changes), answers, data, comparable or {})


def test_a_task_is_compared_with_the_same_task_alone():
    together = measured([A, B], right(0.8, 0.9, 0.9, 0.7))
    found = compare(together, [measured([A], right(0.9, 0.9, 0.9, 0.5))])
    # average: (80 + 90 + 90 + 70) / 4 - (90 + 90 + 90 + 50) / 4; worst group: 70 - 50
    assert found["average"]["difference"] == pytest.approx(0.025)
    assert found["worst_group"]["difference"] == pytest.approx(0.20)
    assert found["worst_group"]["low"] < 0.20 < found["worst_group"]["high"]
    assert found["interval"] == "seeds and images" and found["alone"] == ["logs/0", "logs/1"]
    assert found["matched"] and found["differs"] == {}
    assert compare(together, []) is None


@pytest.mark.parametrize(
    "changes",
    [{"data": "other"}, {"method": "suby"}, {"settings": {"lr": 0.1, "max_steps": 1}}],
)
def test_other_images_methods_and_short_runs_are_not_compared(changes):
    assert measured([A], **changes).key("best-group") != measured([A, B]).key("best-group")
    assert measured([A], comparable={"lr": 1}).key("last") == measured([A, B]).key("last")


def test_equal_settings_are_preferred_then_most_seeds():
    alone = [
        measured([A], comparable={"optimizer.lr": lr}, seeds=seeds, runs=[name])
        for lr, seeds, name in (
            (0.5, (0, 1, 2), "other"),
            (0.1, (0,), "few"),
            (0.1, (0, 1), "same"),
        )
    ]
    found = compare(measured([A, B], comparable={"optimizer.lr": 0.1}), alone)
    assert found["alone"] == ["same"] and found["matched"] and found["candidates"] == 2


def test_other_settings_are_compared_but_marked():
    settings = {"optimizer.lr": 0.5, "optimizer.momentum": 0.9}
    together = measured([A, B], comparable={"optimizer.lr": 0.1})
    found = compare(together, [measured([A], comparable=settings)])
    assert not found["matched"]
    assert found["differs"] == {"optimizer.lr": [0.1, 0.5], "optimizer.momentum": [None, 0.9]}
    heads, line = result_table([together.row | {"difference": found}], DIFFERENCES)
    assert dict(zip(heads, line))["together / alone"] == "lr 0.1 / 0.5, momentum None / 0.9"


def test_the_rule_of_a_task_is_shown_as_its_own():
    rules = {
        f"best-avg-{task}": positions(f"best-avg-{task}", A, False) for task in ("Young", "Bald")
    }
    assert list(rules.values()) == [["best-avg-own"], []] and positions("7", A, False) == ["7"]
    alone = [
        "best-group",
        "best-worst",
        "best-group-own",
    ]  # rules that only several tasks tell apart
    assert positions("best-group", A, True) == alone
    rows = [{"shown": [rule]} for rule in ("12", "last", "3", "best-group", "best-avg")]
    assert rule_positions(rows) == ["best-avg", "best-group", "last", "3", "12"]


@pytest.mark.parametrize(
    "method, rule, worst, verdict, difference",
    [
        ("erm", "last", 0.500, "within 2 std", 0.031),  # 46.9 +- 2.8: up to 52.5
        ("erm", "last", 0.526, "outside", 0.057),
        ("rwg", "best-group", 0.810, "within 2 std", -0.033),  # 84.3 +- 1.8: from 80.7
        ("rwg", "best-avg", 0.810, "difference only", -0.033),
        ("jtt", "best-group", 0.700, "difference only", -0.111),  # 81.1, no deviation
    ],
)
def test_published_results_have_a_verdict(method, rule, worst, verdict, difference):
    found = reference(method, ["Blond_Hair:Male"], RESNET50, "test", "celeba", rule, worst)
    assert found["verdict"] == verdict
    assert found["difference"] == pytest.approx(difference)


def test_published_results_are_compared_with_their_own_kind_only():
    blond = ["Blond_Hair:Male"]
    for other in ({"network": "resnet18"}, {"input": "64x64"}, {"max_steps": 5}):
        settings = RESNET50 | other
        assert reference("erm", blond, settings, "test", "celeba", "best-group", 0.5) is None
    assert reference("erm", blond, RESNET50, "val", "celeba", "best-group", 0.5) is None
    assert reference("erm", blond, RESNET50, "test", "synthetic", "best-group", 0.5) is None
    assert reference("erm", [A], RESNET50, "test", "celeba", "best-group", 0.5) is None
    assert reference("suby", blond, RESNET50, "test", "celeba", "best-group", 0.5) is None


def test_a_standard_error_becomes_a_standard_deviation():
    found = Published(method="x", worst=60, spread=2, kind="se", seeds=4, labels="val", source="")
    assert found.std == pytest.approx(0.04)  # 2 * sqrt(4) points


def test_published_results_are_complete():
    known = {name: len(of.results) for name, of in published().items()}
    assert known == {"celeba": 62, "waterbirds": 53}


@pytest.mark.parametrize(
    "changes, across, name, gradient",
    [
        ({}, "static", "static_equal", "none"),
        ({"task_weights": [1.0, 1.0]}, "static", "static_equal", "none"),
        ({"task_weights": [0.4, 0.6]}, "static", "static_delta", "none"),
        ({"loss_balanced_task_weighting": True}, "lbtw", "dynamic", "none"),
        ({}, "uw", "uw", "none"),
        ({"task_weights": [1.0, 1.0]}, "static", "upgrad", "upgrad"),
        ({"task_weights": [0.4, 0.6]}, "static", "upgrad_scaled", "upgrad"),
    ],
)
def test_weightings_are_named(changes, across, name, gradient):
    data = {"loss_balanced_task_weighting": False, "task_weights": None} | changes
    objective = SimpleNamespace(across=across, gradient=gradient)
    config = SimpleNamespace(dataset=SimpleNamespace(**data), objective=objective)
    assert weighting_of(config) == name


def test_options_of_a_weighting_are_named_where_they_differ():
    leaves = [
        {},
        {"objective.famo.lr": 0.1},
        {"objective.stch.mu": 1.0},
        {"objective.stch.mu": 0.1},
    ]
    runs = [SimpleNamespace(state="done", method="erm", leaves=own, settings={}) for own in leaves]
    name_differences(runs)
    assert runs[1].settings == {"objective.stch.mu": None}
    assert runs[3].settings == {"objective.stch.mu": 0.1}


def test_latex_and_csv_hold_every_row():
    rows = example_report()["rows"]
    table = latex_text(result_table(rows, PAPER), "a note")
    assert table.count(r"\\") == len(rows) + 1
    assert r"Big\_Lips:Chubby & Bushy\_Eyebrows:Blond\_Hair & erm & dynamic" in table
    lines = csv_text(rows).splitlines()
    assert len(lines) == len(rows) + 1
    first = dict(zip(lines[0].split(","), next(csv.reader(lines[1:]))))
    assert (first["weight_decay"], first["epochs"], first["chosen_epochs"]) == ("0.1", "4", "2 3")
    assert float(first["worst_group_mean"]) == pytest.approx(0.44)  # 40 and 44, and 2 points on val


def test_tables_name_partners_and_settings_that_differ():
    rows = [row for row in example_report()["rows"] if row["method"] == "jtt"]
    heads, line, *_ = result_table(rows)
    assert "settings" not in heads
    shown = dict(zip(heads, line))
    assert (shown["task"], shown["trained with"], shown["seeds"]) == (LIPS, BROWS, "2")
    assert (shown["worst group %"], shown["std"]) == ("65.5", "0.7")
    rows[0]["settings"] = rows[0]["settings"] | {"optimizer.momentum": 0.5, "weight_decay": 0.1}
    heads, first, second, *_ = result_table(rows)
    assert dict(zip(heads, first))["settings"] == "wd 0.1, momentum 0.5"
    assert dict(zip(heads, second))["settings"] == "wd 0.01"


def test_comparisons_show_seeds_and_points():
    rows = [row for row in example_report()["rows"] if row["difference"]]
    heads, *lines = result_table(rows, DIFFERENCES)
    line = dict(zip(heads, lines[0]))
    assert line["trained with"] == BROWS and line["seeds"] == "2"
    assert line["worst group"] == "+6.0 (-4.0 to +16.0)" and "together / alone" not in line


def test_mistakes_end_with_exit_code_2(tmp_path, capsys):
    for argv, told in (
        (["--log_dirs", str(tmp_path / "none*")], "no such folder"),
        (["--log_dirs", str(tmp_path)], "there is no run"),
        (["--log_dirs", str(tmp_path), "--split", "tset"], "choose from"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 2 and told in capsys.readouterr().err
