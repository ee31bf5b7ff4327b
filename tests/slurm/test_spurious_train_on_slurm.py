"""The seed's command on a real Slurm, killed in between and given again: each run trained once."""

import json
import os
import re
import signal
from pathlib import Path

import pytest

from scripts import run_spurious_train
from scripts.jobs.states import find_runs
from src.runs.folder import Run
from tests.slurm.cluster import wait_for

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

RUNS = 6  # of 40
ASKS = ["--gpus", "1", "--cpus", "1", "--mem_gb", "2", "--array_limit", "4", "--time", "60"]
TINY = [
    *("exp/dataset=synthetic", "exp.dataset.synthetic.num_train=128"),
    *("exp.dataset.synthetic.num_val=64", "exp.dataset.synthetic.num_test=64"),
    *("exp.dataset.target_resolution=[32,32]", "exp.dataloader.num_workers=1"),
    *("exp.model.name=shufflenet_v2_x0_5", "exp.model.pretrained=false"),
    *("exp.train.log_every_n_steps=1", "exp.train.tensorboard=false"),
]


def call(capfd) -> tuple[int, str]:
    """Give the command; returns how many runs it submitted, and what it said on stderr."""
    flags = ["--batch_size", "16", "--epochs", "6", "--mode", "sbatch", "--limit", str(RUNS)]
    assert run_spurious_train.main([*flags, *ASKS, "--", *TINY]) == 0
    out, err = capfd.readouterr()
    submitted = re.search(r"submitted as Slurm job \d+; runs: (\d+)", out)
    return int(submitted[1]) if submitted else 0, err


def statuses() -> dict[Path, dict]:
    return {run.path: json.loads(run.status_file.read_text()) for run in find_runs([Path("logs")])}


def done() -> set[Path]:
    return {path for path, status in statuses().items() if status["state"] == "done"}


def test_runs_that_were_killed_go_on_and_none_is_trained_twice(slurm, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    assert call(capfd)[0] == RUNS
    wait_for(lambda: len(done()) >= RUNS // 3, 600, "a third of the runs")

    # A third of the jobs is cancelled, and the processes of those that run are killed.
    finished = done()
    rest = {path: status for path, status in statuses().items() if path not in finished}
    cancelled = [status["slurm_job"] for status in list(rest.values())[::2][: RUNS // 3]]
    slurm.ask("scancel", *cancelled)
    killed = [
        status["slurm_job"]
        for path, status in rest.items()
        if status["slurm_job"] not in cancelled and kill(Run(path))
    ]
    wait_for(lambda: not {*cancelled, *killed} & busy(slurm), 60, "the end of these jobs")
    print(f"{len(finished)} done, {len(cancelled)} cancelled, {len(killed)} killed")

    # One that was cancelled may have reached its end all the same.
    lost = {s["slurm_job"] for path, s in statuses().items() if path not in done()}
    lost &= {*cancelled, *killed}
    again, said = call(capfd)
    print(f"second call: {again} submitted; {said.splitlines()[0]}")
    assert again == len(lost) > 0
    slurm.wait_until_gone(1200)
    assert len(done()) == RUNS
    assert call(capfd)[0] == 0

    for path in done():
        starts = (path / "log.txt").read_text().count("train.py exp=erm")
        records = [json.loads(line) for line in Run(path).metrics.read_text().splitlines()]
        steps = [record["step"] for record in records if "train/loss" in record]
        assert steps == list(range(1, 6 * 8 + 1))  # 128 images in batches of 16, 6 epochs
        assert path not in finished or starts == 1
        assert starts <= 2


def busy(slurm) -> set[str]:
    return set(slurm.ask("squeue", "-h", "-r", "-o", "%i").split())


def kill(run: Run) -> bool:
    """Kill a running job's process on the node and the training it watches."""
    status = run.status()
    if status["state"] != "running":
        return False
    watcher = status["pid"]
    if "submitit" not in Path(f"/proc/{watcher}/cmdline").read_text():
        watcher = parent(watcher)  # the training itself has written its pid by now
    processes = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    children = [pid for pid in processes if parent(pid) == watcher]
    for pid in (watcher, *children):
        os.kill(pid, signal.SIGKILL)
    return True


def parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except FileNotFoundError:
        return 0
