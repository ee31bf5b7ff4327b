"""scripts.run_cross: which runs it starts, what it refuses, and its report."""

from argparse import Namespace

import pandas as pd
import pytest

from scripts import run_cross
from scripts.job_manager import JobManager
from tests.report_folders import four_groups, write_data, write_run


@pytest.fixture
def commands(monkeypatch) -> list[list[str]]:
    """The commands of the jobs; nothing is started."""
    started = []
    monkeypatch.setattr(JobManager, "run", lambda _, jobs: started.extend(j.argv for j in jobs))
    return started


def test_each_pair_and_each_task_alone_is_a_run(commands):
    run_cross.main(["--methods", "rwg", "--weightings", "static,lbtw,upgrad", "--seeds", "1"])
    assert len(commands) == 5 + 3 * 3  # 5 tasks alone, 3 lists of 2 tasks with 3 weightings
    assert len({command[-1] for command in commands}) == len(commands)  # run folders
    text = [" ".join(command) for command in commands]
    assert sum("exp.objective.gradient=upgrad" in line for line in text) == 3
    assert sum("exp.objective.across=lbtw" in line for line in text) == 3
    assert all("/cross/rwg/" in line and "exp=rwg" in line for line in text)


def test_other_settings_and_tasks_can_be_given(commands):
    argv = "--methods erm --weightings static --tasks Bald:Male,Young:Male --seeds 0"
    run_cross.main([*argv.split(), "--", "exp.optimizer.lr=0.02"])
    assert len(commands) == 3
    assert all("exp.optimizer.lr=0.02" in command for command in commands)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--methods erm,rwq", "--methods rwq: there is no such name: did you mean 'rw"),
        ("--weightings famos", "--weightings famos: there is no such name: did you mean 'famo'?"),
    ],
)
def test_unknown_names_and_contradictions_are_refused(argv, message, capsys):
    with pytest.raises(SystemExit):
        run_cross.main(argv.split())
    assert message in capsys.readouterr().err


def test_pairs_that_do_not_go_together_are_named(capsys, tmp_path):
    with pytest.raises(SystemExit):
        run_cross.main(f"--methods cnc --weightings uw --log_dir {tmp_path}".split())
    assert "exp=cnc takes objective.task=mean and" in capsys.readouterr().err


def test_finished_runs_are_reported_in_one_page(tmp_path, capsys):
    pair = ["Young:Male", "Male:Young"]
    sizes = {split: four_groups("Young", "Male") for split in ("val", "test")}
    data, folders = write_data(tmp_path / "data", sizes), []
    lbtw = "exp.dataset.loss_balanced_task_weighting=true"
    for tasks, *overrides in ((pair[:1],), (pair[1:],), (pair,), (pair, lbtw)):
        for seed in (0, 1):
            right = {split: [dict.fromkeys(tasks, (10, 9, 8, 5 + seed))] for split in sizes}
            folder = tmp_path / "logs" / str(len(folders))
            folders.append(write_run(folder, data, tasks, right, *overrides, seed=seed))
    args = Namespace(split="test", rule="best-group", out_dir=tmp_path / "out", device="cpu")
    assert run_cross.report(folders, args) == 0
    table = pd.read_csv(tmp_path / "out" / "cross.csv")
    assert set(table["weighting"]) == {"static_equal", "dynamic"}
    assert (table["compared"] == 2).all() and (table["seeds"] == 2).all()
    assert "delta-m worst group" in (tmp_path / "out" / "cross.html").read_text()
    assert f"{pair[0]}, {pair[1]}; epochs by best-group" in capsys.readouterr().out
