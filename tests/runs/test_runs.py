"""A run directory: its state, its lock, its log, its signals."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import train as entrypoint
from src.config.compose import load_config
from src.io import UserError, read_json, write_error
from src.runs import folder as runs
from src.runs.folder import DEAD_AFTER_SECONDS, Heartbeat, Run
from src.runs.signals import Stopped, stop_on_signal
from src.training.metrics_log import MetricsLog, read_metrics

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(tmp_path / "run")


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


# ---------------------------------------------------------------------------- state


def test_a_folder_without_status_is_new(run):
    assert run.status() == {"state": "new"}


def test_a_heartbeat_ends_as_done_and_keeps_the_last_values(run):
    with Heartbeat(run, total_epochs=3) as heartbeat:
        status = run.status()
        assert (status["state"], status["pid"]) == ("running", os.getpid())
        assert status["host"] == socket.gethostname()
        heartbeat.update(step=7)
    status = run.status()
    assert (status["state"], status["step"], status["total_epochs"]) == ("done", 7, 3)
    assert status["error"] is None


def test_a_heartbeat_ends_as_failed_with_the_error(run):
    with pytest.raises(UserError), Heartbeat(run):
        raise UserError("the loss was not finite at step 3")
    status = run.status()
    assert status["state"] == "failed"
    assert status["error"] == "the loss was not finite at step 3"
    with Heartbeat(run):
        assert run.status()["error"] is None  # forgotten when it is started again


def test_a_heartbeat_ends_as_stopped_on_a_signal(run):
    with pytest.raises(SystemExit) as raised, Heartbeat(run):
        raise Stopped(signal.SIGUSR1)
    assert raised.value.code == 128 + signal.SIGUSR1
    assert run.status()["state"] == "stopped"
    with pytest.raises(KeyboardInterrupt), Heartbeat(run):
        raise KeyboardInterrupt  # a second Ctrl-C
    assert (run.status()["state"], run.status()["error"]) == ("stopped", None)


def test_a_heartbeat_beats_while_the_run_is_silent(run, monkeypatch):
    monkeypatch.setattr("src.runs.folder.HEARTBEAT_SECONDS", 0.01)
    with Heartbeat(run) as heartbeat:
        first = run.status()["heartbeat"]
        heartbeat.update(step=5)
        deadline = time.monotonic() + 10
        while run.status().get("step") != 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert run.status()["step"] == 5 and run.status()["heartbeat"] > first


def test_a_running_state_of_a_dead_process_is_failed(run):
    alive = {"state": "running", "host": socket.gethostname(), "pid": os.getpid()}
    run.set_status(**alive, heartbeat=time.time())
    assert run.status()["state"] == "running"
    run.set_status(pid=dead_process())
    status = run.status()
    assert status["state"] == "failed" and "its process died" in status["error"]


def test_a_silent_process_on_another_host_is_taken_for_dead_after_a_while(run):
    run.set_status(state="running", host="elsewhere", pid=1, heartbeat=time.time())
    assert run.status()["state"] == "running"
    run.set_status(heartbeat=time.time() - DEAD_AFTER_SECONDS - 1)
    assert run.status()["state"] == "failed"


@pytest.mark.parametrize("text", ["{", "[]", '{"state": "jolly"}'])
def test_a_status_without_a_known_state_is_a_user_error(run, text):
    run.path.mkdir()
    run.status_file.write_text(text)
    with pytest.raises(UserError, match=r"status\.json"):
        run.status()


@pytest.fixture
def full_disk(monkeypatch):
    """Return a function that makes writes of status.json fail."""

    def full(path, value):
        raise write_error(path, OSError(errno.ENOSPC, "No space left on device"))

    return lambda: monkeypatch.setattr("src.runs.folder.write_json", full)


def test_a_state_that_cannot_be_written_does_not_hide_the_error_that_ended_the_run(run, full_disk):
    with pytest.raises(UserError, match="the first one"), Heartbeat(run):
        full_disk()
        raise UserError("the first one")
    assert run.status()["state"] == "running"  # until its process is over: then it has died


def test_a_run_is_not_silently_done_where_its_state_cannot_be_written(run, full_disk):
    with pytest.raises(UserError, match=r"status\.json: the disk is full"), Heartbeat(run):
        full_disk()


@pytest.fixture
def failing_train(monkeypatch):
    """Return a function that makes training fail with an error after an action."""

    def install(error: Exception, act=lambda run: None) -> None:
        def train(config, run):
            act(run)
            raise error

        monkeypatch.setattr(entrypoint, "train", train)

    return install


@pytest.mark.parametrize("error", [UserError("the first one"), RuntimeError("the first one")])
@pytest.mark.parametrize("full", [True, False])
def test_the_first_error_is_shown_and_recorded_if_possible(
    run, full_disk, failing_train, error, full
):
    def begin(run):
        run.metrics.write_text("")
        if full:
            full_disk()

    failing_train(error, begin)
    with pytest.raises(type(error), match="the first one"):
        entrypoint.main(load_config(["exp=erm", f"exp.train.log_dir={run.path}"]))
    status = run.status()
    assert (status["state"], status.get("error")) == (
        ("new", None) if full else ("failed", "the first one")
    )


def test_a_run_that_fails_before_its_first_step_leaves_no_folder(run, failing_train):
    failing_train(UserError("no data"))
    config = load_config(["exp=erm", f"exp.train.log_dir={run.path}"])
    with pytest.raises(UserError, match="no data"):
        entrypoint.main(config)
    assert not run.path.exists()
    run.path.mkdir(parents=True)
    (run.path / "job.log").write_text("a job manager was here")
    with pytest.raises(UserError, match="no data"):
        entrypoint.main(config)
    assert run.status()["state"] == "failed"


# ---------------------------------------------------------------------------- one at a time


def test_two_processes_cannot_train_in_one_folder(run):
    script = (
        "import sys\nfrom src.io import exit_on_user_error\nfrom src.runs.folder import Run\n"
        "with exit_on_user_error(), Run(sys.argv[1]).claim():\n    print('claimed')\n"
    )
    command = [sys.executable, "-c", script, str(run.path)]
    with run.claim():
        run.set_status(state="running", host="here", pid=77, heartbeat=time.time())
        second = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert second.returncode == 2
    assert "is being trained by process 77 on here: wait for it" in second.stderr
    third = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert (third.returncode, third.stdout) == (0, "claimed\n")


def test_no_process_writes_over_what_another_said(run):
    """A job's parent and child write different fields of one file, at any moment."""
    script = (
        "import sys\nfrom src.runs.folder import Run\nrun = Run(sys.argv[1])\n"
        "for step in range(100):\n    run.set_status(**{f'{sys.argv[2]}-{step}': step})\n"
    )
    command = [sys.executable, "-c", script, str(run.path)]
    writers = [subprocess.Popen([*command, name], cwd=REPOSITORY) for name in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(read_json(run.status_file)) == 200


def test_a_state_is_written_although_another_holds_the_file_for_long(run, monkeypatch):
    """A signal handler may write during a write; with a lock it would wait for itself."""
    inner, write = [], runs.write_json

    def interrupted(path, value):
        if not inner:
            inner.append(value)
            run.set_status(state="queued")
        write(path, value)

    monkeypatch.setattr(runs, "write_json", interrupted)
    start = time.monotonic()
    run.set_status(state="running", step=1)
    assert time.monotonic() - start < 10
    assert run.status()["step"] == 1


# ---------------------------------------------------------------------------- signals


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2"])
def test_a_signal_asks_to_stop_and_the_handlers_are_put_back(name):
    number = signal.Signals[name]
    before = signal.getsignal(number)
    with stop_on_signal() as stop:
        assert stop() is None
        os.kill(os.getpid(), number)
        assert stop() == number
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop() == number  # the first one counts
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_ends_at_once():
    with pytest.raises(KeyboardInterrupt), stop_on_signal():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


# ---------------------------------------------------------------------------- metrics.jsonl


def lines(run: Run) -> list[dict]:
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


def test_metrics_are_one_json_object_a_line(run):
    log = MetricsLog(run, 0, 0)
    log.write(10, 1, **{"train/loss": 0.5, "val/Young/g3_acc": None})
    with pytest.raises(ValueError):
        log.write(11, 1, **{"train/loss": float("nan")})
    log.close()
    assert lines(run) == [{"step": 10, "epoch": 1, "train/loss": 0.5, "val/Young/g3_acc": None}]


def test_a_line_of_the_log_that_is_no_record_is_left_out(run):
    run.path.mkdir()
    sound = '{"step": 1, "epoch": 1, "train/loss": 0.5}\n'
    odd = '{"step": 2, "epo\n[]\n{"step": 3}\n\n'
    run.metrics.write_text(sound + odd)
    assert read_metrics(run) == [{"step": 1, "epoch": 1, "train/loss": 0.5}]


def test_what_was_logged_after_the_checkpoint_is_dropped(run):
    log = MetricsLog(run, 0, 0)
    for step, epoch in ((1, 1), (2, 1), (3, 2), (4, 2)):
        log.write(step, epoch, **{"train/loss": 1.0})
        if step % 2 == 0:
            log.write(step, epoch, **{"val/Young/loss": 1.0})
    log.close()
    with run.metrics.open("a") as file:
        file.write('{"step": 5, "ep')  # a killed process
    # Step 4 is in the checkpoint, but epoch 2 has not been validated there.
    MetricsLog(run, 4, 1).close()
    assert [(line["step"], "val/Young/loss" in line) for line in lines(run)] == [
        (1, False),
        (2, False),
        (2, True),
        (3, False),
        (4, False),
    ]
    MetricsLog(run, 2, 0).close()
    assert [(line["step"], "val/Young/loss" in line) for line in lines(run)] == [
        (1, False),
        (2, False),
    ]


def test_the_same_numbers_go_to_tensorboard(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = MetricsLog(run, 0, 0, ["tensorboard"])
    log.write(10, 1, **{"train/loss": 0.5, "val/Young/g3_acc": None})
    log.close()
    events = EventAccumulator(str(run.path)).Reload()
    assert events.Tags()["scalars"] == ["train/loss"]
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(10, 0.5)]
