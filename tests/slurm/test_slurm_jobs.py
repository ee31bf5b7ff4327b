"""Jobs on a real Slurm: arrays, failures, cancelled and preempted jobs, time limits, repeats."""

import json
import math
import os
import signal
import time
from pathlib import Path

import pytest

from scripts.job_manager import Job
from scripts.jobs.states import slurm_jobs, status_of
from src.io import UserError
from src.runs.folder import Run
from src.training.checkpoints import load_checkpoint, model_hash
from tests.jobs import counting, job_manager
from tests.slurm.cluster import wait_for

pytestmark = pytest.mark.slurm


def submit(jobs: list[Job], log_dir: Path, rerun: str | None = None, **settings) -> str:
    """Submit and return the array's id, '' where there was nothing to submit."""
    small = {"gpus": 0, "cpus": 1, "mem_gb": 0.2, "time": 30, "signal_seconds": 30} | settings
    small |= {} if rerun is None else {"rerun": rerun}
    assert job_manager(mode="sbatch", log_dir=log_dir, **small).run(jobs) == 0
    ids = [json.loads(status_file(job).read_text()).get("slurm_job", "") for job in jobs]
    return max((text.partition("_")[0] for text in ids if text), key=int, default="")


def status_file(job: Job) -> Path:
    return job.run_dir / "status.json"


def state(job: Job) -> str:
    return status_of(Run(job.run_dir), slurm_jobs())["state"]


def lines(job: Job, name: str) -> list[str]:
    path = job.run_dir / name
    return path.read_text().splitlines() if path.exists() else []


def wait_for_step(job: Job, count: int = 1) -> None:
    wait_for(lambda: len(lines(job, "trace")) >= count, 60, f"step {count} of {job.name}")


def test_an_array_runs_within_its_limit_and_one_failure_stops_no_other(slurm, tmp_path):
    jobs = [counting(tmp_path / str(n), "--seconds", "0.2", steps=3) for n in range(4)]
    jobs.append(counting(tmp_path / "bad", "--fail", "9", steps=3))
    array = submit(jobs, tmp_path, array_limit=2)
    most = 0
    while slurm_jobs():
        running = slurm.ask("squeue", "-h", "-r", "-t", "R", "-j", array, "-o", "%i").split()
        most = max(most, len(running))
        time.sleep(0.1)
    assert most == 2
    assert [state(job) for job in jobs] == ["done"] * 4 + ["failed"]
    expected = {f"{array}_{n}": "COMPLETED" for n in range(4)} | {f"{array}_4": "FAILED"}
    assert slurm.states(array) == expected
    # Tried twice, and what it said last is in its status.
    assert len(lines(jobs[4], "starts")) == 2
    assert json.loads(status_file(jobs[4]).read_text())["log_tail"][-1] == "the last words"

    # The same call again has nothing to do; with --rerun failed it takes the failed one only.
    assert submit(jobs, tmp_path) == array
    again = submit(jobs, tmp_path, rerun="failed")
    assert again != array
    slurm.wait_until_gone()
    assert [len(lines(job, "starts")) for job in jobs] == [1, 1, 1, 1, 4]


def test_cancelled_and_killed_jobs_go_on_with_the_next_call(slurm, tmp_path):
    slow = ("--seconds", "0.2")
    jobs = [counting(tmp_path / name, *slow, steps=200) for name in ("cancelled", "killed")]
    jobs.append(counting(tmp_path / "waiting", *slow, steps=3))
    array = submit(jobs, tmp_path, array_limit=2)
    for job in jobs[:2]:
        wait_for_step(job)
    assert [state(job) for job in jobs] == ["running", "running", "queued"]
    # A second call leaves all of them alone.
    assert submit(jobs, tmp_path) == array

    slurm.ask("scancel", f"{array}_2", f"{array}_0")
    # The process on the node and its child, as when a node runs out of memory.
    child = int(lines(jobs[1], "starts")[0].split()[0])
    for pid in (json.loads(status_file(jobs[1]).read_text())["pid"], child):
        os.kill(pid, signal.SIGKILL)
    slurm.wait_until_gone()
    assert [state(job) for job in jobs] == ["stopped", "failed", "failed"]

    steps = [len(lines(job, "trace")) for job in jobs[:2]]
    shorter = [counting(job.run_dir, steps=count + 2) for job, count in zip(jobs, steps)]
    submit([*shorter, jobs[2]], tmp_path)
    slurm.wait_until_gone()
    assert [state(job) for job in jobs] == ["done"] * 3
    for job, count in zip(jobs, steps):
        assert lines(job, "trace") == [f"step {n}" for n in range(1, count + 3)]
        assert len(lines(job, "starts")) == 2
    assert len(lines(jobs[2], "starts")) == 1


