"""Start many jobs with one command.

--mode debug (the default) prints one line per job for bash, --mode shell runs the jobs here, --mode
sbatch submits them to Slurm. Finished runs are left out, interrupted ones resume, and no run is
started twice.
"""

import argparse
import contextlib
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.jobs.estimate import estimate
from scripts.jobs.job import LOCK_NAME, Job
from scripts.jobs.shell import find_gpus, run_here
from scripts.jobs.slurm import (
    SlurmSettings,
    add_slurm_arguments,
    check_slurm,
    read_settings,
    submit,
)
from scripts.jobs.states import count_states, forget, is_to_start, slurm_jobs, status_of
from src.io import UserError, exclusive, expand
from src.runs.folder import Run

__all__ = ["Job", "JobManager", "add_job_arguments", "split_overrides"]

MODES = ("debug", "shell", "sbatch")


def add_job_arguments(parser: argparse.ArgumentParser, log_dir: str = "./logs") -> None:
    """Add the flags that all scripts with many jobs share."""
    parser.epilog = "Arguments after -- go to every job, e.g. -- exp/model=resnet18"
    parser.add_argument(
        "--log_dir", type=expand, default=expand(log_dir), help="folder of the runs"
    )
    group = parser.add_argument_group("jobs")
    group.add_argument("--mode", choices=MODES, default="debug", help="debug: print the commands")
    group.add_argument("--limit", type=int, metavar="N", help="take the first N jobs")
    group.add_argument(
        "--rerun",
        choices=("failed", "all"),
        help="failed: also runs that ended with an error; all: delete all results and train anew",
    )
    group.add_argument("--retries", type=int, default=1, help="if a job fails (default 1)")
    group.add_argument("--parallel", type=int, metavar="N", help="shell: N jobs at a time")
    group.add_argument("--per_gpu", type=int, default=1, metavar="M", help="shell: M jobs per GPU")
    add_slurm_arguments(parser)


def split_overrides(argv: Sequence[str] | None = None) -> tuple[list[str], list[str]]:
    """Split the arguments into ours and those after `--`, which go to every job."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if "--" not in argv:
        return argv, []
    index = argv.index("--")
    return argv[:index], argv[index + 1 :]


@dataclass
class JobManager:
    """Starts jobs in one of three ways: `JobManager.from_args(args).run(jobs)`.

    Args:
        log_dir: folder of the jobs' runs; submitit's files get a folder in it.
        rerun: None, failed or all; see `states.is_to_start`.
        parallel, per_gpu: how many jobs at a time, and on one GPU (mode shell).
        slurm: what each run asks for (mode sbatch).
    """

    mode: str = "debug"
    log_dir: Path = Path("logs")
    limit: int | None = None
    rerun: str | None = None
    retries: int = 1
    parallel: int | None = None
    per_gpu: int = 1
    slurm: SlurmSettings | None = None

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> "JobManager":
        """Make a manager from the flags of `add_job_arguments`."""
        names = ("mode", "log_dir", "limit", "rerun", "retries", "parallel", "per_gpu")
        manager = cls(**{name: getattr(args, name) for name in names})
        manager._check()
        if args.mode == "sbatch":
            manager.slurm = read_settings(args)
        return manager

    def _check(self) -> None:
        least = {"limit": 1, "retries": 0, "parallel": 1, "per_gpu": 1}
        problems = [
            f"--{name} {getattr(self, name)}: use {least[name]} or more"
            for name in least
            if getattr(self, name) is not None and getattr(self, name) < least[name]
        ]
        if self.mode == "sbatch" and (self.parallel is not None or self.per_gpu != 1):
            problems.append(
                "--parallel and --per_gpu are for --mode shell; with sbatch use --array_limit"
            )
        if problems:
            raise UserError(problems)

    def run(self, jobs: Sequence[Job]) -> int:
        """Start the jobs; return an exit code: 0, 1 if one failed, 128 + signal."""
        jobs = list(jobs)[: self.limit]
        if len({job.run_dir for job in jobs}) < len(jobs):
            raise UserError("several jobs share a run folder: arguments after -- make them equal")
        chosen, rest = self._choose(jobs)
        if self.mode == "debug":
            for job in chosen:
                print(shlex.join(job.argv))
        self._announce(chosen, rest)
        if self.mode == "debug":
            print("nothing was started: use --mode shell or --mode sbatch", file=sys.stderr)
            return 0
        if self.mode == "sbatch":
            check_slurm()
        with contextlib.ExitStack() as locks:
            chosen = self._claim(chosen, locks)
            if not chosen:
                return 0
            if self.mode == "sbatch":
                return self._submit(chosen)
            self._empty(chosen)
            return run_here(chosen, self.parallel, self.per_gpu, self.retries)

    def _choose(self, jobs: Sequence[Job]) -> tuple[list[Job], list[str]]:
        """Return the jobs to start, and the states of the others."""
        alive = slurm_jobs()
        chosen, rest = [], []
        for job in jobs:
            status = status_of(Run(job.run_dir), alive)
            if is_to_start(status, self.rerun):
                chosen.append(job)
            else:
                rest.append(status["state"])
        return chosen, rest

    def _claim(self, jobs: Sequence[Job], locks: contextlib.ExitStack) -> list[Job]:
        """Return the jobs that no other process is starting, locked until `locks` closes."""
        free = [job for job in jobs if locks.enter_context(exclusive(job.run_dir / LOCK_NAME))]
        if len(free) < len(jobs):
            taken = len(jobs) - len(free)
            print(f"{taken} runs are being started by another process; skipped", file=sys.stderr)
        # The other process may have finished between our first look and the lock.
        return self._choose(free)[0]

    def _announce(self, chosen: Sequence[Job], rest: Sequence[str]) -> None:
        """Print how many runs will start, and what they cost."""
        left_out = f"; left out: {count_states(rest)}" if rest else ""
        print(f"{len(chosen)} runs to start{left_out}", file=sys.stderr)
        if "failed" in rest:
            print("--rerun failed starts the failed ones again", file=sys.stderr)
        for line in estimate(chosen, self.log_dir, self._device()):
            print(line, file=sys.stderr)

    def _device(self) -> str:
        """Return the kind of device that the jobs will use."""
        if self.slurm is not None:
            return "GPU" if self.slurm.gpus else "CPU"
        may_submit = self.mode == "debug" and shutil.which("sbatch") is not None
        return "GPU" if may_submit or find_gpus() else "CPU"

    def _empty(self, jobs: Sequence[Job]) -> None:
        """Empty the folders of runs that start anew."""
        for job in jobs:
            run = Run(job.run_dir)
            if self.rerun == "all" or status_of(run, None).get("unreadable"):
                forget(run)

    def _submit(self, jobs: Sequence[Job]) -> int:
        slurm = self.slurm or SlurmSettings()
        ids = submit(jobs, slurm, self.log_dir / ".slurm", self.retries, before=self._empty)
        for job, slurm_job in zip(jobs, ids):
            Run(job.run_dir).set_status(
                state="queued", slurm_job=slurm_job, queued=time.time(), error=None, log_tail=None
            )
        print(f"submitted {len(jobs)} runs as Slurm job {ids[0].partition('_')[0]}")
        command = shlex.join(["python", "-m", "scripts.status", str(self.log_dir)])
        print(f"show their status: {command}")
        return 0
