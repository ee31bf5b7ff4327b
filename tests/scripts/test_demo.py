"""The demo: its recipe, and the report that compares its runs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.demo_report import main
from src.config.compose import load_config
from tests.report_folders import four_groups, write_data, write_run

RECIPE = Path(__file__).parents[2] / "recipes" / "demo.sh"
METHODS = ["ERM", "RWG", "group DRO", "DFR"]
TINY = [f"exp.dataset.synthetic.num_{split}=300" for split in ("train", "val", "test")]
TINY += ["exp.train.total_epochs=1"]
BLOND = "Blond_Hair:Male"


def test_the_recipe_trains_four_methods(tmp_path):
    """A stub of Python prints the commands; each configuration must be valid."""
    stub = tmp_path / "python"
    stub.write_text("#!/bin/sh\nprintf '\\n--' && printf '%s\\t' \"$@\"\n")
    stub.chmod(0o755)
    environment = os.environ | {"PYTHON": str(stub), "LOGS": str(tmp_path / "a b")}
    done = subprocess.run([RECIPE], env=environment, capture_output=True, text=True, check=True)
    commands = [line[2:].split("\t")[:-1] for line in done.stdout.splitlines() if line[:2] == "--"]
    configs = [load_config(command[1:]) for command in commands if command[0] == "train.py"]
    assert [config.name for config in configs] == ["erm", "rwg", "group_dro", "dfr"]
    assert {config.model.name for config in configs} == {"shufflenet_v2_x0_5"}
    assert {tuple(config.dataset.groupings) for config in configs} == {(BLOND,)}
    folders = [f"{tmp_path}/a b/{name.replace(' ', '_')}" for name in METHODS]
    assert [config.train.log_dir for config in configs] == folders
    assert configs[-1].stage_1.run == folders[0]  # DFR uses the features of ERM
    tested = [command[2] for command in commands if command[0] == "test.py"]
    assert tested == folders
    runs = [f"{name}={folder}" for name, folder in zip(METHODS, folders)]
    assert commands[-1][-4:] == runs


def test_the_report_says_accuracies_intervals_and_sizes(tmp_path, capsys, monkeypatch):
    sizes = {split: four_groups("Blond_Hair", "Male", 5) for split in ("val", "test")}
    data = write_data(tmp_path / "data", sizes)
    right = {"ERM": (5, 5, 4, 1), "RWG": (5, 5, 4, 4)}
    for name, counts in right.items():
        epoch = {BLOND: counts}
        write_run(tmp_path / name, data, [BLOND], {split: [epoch] for split in sizes})
    monkeypatch.setattr("scripts.demo_report.draw", lambda *args: None)  # there are no images
    out = tmp_path / "out"
    main(["--out", str(out), *(f"{name}={tmp_path / name}" for name in right)])
    rows = json.loads((out / "summary.json").read_text())["methods"]
    assert [row["average"]["acc"] for row in rows] == [15 / 20, 18 / 20]
    # Wilson 95 % of 15/20: centre (15 + 1.9207) / 23.8415 = 0.70972, half width 0.17841.
    assert rows[0]["average"]["low"] == pytest.approx(0.5313, abs=1e-4)
    assert rows[0]["worst_group"]["name"] == "Blond_Hair=1 Male=1"
    assert (rows[0]["worst_group"]["acc"], rows[0]["worst_group"]["total"]) == (0.2, 5)
    assert "75.0 (53.1-88.8)" in capsys.readouterr().out


def test_runs_without_a_name_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path)])
    assert stop.value.code == 2 and "give runs as NAME=RUN" in capsys.readouterr().err


@pytest.mark.slow
def test_the_demo_resumes_and_repeats_nothing(tmp_path):
    def start() -> subprocess.Popen:
        places = {"LOGS": str(tmp_path / "logs"), "OUT": str(tmp_path / "out")}
        return subprocess.Popen(
            [RECIPE, *TINY, f"exp.dataset.root={tmp_path}/data"],
            env=os.environ | places | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    stopped = start()
    while not (tmp_path / "logs" / "ERM" / "status.json").exists():
        assert stopped.poll() is None
        time.sleep(0.1)
    os.killpg(stopped.pid, signal.SIGINT)
    stopped.communicate(timeout=300)
    assert stopped.returncode != 0

    whole = start()
    output, _ = whole.communicate(timeout=600)
    assert whole.returncode == 0, output[-2000:]
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    figures = ["accuracy_per_group.png", "erm_mistakes.png", "learning_curves.png"]
    assert files == [*figures, "summary.json"]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [row["method"] for row in summary["methods"]] == METHODS

    def trained() -> dict[str, int]:
        files = [*(tmp_path / "logs").rglob("*.pt"), *(tmp_path / "logs").rglob("*.npz")]
        return {str(path): path.stat().st_mtime_ns for path in files}

    before = trained()
    again = start()
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0 and output.count("is done already") == 4
    assert trained() == before
