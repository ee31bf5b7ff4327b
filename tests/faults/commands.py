"""Run project commands as processes: kill them, or let their disk fail at a chosen call."""

import errno
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent
PATIENCE = 600  # seconds for what takes two on a free machine; only a hang takes longer
COUNT, FAIL_ONCE, FAIL_FROM, KILL, STOP = 1, 2, 3, 4, 5  # as in disk_faults.c


@dataclass(frozen=True)
class Fault:
    """A fault at the `at`-th call that changes a file whose path contains `match`."""

    match: str
    action: int
    at: int = 0
    error: int = errno.ENOSPC
    log: str | None = None


def build_shim(folder: Path) -> Path:
    """Compile disk_faults.c; without a compiler the tests that need it are skipped."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("a failing disk needs a C compiler (Debian: gcc libc6-dev)")
    shim = folder / "disk_faults.so"
    source = Path(__file__).parent / "disk_faults.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True)
    return shim


class Process:
    """A running command."""

    def __init__(self, commands: "Commands", pid: int, output: Path):
        self.commands, self.pid, self.file = commands, pid, output
        self._end = os.pidfd_open(pid)

    @property
    def output(self) -> str:
        return self.file.read_text(errors="replace") if self.file.exists() else ""

    def ended(self, seconds: float = 0) -> bool:
        """Wait until it ends, at most `seconds`."""
        return bool(select.select([self._end], [], [], seconds)[0])

    def kill(self) -> None:
        """Send SIGKILL to the command and all its children."""
        os.killpg(self.pid, signal.SIGKILL)

    def stands(self) -> bool:
        """Return whether it has reached its STOP."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def go_on(self) -> None:
        """Continue after a STOP."""
        os.kill(self.pid, signal.SIGCONT)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Return its exit code; negative if a signal ended it."""
        if not self.ended(seconds):
            self.kill()
            self.ended(10)
            raise AssertionError(f"did not end within {seconds} s:\n{self.output}")
        os.close(self._end)
        return self.commands.ask({"wait": self.pid})


class Commands:
    """Starts commands by the server of server.py and keeps their outputs."""

    def __init__(self, shim: Path, folder: Path):
        self.folder, self.shim = folder, shim
        self.numbers, self.lock = itertools.count(1), threading.Lock()  # of several callers
        self.environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            "LD_PRELOAD": str(shim),
            "PYTHONPATH": str(REPOSITORY),
        }
        self.server = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.server"],
            cwd=REPOSITORY,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, request: dict) -> int:
        with self.lock:
            self.server.stdin.write(json.dumps(request) + "\n")
            self.server.stdin.flush()
            return json.loads(self.server.stdout.readline())

    def start(self, *argv: object, fault: Fault | None = None, output: Path | None = None):
        """Start `train_erm.py ...` or `-m scripts.status ...` and return its `Process`."""
        output = output or self.folder / f"output{next(self.numbers)}.txt"
        command = {
            "argv": [str(piece) for piece in argv],
            "folder": str(REPOSITORY),
            "output": str(output),
            "fault": asdict(fault) if fault else None,
        }
        return Process(self, self.ask({"start": command}), output)

    def run(self, *argv: object, fault: Fault | None = None, seconds: float = PATIENCE):
        """Run a command to its end; return its exit code and output."""
        process = self.start(*argv, fault=fault)
        return process.wait(seconds), process.output

    def count_calls(self, match: str, *argv: object) -> list[str]:
        """Return all calls of a command that change files whose path contains `match`."""
        log = self.folder / f"calls{next(self.numbers)}.txt"
        code, output = self.run(*argv, fault=Fault(match, COUNT, log=str(log)))
        assert code == 0, output
        return log.read_text().splitlines()

    def close(self) -> None:
        self.server.kill()  # it has nothing to save
        self.server.communicate()


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder except hidden ones, locks and logs.

    The folder's own path is removed from their contents.
    """
    return {
        str(path.relative_to(folder)): path.read_bytes().replace(str(folder).encode(), b"")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.suffix not in (".lock", ".txt")
        and path.name != "status.json"
    }


def wait_until(reached, process: Process, seconds: float = PATIENCE) -> None:
    """Wait until `reached()` is true or the process ends."""
    deadline = time.monotonic() + seconds
    while not reached() and not process.ended(0.002):
        assert time.monotonic() < deadline, process.output
