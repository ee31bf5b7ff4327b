"""Which runs are to be started: what their folders say, and what Slurm still knows of them."""

import getpass
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from src.io import UserError
from src.runs.folder import HEARTBEAT_SECONDS, Run

MARKS = ("status.json", "config.yaml")  # a folder with one of these is a run


def slurm_jobs() -> set[str] | None:
    """Ids such as 12_3 of our Slurm jobs that wait or run; None where Slurm cannot be asked."""
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
    """The status of a run as its folder and Slurm together show it.

    Args:
        alive: see `slurm_jobs`. A run whose Slurm job waits or runs is never free to be started,
            one whose Slurm job is gone has died, however fresh its last words.
    """
    try:
        status = run.status()
    except UserError as error:
        return {"state": "failed", "error": str(error), "unreadable": True}
    job, state = status.get("slurm_job"), status["state"]
    if alive is None or job is None or state == "done":
        return status
    if job in alive:
        # Also between two tries, or saved and about to be requeued.
        return status if state in ("queued", "running") else status | {"state": "queued"}
    # A run started by hand in this folder still says so now and then.
    silent = time.time() - (status.get("heartbeat") or 0) > 4 * HEARTBEAT_SECONDS
    if state == "queued" or (state == "running" and silent):
        error = f"its Slurm job {job} is gone"
        return status | {"state": "failed", "error": error, "died": True}
    return status


def is_to_start(status: dict[str, Any], rerun: str | None) -> bool:
    """Whether a call starts a run in this state.

    What was interrupted goes on by itself; what ended with an error does with `failed`, and `all`
    also repeats what is done. A queued or running one is never started a second time.
    """
    state = status["state"]
    if state == "failed":
        return bool(status.get("died")) or rerun is not None
    return state in ("new", "stopped") or (state == "done" and rerun == "all")


def forget(run: Run) -> None:
    """Empty a run folder so that it starts anew; its locks stay, they may be held."""
    for path in run.path.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif not path.name.endswith(".lock"):
            path.unlink()


def count_states(states: Iterable[str]) -> str:
    """`58 done, 1 failed`, in the order of a run's life."""
    counts: dict[str, int] = {}
    for state in states:
        counts[state] = counts.get(state, 0) + 1
    order = ("new", "queued", "running", "stopped", "failed", "done")
    return ", ".join(f"{counts[state]} {state}" for state in order if state in counts)


def find_runs(paths: Iterable[Path]) -> list[Run]:
    """All run folders at or below `paths`, by name; the stages within a run are not listed."""
    folders: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: no such folder")
        folders |= {mark.parent for name in MARKS for mark in path.rglob(name)}
    found: list[Run] = []
    for folder in sorted(folders):  # what lies within a folder follows it
        if not (found and found[-1].path in folder.parents):
            found.append(Run(folder))
    return found
