"""A run whose processes are started by several tasks of one Slurm job, as on several nodes."""

import pytest

from scripts.job_manager import Job, JobManager
from scripts.jobs.slurm import SlurmSettings
from src.runs.folder import Run
from src.training.metrics_log import read_metrics
from tests.data.small_celeba import write_celeba

pytestmark = pytest.mark.slurm


def test_two_tasks_train_one_network(slurm, tmp_path):
    write_celeba(tmp_path / "celeba", [0] * 20 + [1] * 8 + [2] * 4)
    run = Run(tmp_path / "logs" / "run")
    argv = ["python", "train.py", "exp=rwg", "exp.model.name=convnext_tiny", "exp.train.device=cpu"]
    argv += ["exp.model.pretrained=false", "exp.dataset.target_resolution=[32,32]"]
    argv += ["exp.dataloader.batch_size=8", "exp.train.total_epochs=1", "exp.train.num_devices=2"]
    argv += [f"exp.dataset.root={tmp_path / 'celeba'}", f"exp.dataset.cache_dir={tmp_path}"]
    argv += ["exp.train.log_every_n_steps=1", f"exp.train.log_dir={run.path}"]
    settings = SlurmSettings(
        gpus=0, cpus=1, mem_gb=1.5, time=20, signal_seconds=30, sbatch={"ntasks-per-node": 2}
    )
    JobManager("sbatch", run.path.parent, slurm=settings).run([Job("rwg", argv, run.path)])
    slurm.wait_until_gone(240)
    logs = "".join(path.read_text() for path in (tmp_path / "logs" / ".slurm").glob("*_log.out"))
    logs += (run.path / "log.txt").read_text()
    assert run.status()["state"] == "done", logs
    losses = [line["train/loss"] for line in read_metrics(run) if "train/loss" in line]
    assert len(losses) == 3
    assert run.provenance.read_text().count('"processes": 2') == 1
