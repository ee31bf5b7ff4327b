"""The details of many runs, read in a process beside: the same as read here, or none."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from src.report import details as report_details
from src.report.details import reading_details, run_details
from src.report.runs import ReportRun, find_runs
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


@pytest.mark.parametrize("already_sent", [b"", b"\0\0\x10\0a tenth"], ids=["before", "amid"])
def test_where_the_process_beside_is_killed_there_are_no_details(
    folders, monkeypatch, already_sent
):
    """Before it sends them, or amid that: a message begins with its length, here 4,096 bytes."""
    monkeypatch.setattr(report_details, "_send_details", partial(_die, already_sent))
    with reading_details(folders) as details:
        assert details() == {}


def test_of_few_runs_none_are_read_beside(folders, monkeypatch):
    monkeypatch.setattr(report_details, "MANY_RUNS", 4)
    monkeypatch.setattr(report_details, "multiprocessing", None)
    with reading_details(folders) as details:
        assert details() == {}


def test_where_the_command_is_killed_the_process_beside_ends(folders):
    code = (
        "import multiprocessing, sys, time; from pathlib import Path\n"
        "from src.report import details as report_details\n"
        "report_details.MANY_RUNS = 1\n"
        "with report_details.reading_details([Path(name) for name in sys.argv[1:]]):\n"
        "    print(multiprocessing.active_children()[0].pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, folders)], stdout=subprocess.PIPE, text=True
    )
    beside = int(command.stdout.readline())
    command.kill()
    command.communicate()
    end = time.monotonic() + 30
    while lives(beside):
        assert time.monotonic() < end
        time.sleep(0.1)


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _die(already_sent: bytes, sender: Connection, folders: list[Path]) -> None:
    os.write(sender.fileno(), already_sent)
    os.kill(os.getpid(), signal.SIGKILL)
