"""The details of many runs, read in a process beside: the same as read here, or none."""

import os
import signal
from pathlib import Path

import pytest

from src import report_details
from src.report_details import reading_details, run_details
from src.report_runs import ReportRun, find_runs
from tests.report_study import write_study


@pytest.fixture
def folders(tmp_path, monkeypatch) -> list[Path]:
    monkeypatch.setattr(report_details, "MANY_RUNS", 2)
    write_study(tmp_path, 3)
    return find_runs([tmp_path / "logs"])


def test_details_read_beside_are_those_read_here(folders):
    with reading_details(folders) as details:
        found = details()
    assert found == {str(run): run_details(run, ReportRun(run).tasks) for run in folders}
    assert len(found) == 3 and all(of["config"] and of["curves"]["epochs"] for of in found.values())


def test_a_run_that_cannot_be_read_is_left_to_whoever_measures_it(folders):
    (folders[1] / "config.yaml").write_text("exp: [")
    with reading_details(folders) as details:
        assert set(details()) == {str(folders[0]), str(folders[2])}


def test_where_the_process_beside_is_killed_there_are_no_details(folders, monkeypatch):
    monkeypatch.setattr(report_details, "_details_of", _die)
    with reading_details(folders) as details:
        assert details() == {}


def test_of_few_runs_none_are_read_beside(folders, monkeypatch):
    monkeypatch.setattr(report_details, "MANY_RUNS", 4)
    monkeypatch.setattr(report_details, "ProcessPoolExecutor", None)
    with reading_details(folders) as details:
        assert details() == {}


def _die(folders: list[Path]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
