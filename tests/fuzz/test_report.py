"""Runs of which a machine spoilt a file: the report shows right numbers, or names the run."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from scripts.report_results import csv_text, latex_text
from src.files import write_json
from src.report.collect import build_report
from src.report.page import write_report_page
from src.report.runs import find_runs
from src.runs.folder import Run
from tests.fuzz.cases import cases, right_or_refused
from tests.fuzz.test_files import JSON, spoil
from tests.report_folders import four_groups, write_data, write_run

YOUNG = "Young:Male"
RIGHT = {1: 4, 2: 7}  # of the 10 images in the worst group, by epoch; all others are right
TEXTS = ("config.yaml", "status.json", "metrics.jsonl")
RESULTS = ("val_stats.json", "val_stats_1.json", "val_stats_2.json")
LOGITS = ("test_logits_1.npz", "test_logits_2.npz")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two runs that differ in their seed; each rule chooses the second epoch."""
    folder = tmp_path_factory.mktemp("runs")
    sizes = {split: four_groups("Young", "Male") for split in ("val", "test")}
    data = write_data(folder / "data", sizes)
    epochs = [{YOUNG: (10, 10, 10, number)} for number in RIGHT.values()]
    for seed in (0, 1):
        name = folder / "logs" / f"seed{seed}"
        run = Run(write_run(name, data, [YOUNG], {"val": epochs, "test": epochs}, seed=seed))
        lines = [
            {"step": 10, "epoch": 1, "train/loss": 0.5, "train/Young/weight": 1.0},
            {"step": 10, "epoch": 1, "val/Young/avg_acc": 0.85, "val/Young/worst_group_acc": 0.4},
        ]
        run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def make_report(folder: Path) -> dict:
    report = build_report(find_runs([folder / "logs"]))
    write_json(folder / "report.json", report)
    write_report_page(report, folder)
    csv_text(report["rows"])
    latex_text(report["rows"])
    return report


def check(report: dict) -> None:
    """Each seed of a row has the numbers of the epoch that the row says."""
    for row in report["rows"]:
        for place, epoch in enumerate(row["epochs"]):
            assert row["grouping"] == YOUNG
            assert row["average"]["values"][place] == (30 + RIGHT[epoch]) / 40
            assert row["worst_group"]["values"][place] == RIGHT[epoch] / 10


def test_the_report_on_sound_runs(folder):
    report = make_report(folder)
    check(report)
    assert [row["epochs"] for row in report["rows"]] == [[2, 2], [2, 2]]


@cases(250)
@given(st.data(), st.sampled_from([*TEXTS, *RESULTS, *LOGITS]))
def test_a_report_on_a_spoilt_run_is_right_or_names_what_is_wrong(folder, data, name):
    run = folder / "logs" / "seed1"
    path = run / name if name in TEXTS else run / "results" / name
    whole = path.read_bytes()
    spoilt = spoil(data, whole)
    if name not in LOGITS and data.draw(st.booleans()):
        spoilt = replace_value(data, name, whole.decode())
    try:
        path.write_bytes(spoilt)
        # A configuration may name data that are elsewhere; they are then what is told.
        named = () if name == "config.yaml" else (str(folder),)
        fine, report = right_or_refused("reports", lambda: make_report(folder), *named)
    finally:
        path.write_bytes(whole)
    if fine:
        check(report)


def replace_value(data: st.DataObject, name: str, text: str) -> bytes:
    """The file with another value somewhere: well-formed, but perhaps not what belongs there."""
    if name == "metrics.jsonl":
        values = [json.loads(line) for line in text.splitlines()]
    else:
        values = yaml.safe_load(text)  # JSON, too
    place = values
    while True:
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(list(keys)))
        if isinstance(place[key], dict | list) and place[key] and data.draw(st.integers(0, 3)):
            place = place[key]
        else:
            break
    place[key] = data.draw(JSON)
    if name == "config.yaml":
        return yaml.safe_dump(values).encode()
    lines = values if name == "metrics.jsonl" else [values]
    return "".join(json.dumps(line) + "\n" for line in lines).encode(errors="replace")
