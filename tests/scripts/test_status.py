"""One line per run: state, progress, speed, time left, best figures and where the log is."""

import io
import socket
import time

import pytest
from rich.console import Console

from scripts import status
from src.io import write_json
from src.runs.folder import Run


@pytest.fixture(autouse=True)
def no_slurm(monkeypatch):
    monkeypatch.setattr("scripts.status.slurm_jobs", lambda: None)


def show(capsys, *arguments) -> list[str]:
    status.main([str(argument) for argument in arguments])
    return capsys.readouterr().out.splitlines()


def running(run: Run, **fields) -> None:
    config = {
        "exp": {"dataloader": {"batch_size": 50}, "stage_2": {"dataloader": {"batch_size": 5}}}
    }
    write_json(run.config, config)
    run.set_status(
        state="running",
        host=socket.gethostname(),
        pid=1,
        heartbeat=time.time(),
        step=400,
        total_steps=1000,
        epoch=4,
        total_epochs=10,
        images_per_second=100.0,
        **fields,
    )


def test_a_running_run_shows_progress_speed_and_time_left(tmp_path, capsys):
    running(Run(tmp_path / "a"))
    (tmp_path / "a" / "log.txt").touch()
    header, line, total = show(capsys, tmp_path)
    assert header.split()[:5] == ["state", "epoch", "progress", "images/s", "left"]
    # 600 steps of 50 images at 100 images/s are 300 s.
    assert line.split() == [
        *("running", "4/10", "40", "%", "100", "5:00", "min", status.shorten(tmp_path / "a")),
        *("log", "log.txt"),
    ]
    assert total == "1 runs: 1 running"


def test_a_run_in_stages_tells_of_the_stage_it_is_in(tmp_path, capsys):
    running(Run(tmp_path / "a"), stage="stage_2")
    assert "0:30 min" in show(capsys, tmp_path)[1]


def test_best_figures_are_percent_of_the_best_epochs(tmp_path, capsys):
    run = Run(tmp_path / "a")
    run.set_status(state="done")
    epochs = {
        "1": {"best-avg": 0.913, "best-group": 0.25},
        "2": {"best-avg": 0.9, "best-group": 0.5},
    }
    write_json(run.val_stats, {"epochs": epochs, "selected": {}})
    assert show(capsys, tmp_path)[1].split()[:3] == ["done", "91.3", "50.0"]


def test_a_failed_run_shows_the_first_line_of_its_error(tmp_path, capsys):
    Run(tmp_path / "a").set_status(state="failed", error="exit code 1\nmore")
    Run(tmp_path / "b").set_status(state="queued", slurm_job="12_3")
    lines = show(capsys, tmp_path)
    assert lines[1].endswith("exit code 1") and lines[2].endswith("Slurm job 12_3")
    assert lines[-1] == "2 runs: 1 queued, 1 failed"


def test_long_folder_names_are_shortened_unless_full(tmp_path, capsys):
    name = "x" * 60 + "-deadbeef-seed12"
    Run(tmp_path / name).set_status(state="done")
    short = "x" * 27 + "..." + "xx-deadbeef-seed12"
    assert show(capsys, tmp_path)[1].split()[-1].endswith("/" + short)
    assert str(tmp_path / name) in show(capsys, tmp_path, "--full")[1]


def test_a_lost_slurm_job_names_the_log_of_slurm(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("scripts.status.slurm_jobs", lambda: set())
    log = tmp_path / ".slurm" / "12_3_0_log.out"
    log.parent.mkdir()
    log.write_text("srun: fatal: mutually exclusive")
    Run(tmp_path / "a").set_status(state="queued", slurm_job="12_3")
    assert f"its Slurm job 12_3 is gone; Slurm's log: {log}" in show(capsys, tmp_path)[1]


def test_only_runs_in_a_state_can_be_asked_for(tmp_path, capsys):
    for name in ("new", "done"):
        Run(tmp_path / name).set_status(state=name)
    lines = show(capsys, tmp_path, "--state", "done")
    assert len(lines) == 3 and lines[1].startswith("done")
    assert lines[-1] == "2 runs: 1 new, 1 done"


def test_a_folder_without_runs_and_one_that_is_missing(tmp_path, capsys):
    assert show(capsys, tmp_path) == ["0 runs: none"]
    with pytest.raises(SystemExit) as ended:
        status.main([str(tmp_path / "none")])
    assert ended.value.code == 2


def test_watching_without_a_terminal_prints_lines_that_change(tmp_path, capsys, monkeypatch):
    run, other = Run(tmp_path / "a"), Run(tmp_path / "b")
    running(run)
    running(other)
    other.set_status(state="done")
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 2:  # nothing changed in between
            run.set_status(state="done")

    monkeypatch.setattr(status.time, "sleep", sleep)
    lines = show(capsys, tmp_path, "--watch", "3")
    states = [line.split()[0] for line in lines if str(tmp_path)[:9] in line]
    assert states == ["running", "done", "done"] and looks == [3, 3]
    assert [line[9:] for line in lines if "2 runs" in line] == [
        "2 runs: 1 running, 1 done",
        "2 runs: 2 done",
    ]


def test_the_live_table_keeps_figures_and_shortens_names():
    line = ("running", "3/25", "12 %", "100", "5:00 min", "95.0", "40.0", "logs/" + "x" * 90, "log")
    failed = ("failed", *[""] * 6, "logs/a", "[error] of a kind")
    console = Console(width=100, file=io.StringIO())
    console.print(status.live_table([failed, line], "2 runs"))
    shown = console.file.getvalue()
    assert shown.index("5:00 min") < shown.index("[error]") and "…" in shown
    assert "2 runs" in shown and all(len(text) <= 100 for text in shown.splitlines())