def test_a_signal_from_slurm_saves_and_requeues(slurm, tmp_path):
    job = counting(tmp_path / "it's a run", "--seconds", "0.2", steps=20)
    number = submit([job], tmp_path)
    wait_for_step(job)
    slurm.ask("scancel", "--signal=USR2", number)
    wait_for(lambda: state(job) == "queued", 20, "the requeue")
    slurm.wait_until_gone()
    assert state(job) == "done"
    assert lines(job, "trace") == [f"step {n}" for n in range(1, 21)]
    assert len(lines(job, "starts")) == 2
    assert "Restarts=1" in slurm.ask("scontrol", "show", "job", number)


def test_a_job_pushed_aside_by_an_urgent_one_comes_back(slurm, tmp_path):
    job = counting(tmp_path / "a", "--seconds", "0.2", steps=50)
    number = submit([job], tmp_path)
    wait_for_step(job)
    urgent = ["sbatch", "--partition=urgent", "--cpus-per-task=8", "--output=/dev/null"]
    slurm.ask(*urgent, "--wrap=sleep 8")
    wait_for(lambda: "saved at step" in job.log.read_text(), 20, "the save")
    # Slurm still has the job, so nobody else may start it.
    wait_for(lambda: state(job) == "queued", 20, "the requeue")
    slurm.wait_until_gone(90)
    assert state(job) == "done"
    assert lines(job, "trace") == [f"step {n}" for n in range(1, 51)]
    assert "Restarts=1" in slurm.ask("scontrol", "show", "job", number)


def test_an_unknown_partition_is_named(slurm, tmp_path):
    job = counting(tmp_path / "a")
    with pytest.raises(UserError, match="invalid partition"):
        submit([job], tmp_path, partition="gpus")
    assert state(job) == "new"


def test_each_job_sees_its_own_gpu(slurm, tmp_path):
    jobs = [counting(tmp_path / name, "--seconds", "0.5", steps=3) for name in "ab"]
    submit(jobs, tmp_path, gpus=1)
    slurm.wait_until_gone()
    gpus = {line.split()[1] for job in jobs for line in lines(job, "starts")}
    assert gpus == {"gpu=0", "gpu=1"}


TINY = [
    *("exp=erm", "exp.model.name=shufflenet_v2_x0_5", "exp.model.pretrained=false"),
    *("exp/dataset=synthetic", "exp.dataset.synthetic.num_train=64"),
    *("exp.dataset.synthetic.num_val=32", "exp.dataset.synthetic.num_test=32"),
    *("exp.dataset.target_resolution=[32,32]", "exp.dataloader.batch_size=4"),
    *("exp.dataloader.num_workers=1", "exp.train.tensorboard=false"),
    *("exp.train.total_epochs=10", "exp.train.log_every_n_steps=5"),  # 160 steps
]


def test_a_training_run_that_hits_its_time_limit_ends_bit_identical(slurm, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)

    def training(name: str) -> Job:
        argv = ["python", "train_erm.py", *TINY, f"exp.train.log_dir={name}"]
        return Job(f"test/{name}", argv, Path(name))

    whole, cut = training("whole"), training("cut")
    assert job_manager(mode="shell", log_dir=".", retries=0).run([whole]) == 0
    start = time.monotonic()
    number = submit([cut], Path(), signal_seconds=55)
    wait_for(lambda: len(lines(cut, "metrics.jsonl")) > 4, 120, "the middle of training")
    # Slurm looks at time limits twice a minute; a machine of any speed is still in the middle then.
    trainer = json.loads(status_file(cut).read_text())["pid"]
    os.kill(trainer, signal.SIGSTOP)
    # At least 40 s from now, however long the job took to come so far: 1 minute, as a rule.
    minutes = math.ceil((time.monotonic() - start + 40) / 60)
    slurm.ask("scontrol", "update", f"JobId={number}", f"TimeLimit={minutes}")
    node_log = Path(".slurm") / f"{number}_0_log.out"
    wait_for(lambda: "Caught signal SIGUSR2" in node_log.read_text(), 130, "the time limit")
    os.kill(trainer, signal.SIGCONT)
    wait_for(lambda: state(cut) == "queued", 30, "the requeue")
    slurm.ask("scontrol", "update", f"JobId={number}", "TimeLimit=30")
    slurm.wait_until_gone(120)

    assert state(cut) == "done"
    assert "Restarts=1" in slurm.ask("scontrol", "show", "job", number)
    assert "resuming at step" in cut.log.read_text()
    assert final_hash(cut) == final_hash(whole)
    assert metrics(cut) == metrics(whole)


def final_hash(job: Job) -> str:
    return model_hash(load_checkpoint(Run(job.run_dir).checkpoint("last"))["model"])


def metrics(job: Job) -> list[dict]:
    """metrics.jsonl without the times."""
    records = [json.loads(line) for line in lines(job, "metrics.jsonl")]
    return [
        {key: value for key, value in record.items() if not key.startswith("time/")}
        for record in records
    ]
