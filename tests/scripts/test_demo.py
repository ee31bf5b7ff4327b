import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from scripts import demo
from scripts.demo_report import (
    GROUPING,
    GROUPS,
    Outcome,
    accuracies,
    choose_faces,
    flat,
    summary_row,
)
from src.config.compose import load_config
from src.evaluation.metrics import summarise
from src.io import UserError, write_json
from src.runs.folder import Run

TINY = ["--num_train=300", "--num_val=200", "--num_test=300", "--epochs=1"]


@pytest.mark.parametrize("method", demo.METHODS, ids=lambda method: method.name)
def test_the_configuration_of_every_method_is_valid_and_differs_only_where_it_must(method):
    config = load_config(demo.overrides(method, demo.parse([])))
    assert config.name == method.exp
    assert config.dataset.groupings == [GROUPING.name]
    assert config.dataset.synthetic.num_train == demo.NUM_TRAIN
    assert config.train.total_epochs == method.epochs
    assert config.optimizer.schedule == "cosine" and config.seed == 0


def test_only_the_first_network_of_jtt_is_stopped_early():
    config = load_config(demo.overrides(demo.METHODS[3], demo.parse([])))
    assert config.stage_1.train["max_steps"] == 40 and config.train.max_steps is None
    assert config.dataloader.lambda_up == 10


def test_group_names_stand_in_the_order_of_the_group_ids():
    spelled = {
        "Blond_Hair=0": "non-blond",
        "Blond_Hair=1": "blond",
        "Male=0": "women",
        "Male=1": "men",
    }
    expected = [" ".join(spelled[part] for part in name.split()) for name in GROUPING.group_names]
    assert list(GROUPS) == expected


def test_runs_of_other_sizes_lie_in_other_folders():
    erm = demo.METHODS[0]
    assert demo.run_folder(erm, demo.parse([])) == demo.run_folder(erm, demo.parse([]))
    assert demo.run_folder(erm, demo.parse([])) != demo.run_folder(erm, demo.parse(TINY))


# ------------------------------------------------------------------------- progress


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(demo.time, "monotonic", lambda: now[0])
    return now


def test_time_left_is_the_table_times_the_slowness_so_far(clock, capsys):
    pace = demo.Pace({"draw": 60, "ERM": 120, "RWG": 180})
    assert pace.left("draw") == 360
    with pace.phase("draw"):
        clock[0] += 90  # half as fast as in the table
    assert pace.left("ERM") == 450
    with pace.phase("ERM"):
        clock[0] += 180
    assert capsys.readouterr().out.splitlines() == [
        *("", "[1/3] draw: about 6 min to the end"),
        *("", "[2/3] ERM: about 8 min to the end"),
    ]


def test_a_phase_that_was_done_before_does_not_make_the_machine_look_fast(clock):
    pace = demo.Pace({"draw": 60, "ERM": 120})
    with pace.phase("draw"):
        clock[0] += 0.5
    assert pace.left("ERM") == 120


def test_seconds_are_said_in_minutes():
    assert demo.minutes(59) == "less than a minute"
    assert demo.minutes(420) == "about 7 min"


# ------------------------------------------------------------------------- commands


def test_a_command_is_printed_as_it_can_be_copied(capfd):
    demo.run_command(["test.py", "--help"])
    line = capfd.readouterr().out.splitlines()[0]
    assert line.startswith("$ ") and line.endswith("test.py --help")
    copied = subprocess.run(["bash", "-c", line[2:]], capture_output=True, text=True, check=True)
    assert copied.stdout.startswith("usage: test.py")


def test_a_command_that_fails_ends_the_demo_with_its_name():
    with pytest.raises(UserError, match=r"^train_erm.py ended with exit code 2, see above"):
        demo.run_command(["train_erm.py", "exp=emr"])


def make_tested_run(folder: Path) -> Run:
    run = Run(folder)
    run.set_status(state="done")
    write_json(run.val_stats, {"epochs": {"2": {demo.RULE: 0.5}}, "selected": {demo.RULE: 2}})
    write_json(run.epoch_stats(2), checkpoint_hash("abc"))
    write_json(run.stats("test", demo.RULE), checkpoint_hash("abc"))
    return run


def checkpoint_hash(text: str) -> dict:
    """An evaluation JSON without figures."""
    return {"checkpoint": {"name": "2", "epoch": 2, "hash": text}, "split": "test"}


