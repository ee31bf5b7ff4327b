"""Run a command as a child process: its log, signals, progress and exit code."""

import os
import subprocess
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from src.io import UserError, exclusive
from src.runs.folder import Heartbeat, Run
from src.runs.signals import Stopped

POLL_SECONDS = 0.2


class Child:
    """A command that runs as a child process, once.

    Args:
        command: program and arguments; no shell reads it.
        log: file to which the output is appended; None: the terminal. A child with a log has no
            standard input.
        environment: variables on top of ours.
    """

    def __init__(
        self,
        command: list[str],
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ):
        self.command, self.log = command, log
        self.environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen | None = None

    def run(
        self, stop: Callable[[], object] = lambda: None, tick: Callable[[], object] = lambda: None
    ) -> int:
        """Run the command to its end and return its exit code (-9: killed by SIGKILL).

        Args:
            stop: whether a signal arrived. If so, the child gets SIGTERM, once; it saves and ends.
            tick: called a few times per second, e.g. to write a heartbeat.

        Raises:
            UserError: the command cannot be started.
        """
        asked = False
        with ExitStack() as stack:
            pipes = {}
            if self.log is not None:
                file = stack.enter_context(self.log.open("ab"))
                pipes = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": subprocess.STDOUT}
            try:
                child = subprocess.Popen(self.command, env=self.environment, **pipes)
            except OSError as error:
                raise UserError(f"{self.command[0]} cannot be started: {error.strerror}") from error
            self.process = stack.enter_context(child)
            try:
                while True:
                    if stop() and not asked:
                        # SIGTERM also after a Ctrl-C, which the child may have from the terminal:
                        # a second Ctrl-C would end it at once.
                        child.terminate()
                        asked = True
                    with suppress(subprocess.TimeoutExpired):
                        return child.wait(POLL_SECONDS)
                    tick()
            except BaseException:
                child.terminate()  # it saves and ends, and does not train on without us
                raise

    def end(self) -> None:
        """Send SIGTERM and wait for the end; for a signal handler that interrupts `run`.

        The exit code is left to `run`: `Popen.wait` could hang here, because the interrupted call
        may hold its lock.
        """
        if self.process is not None:
            self.process.terminate()
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)


def run_child(
    command: list[str], run: Run, heartbeat: Heartbeat, stop: Callable[[], int | None]
) -> None:
    """Run a command that works in a run folder, and show its progress in our own status.

    Raises:
        Stopped: a signal came; the child has saved and ended.
        UserError: the child failed; its own message was printed.
    """
    wait_for_orphan(run, stop)
    code = Child(command).run(stop, lambda: heartbeat.update(**progress_of(run)))
    if stop():
        raise Stopped(stop())
    if code:
        raise UserError(f"{run.path}: failed with exit code {code}, see above")


def wait_for_orphan(run: Run, stop: Callable[[], int | None]) -> None:
    """Wait for a process that a killed parent left behind in this folder."""
    waiting = False
    while True:
        with exclusive(run.path / ".lock", patience=POLL_SECONDS) as free:
            if free:
                return
        if not waiting:
            print(f"waiting for the process that trains {run.path}", flush=True)
            waiting = True
        if stop():
            raise Stopped(stop())


def progress_of(run: Run) -> dict:
    """Return the progress of a stage, for the status of the whole run."""
    if not run.status_file.exists():
        return {}
    status = run.status()
    names = ("step", "total_steps", "epoch", "total_epochs", "images_per_second")
    return {"stage": run.path.name} | {name: status[name] for name in names if name in status}
