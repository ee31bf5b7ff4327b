"""JTT as a graph of stages: processes, the error set between them, stopped anywhere."""

import contextlib
import csv
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import train as entrypoint
from src.api import open_run
from src.config.compose import load_config, load_saved_config, stage_config
from src.config.dataset import dataset_options
from src.config.saved import effective
from src.data.celeba import load_annotations
from src.data.dataset import open_dataset
from src.data.groupings import COLUMN, parse_groupings
from src.evaluation.logits import load_logits, rows_identity
from src.io import UserError, exclusive, read_json
from src.methods.found_groups import GroupLabels
from src.methods.jtt import load_error_set, save_error_set
from src.runs.folder import Run
from src.runs.process import run_child
from src.runs.signals import Stopped
from tests.conftest import entrypoint_process
from tests.tiny_training import outcome

pytestmark = pytest.mark.slow

TASKS = ["Young", "Bald"]


@pytest.fixture(scope="module")
def overrides(tiny_overrides) -> list[str]:
    return [
        "exp=jtt",
        *tiny_overrides,
        "exp.groupings=[Young:Male,Bald:Male]",
        "exp.lambda_up=4",
        "exp.lr=0.001",
        "exp.dataloader.batch_size=16",
        "exp.train.log_every_n_steps=1",
    ]


@pytest.fixture(scope="module")
def one_thread():
    with pytest.MonkeyPatch.context() as patches:
        patches.setenv("OMP_NUM_THREADS", "1")
        yield


def train(overrides: list[str], folder: Path, *more: str) -> Run:
    entrypoint.main(load_config([*overrides, f"exp.train.log_dir={folder}", *more]))
    return Run(folder)


def read_error_set(run: Run, rows):
    identity = rows_identity(rows.names, rows.codes)
    return load_error_set(run.path / "error_set.npz", rows.names, TASKS, identity)


@pytest.fixture(scope="module")
def run(overrides, one_thread, tmp_path_factory) -> Run:
    return train(overrides, tmp_path_factory.mktemp("logs") / "jtt")


# ---------------------------------------------------------------------------- a whole run


def test_both_stages_and_the_run_are_done_and_saved_as_they_ran(run, overrides):
    first, second = Run(run.path / "stage_1"), Run(run.path / "stage_2")
    assert [r.status()["state"] for r in (run, first, second)] == ["done"] * 3
    saved = load_saved_config(run.config)
    error_set = {"error_set": str(run.path / "error_set.npz")}
    expected = stage_config(saved, "stage_2", dataloader=error_set)
    assert effective(load_saved_config(second.config)) == effective(expected)
    loader = load_saved_config(first.config).dataloader
    assert (loader.error_set, loader.lambda_up) == (None, 1)
    second_config = load_saved_config(second.config)
    assert second_config.dataloader.lambda_up == 4
    assert second_config.dataset.groupings == ["Young:Male", "Bald:Male"]


