"""Start many jobs with one command.

--mode debug (the default) prints one line per job for bash, --mode shell runs the jobs here, --mode
sbatch submits them to Slurm. Finished runs are left out, interrupted ones resume, and no run is
started twice.
"""

import argparse
import contextlib
import shlex
import sys
import time
from collections.abc import Sequence

from scripts.jobs.estimate import estimate
from scripts.jobs.job import LOCK_NAME, Job
from scripts.jobs.shell import run_here
from scripts.jobs.slurm import add_slurm_arguments, check_slurm, read_settings, submit
from scripts.jobs.states import count_states, forget, is_to_start, slurm_jobs, status_of
from src.io import UserError, at_least, exclusive, expand
from src.runs.folder import Run

__all__ = ["Job", "JobManager", "add_job_arguments", "split_overrides"]


def add_job_arguments(parser: argparse.ArgumentParser, log_dir: str = "./logs") -> None:
    """Add the flags that all scripts with many jobs share."""
    parser.epilog = "Arguments after -- go to every job, e.g. -- exp/model=resnet18"
    parser.add_argument(
        "--log_dir", type=expand, default=expand(log_dir), help="folder of the runs"
    )
    group = parser.add_argument_group("jobs")
    group.add_argument(
        "--mode",
        choices=("debug", "shell", "sbatch"),
        default="debug",
        help="debug: print the commands",
    )
    group.add_argument("--limit", type=at_least(1), metavar="N", help="take the first N jobs")
    group.add_argument(
        "--rerun",
        choices=("failed", "all"),
        help="failed: also runs that ended with an error; all: delete all results and train anew",
    )
    group.add_argument("--retries", type=at_least(0), default=1, help="if a job fails (default 1)")
    group.add_argument("--parallel", type=at_least(1), metavar="N", help="shell: N jobs at a time")
    group.add_argument(
        "--per_gpu", type=at_least(1), default=1, metavar="M", help="shell: M jobs per GPU"
    )
    add_slurm_arguments(parser)


def split_overrides(argv: Sequence[str] | None = None) -> tuple[list[str], list[str]]:
    """Split the arguments into ours and those after `--`, which go to every job."""
    argv = list(sys.argv[1:] if argv is None else argv)
    index = argv.index("--") if "--" in argv else len(argv)
    return argv[:index], argv[index + 1 :]


class JobManager:
    """Starts jobs as the flags of `add_job_arguments` say: `JobManager(args).run(jobs)`."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        if args.mode == "sbatch":
            if args.parallel is not None or args.per_gpu != 1:
                raise UserError(
                    "--parallel and --per_gpu are for --mode shell; with sbatch use --array_limit"
                )
            self.slurm = read_settings(args)

    def run(self, jobs: Sequence[Job]) -> int:
        """Start the jobs; return an exit code: 0, 1 if one failed, 128 + signal."""
        args = self.args
        jobs = list(jobs)[: args.limit]
        if len({job.run_dir for job in jobs}) < len(jobs):
            raise UserError("several jobs share a run folder: arguments after -- make them equal")
        chosen, rest = self._choose(jobs)
        if args.mode == "debug":
            for job in chosen:
                print(shlex.join(job.argv))
        self._announce(chosen, rest)
        if args.mode == "debug":
            print("nothing was started: use --mode shell or --mode sbatch", file=sys.stderr)
            return 0
        if args.mode == "sbatch":
            check_slurm()
        with contextlib.ExitStack() as locks:
            chosen = self._claim(chosen, locks)
            if not chosen:
                return 0
            if args.mode == "sbatch":
                return self._submit(chosen)
            self._empty(chosen)
            return run_here(chosen, args.parallel, args.per_gpu, args.retries)

    def _choose(self, jobs: Sequence[Job]) -> tuple[list[Job], list[str]]:
        """Return the jobs to start, and the states of the others."""
        alive = slurm_jobs()
        statuses = [(job, status_of(Run(job.run_dir), alive)) for job in jobs]
        chosen = [job for job, status in statuses if is_to_start(status, self.args.rerun)]
        return chosen, [status["state"] for job, status in statuses if job not in chosen]

    def _claim(self, jobs: Sequence[Job], locks: contextlib.ExitStack) -> list[Job]:
        """Return the jobs that no other process is starting, locked until `locks` closes."""
        free = [job for job in jobs if locks.enter_context(exclusive(job.run_dir / LOCK_NAME))]
        if len(free) < len(jobs):
            taken = len(jobs) - len(free)
            print(f"runs that another process is starting, skipped: {taken}", file=sys.stderr)
        # The other process may have finished between our first look and the lock.
        return self._choose(free)[0]

    def _announce(self, chosen: Sequence[Job], rest: Sequence[str]) -> None:
        """Print how many runs will start, and what they cost."""
        left_out = f"; left out: {count_states(rest)}" if rest else ""
        print(f"runs to start: {len(chosen)}{left_out}", file=sys.stderr)
        if "failed" in rest:
            print("--rerun failed starts the failed ones again", file=sys.stderr)
        for line in estimate(chosen, self.args.log_dir):
            print(line, file=sys.stderr)

    def _empty(self, jobs: Sequence[Job]) -> None:
        """Empty the folders of runs that start anew."""
        for job in jobs:
            run = Run(job.run_dir)
            if self.args.rerun == "all" or status_of(run, None).get("unreadable"):
                forget(run)

    def _submit(self, jobs: Sequence[Job]) -> int:
        log_dir, retries = self.args.log_dir, self.args.retries
        ids = submit(jobs, self.slurm, log_dir / ".slurm", retries, before=self._empty)
        for job, slurm_job in zip(jobs, ids):
            Run(job.run_dir).set_status(
                state="queued", slurm_job=slurm_job, queued=time.time(), error=None, log_tail=None
            )
        print(f"submitted as Slurm job {ids[0].partition('_')[0]}; runs: {len(jobs)}")
        command = shlex.join(["python", "-m", "scripts.status", str(log_dir)])
        print(f"show their status: {command}")
        return 0
