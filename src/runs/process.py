"""Run a command as a child process that works in a run folder."""

import subprocess
import time
from collections.abc import Callable

from src.io import UserError, exclusive
from src.runs.folder import Heartbeat, Run
from src.runs.signals import Stopped

POLL_SECONDS = 0.2


def run_child(
    command: list[str], run: Run, heartbeat: Heartbeat, stop: Callable[[], int | None]
) -> None:
    """Run a command to its end; pass on its progress, and our signals as SIGTERM.

    Args:
        run: the folder that the command works in.
        heartbeat: of the parent's run; shows the progress of the child.
        stop: returns the signal that arrived, or None.

    Raises:
        Stopped: a signal came; the child has saved and ended.
        UserError: the child failed; its own message was printed.
    """
    _wait_for_orphan(run, stop)
    asked = False
    with subprocess.Popen(command) as child:
        try:
            while child.poll() is None:
                if stop() and not asked:
                    # SIGTERM also after a Ctrl-C: the child may have had that from the terminal.
                    child.terminate()
                    asked = True
                heartbeat.update(**progress_of(run))
                time.sleep(POLL_SECONDS)
        except BaseException:
            child.terminate()  # it saves and ends, and does not train on without us
            raise
    if stop():
        raise Stopped(stop())
    if child.returncode:
        raise UserError(f"{run.path}: failed with exit code {child.returncode}, see above")


def _wait_for_orphan(run: Run, stop: Callable[[], int | None]) -> None:
    """Wait for a process that a killed parent left behind in this folder."""
    waiting = False
    while True:
        with exclusive(run.path / ".lock") as free:
            if free:
                return
        if not waiting:
            print(f"waiting for the process that trains {run.path}", flush=True)
            waiting = True
        if stop():
            raise Stopped(stop())
        time.sleep(POLL_SECONDS)


def progress_of(run: Run) -> dict:
    """Return the progress of a stage, for the status of the whole run."""
    if not run.status_file.exists():
        return {}
    status = run.status()
    names = ("step", "total_steps", "epoch", "total_epochs", "images_per_second")
    return {"stage": run.path.name} | {name: status[name] for name in names if name in status}
