"""One job as a child process: its log, its state, a second try, and the wait for it to save."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from src.io import UserError, write_error
from src.runs.folder import HEARTBEAT_SECONDS, Run

ROOT = Path(__file__).resolve().parents[2]
LOG_NAME = "log.txt"  # in the run folder: what the job's processes print
LOCK_NAME = ".job.lock"  # held by whoever starts or submits a run
TAIL_LINES, TAIL_BYTES = 20, 16384
USER_ERROR = 2  # a second try would end the same way
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
# A training run that saved ends with 128+signal; a child hit before it listens dies of the signal.
STOPPED_CODES = {code for number in STOP_SIGNALS for code in (128 + number, -number)}


@dataclass(frozen=True)
class Job:
    """A command and the folder that holds its state.

    Args:
        name: short, unique, for people.
        argv: ["python", "train_erm.py", "exp=erm", ...]; "python" stands for this interpreter, and
            a script's path is relative to the project.
        run_dir: see src/runs/folder.py. A command that keeps no status.json there itself gets one.
    """

    name: str
    argv: Sequence[str]
    run_dir: Path

    @property
    def log(self) -> Path:
        return self.run_dir / LOG_NAME


def command_of(job: Job) -> list[str]:
    """argv as it is run: this interpreter, and the script wherever we are."""
    argv = list(job.argv)
    if argv[0] == "python":
        argv[0] = sys.executable
        if (ROOT / argv[1]).is_file():
            argv[1] = str(ROOT / argv[1])
    return argv


class JobProcess:
    """Runs a job to its end and leaves its state in status.json.

    Args:
        retries: how often a failing command is started again; one that trains goes on where it was.
        environment: variables on top of ours, such as CUDA_VISIBLE_DEVICES.
        slurm_job: the id of the Slurm job this runs in, for status.json.
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
        paths = [str(ROOT), os.environ.get("PYTHONPATH")]
        self.environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        self.environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        self.child: subprocess.Popen | None = None
        self.stopping = False
        self.error: str | None = None

    def run(self) -> str:
        """Run it; returns done, failed or stopped, and never raises for what the job did."""
        try:
            return self._run()
        except (UserError, OSError) as error:  # nothing can be written there: a full disk
            own = isinstance(error, UserError)
            self.error = self.error or str(error if own else write_error(self.job.log, error))
            with suppress(UserError, OSError):
                self.run_folder.set_status(state="failed", error=self.error)
            return "failed"

    def _run(self) -> str:
        self.job.run_dir.mkdir(parents=True, exist_ok=True)
        with self.job.log.open("ab", buffering=0) as log, _now_and_then(self._beat):
            for _ in range(1 + self.retries):
                if self.stopping:
                    return self._end("stopped")
                code = self._attempt(log)
                if code == 0:
                    return self._end("done")
                if code in STOPPED_CODES:
                    return self._end("stopped")
                if code == USER_ERROR:
                    break
            return self._end("failed", _reason(code))

    def _attempt(self, log: BinaryIO) -> int:
        self.run_folder.set_status(
            state="running",
            host=socket.gethostname(),
            pid=os.getpid(),
            started=time.time(),
            heartbeat=time.time(),
            slurm_job=self.slurm_job,
            error=None,
            log_tail=None,
        )
        argv = command_of(self.job)
        log.write(f"\n[{time.strftime('%Y-%m-%d %H:%M:%S')}] {shlex.join(argv)}\n".encode())
        try:
            self.child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
            )
        except OSError as error:
            raise UserError(f"{argv[0]} cannot be started: {error.strerror}") from error
        if self.stopping:  # asked to while the child was being made
            self.child.terminate()
        self.wait()
        return self.child.wait()

    def _beat(self) -> None:
        """Speak for a command that keeps no status of its own; one that does has its pid there."""
        status = self.run_folder.status()
        if status["state"] == "running" and status.get("pid") == os.getpid():
            self.run_folder.set_status(heartbeat=time.time())

    def _end(self, state: str, reason: str | None = None) -> str:
        fields = {"state": state, "heartbeat": time.time()}
        if state == "failed":
            # The command's own message says more than its exit code.
            own = self.run_folder.status()
            spoke = own["state"] == "failed" and not own.get("died")
            self.error = (own.get("error") if spoke else None) or reason
            fields |= {"error": self.error, "log_tail": tail(self.job.log)}
        self.run_folder.set_status(**fields)
        return state

    def stop(self, signum: int = signal.SIGTERM) -> None:
        """Ask the command to save and end. Safe in a signal handler."""
        self.stopping = True
        if self.child is not None:
            self.child.send_signal(signum)

    def wait(self) -> None:
        """Return when the command has ended. Safe in a signal handler during another wait.

        Popen.wait holds a lock that a handler in the same thread would wait for, so the end is
        looked at without taking the exit code away.
        """
        if self.child is not None:
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, self.child.pid, os.WEXITED | os.WNOWAIT)


def _reason(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def tail(log: Path, lines: int = TAIL_LINES) -> list[str]:
    """The last lines of a log; a progress bar counts as its last state."""
    with suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        text = file.read(TAIL_BYTES).decode(errors="replace").replace("\r\n", "\n")
        shown = [line.rpartition("\r")[2].rstrip() for line in text.split("\n")]
        return [line for line in shown if line][-lines:]
    return []


@contextmanager
def _now_and_then(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` from a thread while the block runs."""
    ended = threading.Event()

    def loop() -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            with suppress(UserError, OSError):
                act()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