def test_a_run_is_tested_once_it_is_done_and_its_chosen_checkpoint_was_measured(tmp_path):
    run = make_tested_run(tmp_path)
    assert demo.is_tested(tmp_path)
    run.set_status(state="stopped")
    assert not demo.is_tested(tmp_path)


def test_a_run_whose_choice_changed_after_the_test_is_tested_again(tmp_path):
    run = make_tested_run(tmp_path)
    write_json(run.stats("test", demo.RULE), checkpoint_hash("of an earlier epoch"))
    assert not demo.is_tested(tmp_path)


def test_the_result_of_jtt_is_its_second_stage(tmp_path):
    assert demo.result_run(tmp_path).path == tmp_path
    (tmp_path / "stage_2").mkdir()
    assert demo.result_run(tmp_path).path == tmp_path / "stage_2"


# ------------------------------------------------------------------------- report


def outcome(correct, total) -> Outcome:
    test = summarise(GROUPING, np.array(correct), np.array(total), 0.1)
    return Outcome("ERM", Run("logs/demo/x/erm"), test, 3, accuracies([test["groups"]]))


def test_a_row_of_the_summary_has_average_and_worst_group_with_intervals_and_sizes():
    row = summary_row(outcome([90, 95, 45, 2], [100, 100, 50, 5]))
    assert row["average"]["acc"] == 232 / 255 and row["average"]["n"] == 255
    # Wilson 95 % of 232/255: centre (232 + 1.9207) / (255 + 3.8415) = 0.90372, half width 0.03543.
    assert row["average"]["low"] == pytest.approx(0.8683, abs=1e-4)
    assert row["average"]["high"] == pytest.approx(0.9391, abs=1e-4)
    assert (row["worst_group"]["name"], row["worst_group"]["acc"]) == ("blond men", 0.4)
    assert row["worst_group"]["n"] == 5
    line = flat([row]).iloc[0]
    assert line["worst_group_name"] == "blond men" and line["g2_acc"] == 0.9


def test_a_group_without_examples_is_nan_in_arrays_and_null_in_the_summary():
    empty = outcome([90, 95, 45, 0], [100, 100, 50, 0])
    assert np.isnan(empty.curve.value[0, 3])
    assert json.loads(json.dumps(summary_row(empty)))["groups"][3]["acc"] is None


def test_faces_are_a_sample_of_each_group_in_the_order_of_their_logits():
    groups = np.array([0, 0, 1, 3] * 20 + [2])
    values = np.random.default_rng(1).normal(size=81)
    chosen = choose_faces(groups, values)
    assert [len(places) for places in chosen] == [12, 12, 1, 12]
    for group, places in enumerate(chosen):
        assert (groups[places] == group).all() and len(set(places)) == len(places)
        assert (np.diff(values[places]) >= 0).all()


# ------------------------------------------------------------------------- the whole


def start(folder: Path, **kwargs) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(demo.ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "scripts.demo", *TINY],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **kwargs,
    )


@pytest.mark.slow
def test_the_demo_stops_goes_on_and_does_nothing_twice(tmp_path):
    stopped = start(tmp_path)
    while not list(tmp_path.glob("logs/demo/*/erm/status.json")):
        assert stopped.poll() is None
        time.sleep(0.1)
    stopped.send_signal(signal.SIGTERM)
    output, _ = stopped.communicate(timeout=300)
    assert stopped.returncode == 128 + signal.SIGTERM
    assert output.endswith("stopped; the same command goes on from here\n")

    whole = start(tmp_path)
    output, _ = whole.communicate(timeout=600)
    assert whole.returncode == 0, output[-2000:]
    out = tmp_path / demo.OUT
    names = ["accuracy_per_group.png", "erm_mistakes.png", "learning_curves.png"]
    assert sorted(path.name for path in out.iterdir()) == [*names, "summary.csv", "summary.json"]
    summary = json.loads((out / "summary.json").read_text())
    assert [row["method"] for row in summary["methods"]] == ["ERM", "RWG", "SUBG", "JTT"]
    assert all(row["average"]["n"] == 300 for row in summary["methods"])
    with (out / "summary.csv").open() as file:
        assert [row["average_n"] for row in csv.DictReader(file)] == ["300"] * 4

    def trained() -> dict[str, int]:
        files = tmp_path.glob("logs/demo/**/*.*")
        return {str(path): path.stat().st_mtime_ns for path in files if path.is_file()}

    before = trained()
    again = start(tmp_path)
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0 and output.count("is done already") == 4
    assert trained() == before
