"""The state of runs, from their folders and from Slurm; which of them a call starts."""

import getpass
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from src.io import UserError, expand
from src.runs.folder import HEARTBEAT_SECONDS, STATES, Run

MARKS = ("status.json", "config.yaml")  # a folder with one of these is a run


def slurm_jobs() -> set[str] | None:
    """Return the ids (12_3) of our Slurm jobs that wait or run; None if Slurm does not answer."""
    squeue = shutil.which("squeue")
    if squeue is None:
        return None
    command = [squeue, "--noheader", "--array", "--format=%i", "--user", getpass.getuser()]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return None
    return set(answer.stdout.split()) if answer.returncode == 0 else None


def status_of(run: Run, alive: set[str] | None) -> dict[str, Any]:
    """Return the status of a run, from its folder and from Slurm.

    Args:
        alive: see `slurm_jobs`. A run whose Slurm job waits or runs is not started again. A run
            whose Slurm job is gone has died.
    """
    try:
        status = run.status()
    except UserError as error:
        return {"state": "failed", "error": str(error), "unreadable": True}
    job, state = status.get("slurm_job"), status["state"]
    if alive is None or job is None or state == "done":
        return status
    if job in alive:
        # The job may be between two tries, or about to be requeued.
        return status if state in ("queued", "running") else status | {"state": "queued"}
    # The run may have been started by hand since; then it has fresh heartbeats.
    silent = time.time() - (status.get("heartbeat") or 0) > 4 * HEARTBEAT_SECONDS
    if state == "queued" or (state == "running" and silent):
        error, log = f"its Slurm job {job} is gone", slurm_log(run, job)
        if log is not None:
            error += f"; Slurm's log: {log}"
        return status | {"state": "failed", "error": error, "died": True}
    return status


def slurm_log(run: Run, job: str) -> Path | None:
    """Return the output of a Slurm job; it says why a job ended before the run could start."""
    logs = (folder / ".slurm" / f"{job}_0_log.out" for folder in run.path.parents)
    return next((log for log in logs if log.exists()), None)


def is_to_start(status: dict[str, Any], rerun: str | None) -> bool:
    """Return whether a call starts a run in this state.

    Interrupted runs resume. `rerun` is None, `failed` (start runs that ended with an error, too) or
    `all` (also those that are done). Queued and running ones are never started again.
    """
    state = status["state"]
    if state == "failed":
        return bool(status.get("died")) or rerun is not None
    return state in ("new", "stopped") or (state == "done" and rerun == "all")


def forget(run: Run) -> None:
    """Empty a run folder, so that the run starts anew. Locks stay: they may be held."""
    for path in run.path.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif not path.name.endswith(".lock"):
            path.unlink()


def count_states(states: Iterable[str]) -> str:
    """Format `1 failed, 58 done`."""
    counts = Counter(states)
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])


def find_runs(paths: Iterable[Path]) -> list[Run]:
    """List the run folders at or below `paths` by name, without the stages within a run."""
    folders: set[Path] = set()
    for path in map(expand, paths):
        if not path.exists():
            raise UserError(f"{path}: no such folder")
        for folder, inside, files in os.walk(path):
            if any(mark in files for mark in MARKS):
                folders.add(Path(folder))
                inside.clear()
    return [Run(folder) for folder in sorted(folders) if folders.isdisjoint(folder.parents)]
