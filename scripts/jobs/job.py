"""One job: a command, its run folder, its log, its state, and a second try if it fails."""

import os
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from src.io import UserError, write_error
from src.runs.folder import HEARTBEAT_SECONDS, Run
from src.runs.process import Child

ROOT = Path(__file__).resolve().parents[2]
LOG_NAME = "log.txt"  # in the run folder: what the job prints
LOCK_NAME = ".job.lock"  # held by the process that starts or submits a run
TAIL_LINES, TAIL_BYTES = 20, 16384
USER_ERROR = 2  # exit code; a second try would end in the same way
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
# A training run that saved ends with 128 + signal; a child that does not listen yet dies of it.
STOPPED_CODES = {code for number in STOP_SIGNALS for code in (128 + number, -number)}


@dataclass(frozen=True)
class Job:
    """A command and the folder that holds its state.

    Attributes:
        name: short and unique, for people.
        argv: ["python", "train.py", "exp=erm", ...]; "python" stands for this interpreter, and a
            script's path is relative to the project.
        run_dir: see src/runs/folder.py. A command that writes no status.json there gets one.
    """

    name: str
    argv: list[str]
    run_dir: Path

    @property
    def log(self) -> Path:
        return self.run_dir / LOG_NAME

    def command(self) -> list[str]:
        """Return argv with the full paths of interpreter and script."""
        argv = list(self.argv)
        if argv[0] == "python":
            argv[0] = sys.executable
            if (ROOT / argv[1]).is_file():
                argv[1] = str(ROOT / argv[1])
        return argv


class JobProcess:
    """Runs a job to its end and keeps its state in status.json.

    Args:
        retries: how often a failing command is started again; training resumes.
        environment: variables on top of ours, such as CUDA_VISIBLE_DEVICES.
        slurm_job: the id of the Slurm job that this runs in, for status.json.
    """

    def __init__(
        self,
        job: Job,
        retries: int = 1,
        environment: Mapping[str, str] | None = None,
        slurm_job: str | None = None,
    ):
        self.job, self.retries, self.slurm_job = job, retries, slurm_job
        self.run_folder = Run(job.run_dir)
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self.environment = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": path, **(environment or {})}
        self.child: Child | None = None
        self.error: str | None = None
        self._beat_at = 0.0

    def run(self, stop: Callable[[], object] = lambda: None) -> str:
        """Run the job; return done, failed or stopped. Errors of the job are not raised.

        Args:
            stop: whether a signal arrived; the command then saves and ends.
        """
        try:
            return self._run(stop)
        except (UserError, OSError) as error:  # such as a full disk
            known = isinstance(error, UserError)
            self.error = self.error or str(error if known else write_error(self.job.log, error))
            with suppress(UserError, OSError):
                self.run_folder.set_status(state="failed", error=self.error)
            return "failed"

    def _run(self, stop: Callable[[], object]) -> str:
        self.job.run_dir.mkdir(parents=True, exist_ok=True)
        for _ in range(1 + self.retries):
            code = self._attempt(stop) if not stop() else -signal.SIGTERM
            if code == 0:
                return self._end("done")
            if code in STOPPED_CODES:
                return self._end("stopped")
            if code == USER_ERROR:
                break
        return self._end("failed", describe_exit(code))

    def _attempt(self, stop: Callable[[], object]) -> int:
        now, command = time.time(), self.job.command()
        self.run_folder.set_status(
            **{"state": "running", "host": socket.gethostname(), "pid": os.getpid()},
            **{"started": now, "heartbeat": now, "slurm_job": self.slurm_job},
            **{"error": None, "log_tail": None},
        )
        with self.job.log.open("a") as log:
            log.write(f"\n[{time.strftime('%F %T')}] {shlex.join(command)}\n")
        self._beat_at = time.monotonic()
        self.child = Child(command, self.job.log, self.environment)
        return self.child.run(stop, self._beat)

    def _beat(self) -> None:
        """Write a heartbeat, unless the command writes its own: then its pid is in the status."""
        if time.monotonic() - self._beat_at < HEARTBEAT_SECONDS:
            return
        self._beat_at = time.monotonic()
        with suppress(UserError, OSError):
            status = self.run_folder.status()
            if status["state"] == "running" and status.get("pid") == os.getpid():
                self.run_folder.set_status(heartbeat=time.time())

    def _end(self, state: str, reason: str | None = None) -> str:
        fields = {"state": state, "heartbeat": time.time()}
        if state == "failed":
            # The command's own message says more than its exit code.
            own = self.run_folder.status()
            has_message = own["state"] == "failed" and not own.get("died")
            self.error = (own.get("error") if has_message else None) or reason
            fields |= {"error": self.error, "log_tail": tail(self.job.log)}
        self.run_folder.set_status(**fields)
        return state


def describe_exit(code: int) -> str:
    """Describe the exit code of a failed command."""
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def tail(log: Path, lines: int = TAIL_LINES) -> list[str]:
    """Return the last lines of a log; of a progress bar, only its last state."""
    with suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        text = file.read(TAIL_BYTES).decode(errors="replace").replace("\r\n", "\n")
        shown = [line.rpartition("\r")[2].rstrip() for line in text.split("\n")]
        return [line for line in shown if line][-lines:]
    return []