def test_the_error_set_is_what_the_last_model_of_stage_1_misclassifies(run, tiny_celeba, tmp_path):
    rows = load_annotations(tiny_celeba, tmp_path).of_split("train")
    logits = load_logits(run.path / "stage_1" / "results" / "train_logits_1.npz")
    labels = rows.codes[:, [COLUMN[task] for task in TASKS]]
    errors, losses = read_error_set(run, rows)
    np.testing.assert_array_equal(errors, (logits.values > 0) != (labels == 1))
    assert 0 < errors.sum() < errors.size
    stats = read_json(run.path / "stage_1" / "results" / "val_stats_1.json")
    assert losses.tolist() == [stats[f"{task}:Male"]["loss"] for task in TASKS]
    with (run.path / "error_set.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 8  # two tasks, four groups
    for column, task in enumerate(TASKS):
        own = [row for row in table if row["grouping"] == f"{task}:Male"]
        assert sum(int(row["errors"]) for row in own) == errors[:, column].sum()
        assert sum(int(row["total"]) for row in own) == 64


def test_stage_2_sees_errors_lambda_times_and_begins_from_a_fresh_network(
    run, tiny_celeba, tmp_path
):
    rows = load_annotations(tiny_celeba, tmp_path).of_split("train")
    wrong = read_error_set(run, rows)[0].sum(axis=1)
    # inv, lambda 4: one task wrong gives 1 + 3 = 4, both give 1 + round(1.5) = 3 (half to even).
    examples = int(np.array([1, 4, 3])[wrong].sum())
    steps = -(-examples // 16) - (examples % 16 == 1)
    assert Run(run.path / "stage_2").status()["step"] == steps
    assert Run(run.path / "stage_1").status()["step"] == 4


def test_the_result_of_a_jtt_run_is_its_stage_2(run, tmp_path):
    assert open_run(run.path).path == run.path / "stage_2"
    shutil.copytree(run.path, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "stage_2")
    with pytest.raises(UserError, match=r"stage 2 has not begun; --log_dir .*stage_1"):
        open_run(tmp_path / "run")


def test_the_same_command_again_says_that_the_run_is_done(run, overrides, capsys, monkeypatch):
    monkeypatch.setattr(entrypoint, "train", lambda *args: 1 / 0)
    train(overrides, run.path)
    assert f"{run.path} is done already" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"exp.dataloader.lambda_up: 4.0 there, 5.0 now"):
        train(overrides, run.path, "exp.lambda_up=5")


def test_a_finished_run_can_be_the_first_stage(run, overrides, tmp_path):
    first = run.path / "stage_1"
    reused = train(overrides, tmp_path / "jtt", f"exp.stage_1.run={first}")
    assert not (reused.path / "stage_1").exists()
    assert weights(reused) == weights(run)


def test_a_first_stage_of_other_tasks_is_refused(run, overrides, tmp_path):
    with pytest.raises(UserError, match=r"exp.stage_1.run=.*its dataset.groupings is"):
        train(
            overrides,
            tmp_path / "jtt",
            f"exp.stage_1.run={run.path / 'stage_1'}",
            "exp.groupings=[Young:Male]",
        )


# ---------------------------------------------------------------------------- child processes


class Silent:
    def update(self, **fields):
        pass


def test_a_stage_that_fails_fails_the_run_and_names_its_folder(tmp_path):
    with pytest.raises(UserError, match="failed with exit code 3"):
        run_child(["sh", "-c", "exit 3"], Run(tmp_path), Silent(), lambda: None)


def test_a_signal_is_passed_on_and_the_run_stops(tmp_path):
    before = time.monotonic()
    with pytest.raises(Stopped) as raised:
        run_child(["sleep", "60"], Run(tmp_path), Silent(), lambda: signal.SIGUSR1)
    assert raised.value.code == 128 + signal.SIGUSR1
    assert time.monotonic() - before < 30


def test_a_stage_does_not_train_on_when_its_run_ends_with_an_error(tmp_path):
    """The child says that it trains, writes a status that is none, and would go on for a minute."""
    script = f"echo $$ > {tmp_path}/pid; echo rubbish > {tmp_path}/status.json; exec sleep 60"
    with pytest.raises(UserError, match=r"status\.json cannot be used"):
        run_child(["sh", "-c", script], Run(tmp_path), Silent(), lambda: None)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_stage_that_a_killed_run_left_behind_ends_first_and_waiting_can_be_stopped(
    tmp_path, capfd
):
    # A lock of another open file is as foreign as one of another process.
    with exclusive(tmp_path / ".lock"):
        with pytest.raises(Stopped):
            run_child(["touch", str(tmp_path / "ran")], Run(tmp_path), Silent(), lambda: 15)
        assert not (tmp_path / "ran").exists()
    assert f"waiting for the process that trains {tmp_path}" in capfd.readouterr().out
    with contextlib.ExitStack() as stack:
        stack.enter_context(exclusive(tmp_path / ".lock"))
        timer = threading.Timer(0.3, stack.pop_all().close)
        timer.start()
        run_child(["touch", str(tmp_path / "ran")], Run(tmp_path), Silent(), lambda: None)
    assert (tmp_path / "ran").exists()


# ---------------------------------------------------------------------------- without stage 1


def test_a_loaded_error_set_skips_stage_1_and_gives_the_same_second_network(
    run, overrides, one_thread, tmp_path
):
    loaded = train(overrides, tmp_path / "jtt", f"exp.load_error_set={run.path / 'error_set.npz'}")
    assert not (loaded.path / "stage_1").exists()
    assert weights(loaded) == weights(run)


def test_an_error_set_without_errors_is_said_to_be_erm(
    tiny_overrides, tiny_celeba, tmp_path, capsys
):
    rows = load_annotations(tiny_celeba, tmp_path).of_split("train")
    path, data = tmp_path / "set.npz", rows_identity(rows.names, rows.codes)
    save_error_set(path, rows.names, ["Young"], np.zeros((64, 1), bool), np.ones(1), data)
    own = ["exp.groupings=[Young:Male]", f"exp.load_error_set={path}"]
    config = load_config([*tiny_overrides, *own])
    dataset = open_dataset(**dataset_options(config.dataset), workers=1)
    entrypoint.index_plan(config, GroupLabels(dataset, parse_groupings(["Young:Male"])))
    assert "set.npz holds no error, so this is plain ERM" in capsys.readouterr().out


def weights(run: Run) -> dict:
    return outcome(run.path / "stage_2")["state"]["model"]


def test_an_error_set_that_is_not_there_ends_with_2(overrides, run_entrypoint, tmp_path):
    code, output = run_entrypoint(
        "train.py",
        *overrides,
        f"exp.train.log_dir={tmp_path / 'jtt'}",
        "exp.load_error_set=nowhere.npz",
    )
    assert code == 2 and "Traceback" not in output
    assert "error set nowhere.npz is missing" in output
    assert not (tmp_path / "jtt" / "ckpts").exists()


# ---------------------------------------------------------------------------- interruptions


def reached(folder: Path, place: str) -> bool:
    if place == "between":
        return (folder / "error_set.npz").exists() and not (folder / "stage_2").exists()
    metrics = folder / place / "metrics.jsonl"
    return metrics.exists() and '"step": 2,' in metrics.read_text()


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("stage_1", "SIGTERM"),
        ("between", "SIGTERM"),
        ("stage_2", "SIGUSR1"),
        ("stage_2", "SIGKILL"),
    ],
)
def test_a_run_stopped_in_a_stage_goes_on_there_to_the_same_result(
    run, overrides, tmp_path, place, name
):
    number, folder = signal.Signals[name], tmp_path / "jtt"
    command = ["train_jtt.py", *overrides, f"exp.train.log_dir={folder}"]
    process = entrypoint_process(*command)
    deadline = time.monotonic() + 180
    while not reached(folder, place) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    if name == "SIGKILL":
        assert process.returncode == -number
    elif process.returncode != 0:  # 0: the stage was over before the signal came
        assert process.returncode == 128 + number, output
        assert Run(folder).status()["state"] == "stopped"
    error_set = folder / "error_set.npz"
    made = error_set.stat().st_mtime_ns if error_set.exists() else None
    assert (made is None) == (place == "stage_1")
    again = entrypoint_process(*command)
    output, _ = again.communicate(timeout=180)
    assert again.returncode == 0, output
    if made is not None:
        assert error_set.stat().st_mtime_ns == made and "stage 1:" not in output
    assert Run(folder).status()["state"] == "done"
    for stage in ("stage_1", "stage_2"):
        assert outcome(folder / stage) == outcome(run.path / stage)
