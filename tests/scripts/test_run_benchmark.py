"""scripts.run_benchmark: what it starts, how it goes on, and what it says about known runs."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from scripts import run_benchmark
from scripts.job_manager import JobManager
from scripts.run_benchmark import Benchmark, Settings
from src.config.compose import load_config
from src.runs.folder import Run
from tests.conftest import REPOSITORY
from tests.report_folders import four_groups, write_data, write_run

TASK = "Blond_Hair:Male"
# Validation of setting 0 to 3: right images of 10 in g0 to g3, after two epochs. The worst group
# chooses setting 2 (6 after epoch 2); the average and the worst class choose setting 1.
VALIDATION = (
    ((9, 9, 9, 0), (9, 9, 9, 1)),
    ((10, 10, 10, 4), (10, 10, 10, 5)),
    ((7, 7, 7, 5), (7, 7, 7, 6)),
    ((8, 8, 2, 2), (8, 8, 2, 2)),
)


@pytest.fixture
def started(monkeypatch) -> list[str]:
    """The commands of the jobs; nothing is started."""
    commands = []
    monkeypatch.setattr(
        JobManager, "run", lambda _, jobs: commands.extend(" ".join(job.argv) for job in jobs)
    )
    return commands


def test_all_methods_try_the_same_learning_rates(tmp_path):
    plan = Benchmark(["erm", "group_dro"], TASK, budget=6, seeds=2, log_dir=tmp_path)
    erm, dro = ([plan.values(method, n) for n in range(6)] for method in plan.methods)
    lrs = [values["exp.optimizer.lr"] for values in erm]
    assert len(set(lrs)) == 6 and 1e-5 <= min(lrs) < 1e-4 < 1e-3 < max(lrs) <= 1e-2
    assert [values.items() >= other.items() for values, other in zip(dro, erm)] == [True] * 6
    assert all(1e-3 <= values["exp.objective.dro.eta"] <= 1e-1 for values in dro)
    # A larger budget adds settings and changes none.
    more = Benchmark(["erm"], TASK, budget=8, seeds=2, log_dir=tmp_path)
    assert [more.values("erm", n) for n in range(6)] == erm


def test_settings_files_fix_keys_and_change_ranges(tmp_path):
    settings = Settings(
        methods={"rwg": ["exp.optimizer.weight_decay=0.5"]},
        ranges={"exp.optimizer.lr": (0.1, 0.2)},
    )
    plan = Benchmark(["rwg"], TASK, 4, 1, tmp_path, ["exp.train.total_epochs=3"], settings)
    values = [plan.values("rwg", n) for n in range(4)]
    assert {v["exp.optimizer.weight_decay"] for v in values} == {0.5}
    assert all(0.1 <= v["exp.optimizer.lr"] <= 0.2 for v in values)
    assert plan.job("rwg", 0, 0).argv.count("exp.train.total_epochs=3") == 1


def test_heads_use_the_erm_run_of_their_setting(tmp_path):
    plan = Benchmark(["erm", "dfr"], TASK, 2, 1, tmp_path)
    for setting, seed in ((0, 0), (1, 3)):
        run = plan.job("erm", setting, seed).run_dir
        argv = plan.job("dfr", setting, seed).argv
        assert f"exp.stage_1.run={run}" in argv and "exp.dfr.refit=half" in argv


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--methods erm,rwq", "--methods rwq: there is no such name: did you mean 'rw"),
        ("--budget 0", "--budget: 0: use 1 or more"),
        ("--task Blond_Hair", "--task Blond_Hair: use one task with its attribute"),
        ("--retrain_rules best", "--retrain_rules best: there is no such name"),
    ],
)
def test_wrong_arguments_are_refused(argv, message, capsys):
    with pytest.raises(SystemExit):
        run_benchmark.main(argv.split())
    assert message in capsys.readouterr().err


def test_finished_runs_become_a_ranking(tmp_path, started, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sizes = {split: four_groups("Blond_Hair", "Male") for split in ("val", "test")}
    data = write_data(tmp_path / "data", sizes)
    argv = ["--methods", "erm,rwg", "--budget", "4", "--seeds", "2", "--mode", "shell"]
    argv += ["--task", TASK]
    plan = Benchmark(["erm", "rwg"], TASK, 4, 2, tmp_path / "logs", ["exp/dataset=celeba"])

    def finish(method, setting, seed, test):
        folder = plan.job(method, setting, seed).run_dir
        val = [{TASK: counts} for counts in VALIDATION[setting]]
        right = {"val": val, "test": [{TASK: (9, 9, 9, test - 1)}, {TASK: (9, 9, 9, test)}]}
        write_run(folder, data, [TASK], right, f"exp={method}", seed=seed)

    argv += ["--log_dir", str(tmp_path / "logs"), "--out_dir", "out", "--device", "cpu"]
    run_benchmark.main(argv)
    assert len(started) == 8 and "the next step needs these runs" in capsys.readouterr().err
    for setting in range(4):
        finish("erm", setting, 0, test=2)
        finish("rwg", setting, 0, test=3 + setting)
    started.clear()
    run_benchmark.main(argv)
    assert len(started) == 4 and all("exp.seed=" in command for command in started)
    for seed in (1, 2):
        finish("erm", 2, seed, test=2)
        finish("rwg", 2, seed, test=7)
    started.clear()
    assert run_benchmark.main(argv) == 0 and not started  # nothing is trained twice

    best, other = json.loads((tmp_path / "out/benchmark.json").read_text())["methods"]
    assert (best["method"], other["method"]) == ("rwg", "erm")
    assert best["worst_group"]["values"] == [0.7, 0.7] and best["epochs"] == [2, 2]
    assert best["minus_erm"]["worst_group"]["difference"] == pytest.approx(0.5)
    assert best["rank"]["best"] > 0.9 and best["rank"]["best"] + other["rank"]["best"] == 1
    assert [found["worst_group"] for found in best["search"]] == [0.3, 0.4, 0.5, 0.5]
    settings = {rule: found["setting"] for rule, found in best["rules"].items()}
    assert settings == {"best-group": 2, "best-avg": 1, "best-class": 1, "last": 2}
    table = pd.read_csv(tmp_path / "out/benchmark.csv")
    assert table["rules_best-avg_worst_group"].tolist() == [0.4, 0.2]
    assert "minus ERM" in (tmp_path / "out/index.html").read_text()
    assert r"class\_" not in (tmp_path / "out/benchmark.tex").read_text()


@pytest.mark.slow
def test_a_killed_benchmark_goes_on_to_the_same_numbers(tmp_path, tiny_overrides):
    def command(name):
        argv = ["--methods", "erm,dfr", "--budget", "1", "--seeds", "2", "--mode", "shell"]
        folders = {"--log_dir": tmp_path / name, "--out_dir": tmp_path / f"{name}-out"}
        argv += [str(part) for pair in folders.items() for part in pair]
        return [sys.executable, "-m", "scripts.run_benchmark", *argv, "--", *tiny_overrides]

    def numbers(name):
        result = json.loads((tmp_path / f"{name}-out/benchmark.json").read_text())
        keys = ("method", "average", "worst_group", "rank", "search", "rules")
        text = json.dumps([{key: entry[key] for key in keys} for entry in result["methods"]])
        return text.replace(str(tmp_path / name), "")

    subprocess.run(command("whole"), cwd=REPOSITORY, check=True)
    process = subprocess.Popen(command("killed"), cwd=REPOSITORY, start_new_session=True)
    while len(list(tmp_path.glob("killed/**/ckpts/ckpt.last.pt"))) < 2:
        assert process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = [path for path in tmp_path.glob("killed/*/*/*/status.json")
            if Run(path.parent).status()["state"] == "done"]  # fmt: skip
    times = {path: path.stat().st_mtime_ns for path in done}
    assert done and len(done) < 6
    subprocess.run(command("killed"), cwd=REPOSITORY, check=True)
    assert all(path.stat().st_mtime_ns == times[path] for path in done)
    assert numbers("killed") == numbers("whole")
    assert np.isfinite(pd.read_csv(tmp_path / "killed-out/benchmark.csv")["rank_best"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["celeba_full", "waterbirds"])
def test_commands_of_the_full_recipes_are_valid(recipe):
    environment = os.environ | {"PYTHON": "echo", "SEEDS": "0"}
    command = ["recipes/" + recipe + ".sh"]
    printed = subprocess.run(
        command, cwd=REPOSITORY, env=environment, check=True, text=True, stdout=subprocess.PIPE
    ).stdout.splitlines()
    lines = [line.split()[1:] for line in printed if line.startswith("train.py ")]
    assert len(lines) > 16
    names = {load_config(line).name for line in lines}
    assert len(names) == len(lines)
