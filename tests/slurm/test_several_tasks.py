"""A run whose processes are started by several tasks of one Slurm job, as on several nodes."""

import pytest

from scripts.job_manager import Job
from src.runs.folder import Run
from src.training.metrics_log import read_metrics
from tests.jobs import job_manager
from tests.training.test_distributed import on_features

pytestmark = pytest.mark.slurm


def test_two_tasks_train_one_network(slurm, tmp_path):
    run = Run(tmp_path / "run")
    argv = ["python", "train.py", "exp=rwg", *on_features(tmp_path), "exp.train.total_epochs=1"]
    argv += ["exp.train.num_devices=2"]
    flags = {"gpus": 0, "cpus": 1, "mem_gb": 1.5, "time": 20, "signal_seconds": 30}
    manager = job_manager(mode="sbatch", log_dir=tmp_path, sbatch="ntasks-per-node=2", **flags)
    manager.run([Job("rwg", argv, run.path)])
    slurm.wait_until_gone(240)
    logs = "".join(path.read_text() for path in (tmp_path / ".slurm").glob("*_log.out"))
    logs += (run.path / "log.txt").read_text()
    assert run.status()["state"] == "done", logs
    losses = [line["train/loss"] for line in read_metrics(run) if "train/loss" in line]
    assert len(losses) == 5  # of 40 examples, 9 a step
    assert run.provenance.read_text().count('"processes": 2') == 1
