"""Many jobs from one command: printed, run on this machine, or submitted to Slurm.

--mode debug (the default) prints one line per job for bash, --mode shell runs them here, --mode
sbatch hands them to Slurm. What is done is left out, what was interrupted goes on, and nothing runs
twice.
"""

import argparse
import contextlib
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.jobs.estimate import estimate
from scripts.jobs.job import LOCK_NAME, Job
from scripts.jobs.shell import run_here
from scripts.jobs.slurm import (
    SlurmSettings,
    add_slurm_arguments,
    check_slurm,
    read_settings,
    submit,
)
from scripts.jobs.states import count_states, forget, is_to_start, slurm_jobs, status_of
from src.io import UserError, exclusive
from src.runs.folder import Run

__all__ = ["Job", "JobManager", "add_job_arguments", "split_overrides"]

MODES = ("debug", "shell", "sbatch")


def add_job_arguments(parser: argparse.ArgumentParser, log_dir: str = "./logs") -> None:
    """The flags that every script with many jobs shares."""
    parser.epilog = "Arguments after -- go to every job, e.g. -- exp/model=resnet18"
    parser.add_argument("--log_dir", type=Path, default=Path(log_dir), help="where the runs lie")
    group = parser.add_argument_group("jobs")
    group.add_argument("--mode", choices=MODES, default="debug", help="debug: print the commands")
    group.add_argument("--limit", type=int, metavar="N", help="take the first N jobs")
    group.add_argument(
        "--rerun",
        choices=("failed", "all"),
        help="failed: also what ended with an error; all: delete results and train anew, too",
    )
    group.add_argument("--retries", type=int, default=1, help="of a job that fails (default 1)")
    group.add_argument("--parallel", type=int, metavar="N", help="shell: N jobs at a time")
    group.add_argument("--per_gpu", type=int, default=1, metavar="M", help="shell: M jobs per GPU")
    add_slurm_arguments(parser)


def split_overrides(argv: Sequence[str] | None = None) -> tuple[list[str], list[str]]:
    """Our arguments, and those after `--`, which are every job's."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if "--" not in argv:
        return argv, []
    place = argv.index("--")
    return argv[:place], argv[place + 1 :]


@dataclass
class JobManager:
    """Starts jobs in one of three ways; `JobManager.from_args(args).run(jobs)` is all of it.

    Args:
        log_dir: where the jobs' runs lie; submitit's files get a folder there.
        rerun: None, failed or all; see `job_states.is_to_start`.
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
        names = ("mode", "log_dir", "limit", "rerun", "retries", "parallel", "per_gpu")
        manager = cls(**{name: getattr(args, name) for name in names})
        manager.check()
        if args.mode == "sbatch":
            manager.slurm = read_settings(args)
        return manager

    def check(self) -> None:
        counts = {"limit": 1, "retries": 0, "parallel": 1, "per_gpu": 1}
        problems = [
            f"--{name} {value}: at least {least}"
            for name, least in counts.items()
            if (value := getattr(self, name)) is not None and value < least
        ]
        if self.mode == "sbatch" and (self.parallel is not None or self.per_gpu != 1):
            problems.append(
                "--parallel and --per_gpu are for --mode shell; with sbatch use --array_limit"
            )
        if problems:
            raise UserError(problems)

    def run(self, jobs: Sequence[Job]) -> int:
        """Start the jobs; returns an exit code: 0, 1 where one failed, 128+signal."""
        jobs = list(jobs)[: self.limit]
        if len({job.run_dir for job in jobs}) < len(jobs):
            raise UserError(
                "several jobs share a run folder: what stands after -- makes them equal"
            )
        chosen, rest = self._choose(jobs)
        if self.mode == "debug":
            _print_commands(chosen)
        self._announce(chosen, rest)
        if self.mode == "debug":
            print("nothing was started: --mode shell or --mode sbatch does", file=sys.stderr)
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
        """The jobs to start, and the states of the others."""
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
        """Those of the jobs that no other call is starting; they stay ours until `locks` closes."""
        mine, taken = [], 0
        for job in jobs:
            if locks.enter_context(exclusive(job.run_dir / LOCK_NAME)):
                mine.append(job)
            else:
                taken += 1
        if taken:
            print(f"{taken} runs are in the hands of another call: left to it", file=sys.stderr)
        # Between the first look and the lock, the other call may have come and gone.
        return self._choose(mine)[0]

    def _announce(self, chosen: Sequence[Job], rest: Sequence[str]) -> None:
        """Before anything starts: how many, how long, how much disk."""
        left = f"; left out: {count_states(rest)}" if rest else ""
        print(f"{len(chosen)} runs to start{left}", file=sys.stderr)
        if "failed" in rest:
            print("--rerun failed starts the failed ones again", file=sys.stderr)
        for line in estimate(chosen, self.log_dir):
            print(line, file=sys.stderr)

    def _empty(self, jobs: Sequence[Job]) -> None:
        """Make folders ready whose content is in the way."""
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
        print(f"python -m scripts.status {shlex.quote(str(self.log_dir))} shows how they are")
        return 0


def _print_commands(jobs: Sequence[Job]) -> None:
    try:
        for job in jobs:
            print(shlex.join(job.argv))
        sys.stdout.flush()
    except BrokenPipeError:  # a reader such as `head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
