"""The report page as a file: what is in it, and how it holds up with no runs and with hundreds."""

import json
import re
from copy import deepcopy
from pathlib import Path

import pytest

from src.report.page import page_data, run_curves, write_report_page
from src.runs.folder import Run
from tests.report_example import LIPS, PAIR, example_report, write_runs

FAMILIES = {"disjoint": [PAIR], "nondisjoint": [], "ablate_disjoint": [PAIR]}


def data_of(path: Path) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text())[1])


@pytest.fixture
def report(tmp_path):
    made = example_report(str(tmp_path / "logs"))
    write_runs(made)
    return made


def test_a_row_holds_its_numbers_and_its_difference_from_the_task_alone(report):
    data = page_data(report, FAMILIES)
    assert data["settings"] == ["weight_decay"]  # those that differ
    (row,) = [
        row
        for row in data["rows"]
        if (row["split"], row["rule"], row["method"]) == ("test", "best-group", "erm")
        and row["grouping"] == LIPS
        and len(row["groupings"]) == 2
    ]
    assert row["worst_group"]["values"] == [0.46, 0.5]
    assert row["worst_group"]["mean"] == 0.48
    assert row["difference"]["worst_group"]["difference"] == pytest.approx(0.06)  # 48 against 42
    assert [data["runs"][at]["seed"] for at in row["runs"]] == [0, 1]


def test_a_run_has_its_configuration_curves_state_and_error(report):
    data = page_data(report, FAMILIES)
    run = next(run for run in data["runs"] if run["weighting"] == "dynamic")
    assert run["config"].startswith("exp:\n  name: erm\n  seed: 0\n")
    assert run["curves"]["epochs"] == [1, 2, 3, 4]
    assert run["curves"]["worst_group"]["Big_Lips"] == [0.4, 0.5, 0.6, 0.67]
    assert run["curves"]["weights"]["Bushy_Eyebrows"][-1] == 0.8
    assert run["curves"]["steps"][:2] == [20, 40]
    assert data["runs"][0]["curves"]["weights"] == {}  # they never move
    failed = next(run for run in data["runs"] if run["state"] == "failed")
    assert failed["error"] == "a loss that is not finite at step 120"


def test_cosines_between_tasks_are_a_curve_for_each_pair(tmp_path):
    (tmp_path / "config.yaml").write_text("exp: {}\n")
    line = {"step": 5, "epoch": 1, "train/loss": 1.0, "train/Bald/cosine/Young": -0.25}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    assert run_curves(Run(tmp_path), ["Young", "Bald"])["cosines"] == {"Bald, Young": [-0.25]}


def test_a_jtt_run_shows_its_second_stage(tmp_path):
    for stage, epoch in (("stage_1", 1), ("stage_2", 7)):
        folder = tmp_path / stage
        folder.mkdir()
        (folder / "config.yaml").write_text("exp: {}\n")
        line = {"step": 5, "epoch": epoch, "val/Big_Lips/avg_acc": 0.5}
        (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    curves = run_curves(Run(tmp_path), ["Big_Lips"])
    assert curves["epochs"] == [7]
    assert curves["worst_group"]["Big_Lips"] == [None]


def test_the_half_line_of_a_killed_run_costs_its_curve_no_end(tmp_path):
    lines = [json.dumps({"step": s, "epoch": 1, "train/loss": 0.5}) for s in range(1, 1001)]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 1001, "train/loss": 0.']))
    steps = run_curves(Run(tmp_path), ["Big_Lips"])["steps"]
    assert (len(steps), steps[0], steps[-1]) == (150, 1, 1000)


def test_without_rows_the_page_still_lists_the_runs(report, tmp_path):
    empty = {**report, "rows": []}
    data = data_of(write_report_page(empty, tmp_path, FAMILIES))
    assert (len(data["runs"]), data["rows"], data["splits"]) == (15, [], [])
    assert run_curves(Run(tmp_path / "nothing"), ["Big_Lips"])["epochs"] == []
    again = write_report_page(empty, tmp_path / "again", FAMILIES)
    assert again.read_bytes() == (tmp_path / "index.html").read_bytes()


def test_a_report_of_400_runs_of_50_epochs_stays_under_10_megabytes(report, tmp_path):
    long = tmp_path / "long"
    long.mkdir()
    lines = []
    for step in range(1, 5001):
        line = {"step": step * 50, "epoch": 1, "train/loss": 1 / (step + 3)}
        for task in ("Big_Lips", "Bushy_Eyebrows"):
            line[f"train/{task}/weight"] = 1 / (1 + step)
            if step % 100 == 0:
                line[f"val/{task}/avg_acc"] = line[f"val/{task}/worst_group_acc"] = 1 / step
        lines.append(json.dumps(line))
    (long / "metrics.jsonl").write_text("\n".join(lines))
    (long / "config.yaml").write_text("\n".join(f"key{at}: a value" for at in range(120)))
    run = next(run for run in report["runs"] if len(run["tasks"]) == 2)
    large = {"runs": [], "rows": []}
    for seed in range(400):  # one read of the long log is enough for the test
        name = str(long) if seed < 3 else f"logs/run{seed}"
        large["runs"].append({**run, "run": name, "seed": seed})
    for copy in range(20):  # 20 settings, each with all rows of the example: 1,040 rows
        for row in report["rows"]:
            large["rows"].append({**deepcopy(row), "settings": {"lr": copy}})
    size = write_report_page(large, tmp_path, FAMILIES).stat().st_size
    one_run = len(json.dumps(page_data({**large, "rows": []}, {})["runs"][0]))
    assert one_run < 20_000
    assert size + 397 * one_run < 10e6
