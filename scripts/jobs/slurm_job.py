"""The program on the node: one job as a child process, which survives preemption and time limits.

Slurm's signal reaches the child, too; it saves and ends. submitit then calls `checkpoint` and puts
the job back into the queue, where the same command resumes.
"""

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from submitit.helpers import DelayedSubmission

from scripts.jobs.job import LOCK_NAME, STOPPED_CODES, Job, JobProcess, describe_exit
from src.io import exclusive
from src.runs.folder import Run

# A run that stopped on SIGTERM is being cancelled or preempted: Slurm then kills us, and requeues
# us itself if it wants to. KillWait and GraceTime are minutes at most.
LINGER_SECONDS = 900


@dataclass
class SlurmTask:
    """A callable for submitit, as plain values: its pickle is read on the node.

    Raises (when called):
        RuntimeError: the job failed, so that Slurm shows it as failed.
    """

    name: str
    argv: list[str]
    run_dir: str
    retries: int

    _process = None

    def __call__(self) -> str:
        job = Job(self.name, self.argv, Path(self.run_dir))
        if os.environ.get("SLURM_PROCID", "0") != "0":
            # One of several nodes: the first one keeps the run's folder and its log.
            code = subprocess.call(job.command())
            return "stopped" if code in STOPPED_CODES else describe_exit(code)
        lock = job.run_dir / LOCK_NAME
        # The submitting process holds the lock until our id is in status.json.
        with exclusive(lock, f"waiting for {lock}: the run is being submitted or run"):
            if Run(job.run_dir).status()["state"] == "done":
                return "done"
            self._process = JobProcess(job, self.retries, slurm_job=slurm_job_id())
            state = self._process.run()
        if state == "failed":
            raise RuntimeError(f"{self.name}: {self._process.error}; its log: {job.log}")
        if state == "stopped":
            time.sleep(LINGER_SECONDS)
            raise RuntimeError(f"{self.name}: stopped by a signal that was not Slurm's")
        return state

    def checkpoint(self) -> DelayedSubmission:
        """Wait for the child to save and end; submitit puts the same job back into the queue."""
        if self._process is not None and self._process.child is not None:
            self._process.child.end()
            Run(self.run_dir).set_status(state="queued", slurm_job=slurm_job_id())
        return DelayedSubmission(SlurmTask(self.name, self.argv, self.run_dir, self.retries))


def slurm_job_id() -> str:
    """Return our id as squeue --array prints it: 12_3, or 12 outside of an array."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array:
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]
