"""A run directory: its files and its state. A run's state is what its folder shows."""

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from src.io import UserError, exclusive, read_json, write_json
from src.json_shapes import Number, Or, misfit
from src.runs.signals import Stopped

# new: nothing ran yet; queued: handed to a scheduler; stopped: saved on a signal, goes on when
# started again; failed: ended with an error, or its process died.
STATES = ("new", "queued", "running", "stopped", "failed", "done")
HEARTBEAT_SECONDS = 15.0
# A running process that has not said anything for this long is taken for dead.
DEAD_AFTER_SECONDS = 150.0
# What status.json may say; a field that is not there is as good as null.
STATUS_FIELDS = dict.fromkeys(("pid", "step", "total_steps", "epoch", "total_epochs"), int)
STATUS_FIELDS |= dict.fromkeys(("heartbeat", "started", "queued", "images_per_second"), Number)
STATUS_FIELDS |= dict.fromkeys(("host", "error", "stage", "slurm_job"), str)
HISTORY = {"epochs": {"*": {"*": Number}}, "selected": {"*": int}}


def is_epoch(name: str) -> bool:
    """Whether a checkpoint's name is a number (`isdigit` also says so of what int() refuses)."""
    return re.fullmatch("[0-9]{1,9}", name) is not None


class Run:
    """The files of one run directory."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.jsonl"
        self.results = self.path / "results"
        self.ckpts = self.path / "ckpts"
        self.status_file = self.path / "status.json"
        self.val_stats = self.results / "val_stats.json"

    def epoch_stats(self, epoch: int) -> Path:
        return self.results / f"val_stats_{epoch}.json"

    def stats(self, split: str, checkpoint: str) -> Path:
        return self.results / f"{split}_stats_{checkpoint}.json"

    def logits(self, split: str, epoch: int | str) -> Path:
        return self.results / f"{split}_logits_{epoch}.npz"

    def checkpoint(self, epoch: int | str) -> Path:
        return self.ckpts / f"ckpt.{epoch}.pt"

    def saved_epochs(self) -> list[int]:
        """Epochs whose checkpoints are kept."""
        names = (path.name.split(".")[1] for path in self.ckpts.glob("ckpt.*.pt"))
        return sorted(int(name) for name in names if is_epoch(name))

    def status(self) -> dict[str, Any]:
        """What status.json says; where the process is dead, `state` is failed and `died` true."""
        if not self.status_file.exists():
            return {"state": "new"}
        status = read_json(self.status_file)
        if not isinstance(status, dict) or status.get("state") not in [*STATES]:
            raise UserError(f"{self.status_file} holds no known state; delete it to start again")
        shape = {name: Or(kind, None) for name, kind in STATUS_FIELDS.items() if name in status}
        problem = misfit(status, shape)
        if problem:
            raise UserError(f"{self.status_file}: {problem}; delete it to start again")
        if status["state"] == "running" and _is_dead(status):
            error = f"its process died: no heartbeat since {_clock(status.get('heartbeat'))}"
            status |= {"state": "failed", "error": error, "died": True}
        return status

    def set_status(self, **fields: Any) -> None:
        """Write fields over those of status.json, whole; a job's parent and child both do."""
        # For a short while only: a signal's handler may be called amid this very call, and a
        # holder may be suspended.
        with exclusive(self.path / ".status.lock", patience=2.0):
            known = read_json(self.status_file, {}) if self.status_file.exists() else {}
            write_json(self.status_file, known | fields)

    def history(self) -> dict[str, Any]:
        """val_stats.json: `epochs`, epoch number to the score by rule, and `selected`, rule to the
        epoch that it chooses.

        Raises:
            UserError: missing, damaged, or a choice of an epoch that it does not tell of.
        """
        history = read_json(self.val_stats, HISTORY)
        try:
            epochs = {int(epoch): values for epoch, values in history["epochs"].items()}
            for rule, epoch in history["selected"].items():
                epochs[epoch][rule]
        except (ValueError, KeyError) as error:
            raise UserError(
                f"{self.val_stats} does not fit together ({error!s:.80}); delete it to make it anew"
            ) from error
        return history | {"epochs": epochs}

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Be the only process that trains in this folder.

        Raises:
            UserError: another process does.
        """
        with exclusive(self.path / ".lock") as free:
            if not free:
                holder = self.status()
                raise UserError(
                    f"{self.path} is being trained by process {holder.get('pid', '?')} on "
                    f"{holder.get('host', '?')}: wait for it, or stop it first"
                )
            yield


def _is_dead(status: dict[str, Any]) -> bool:
    if status.get("host") == socket.gethostname() and status.get("pid") is not None:
        try:
            os.kill(status["pid"], 0)
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):
            pass
    return time.time() - (status.get("heartbeat") or 0) > DEAD_AFTER_SECONDS


def _clock(seconds: float | None) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds or 0))
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s after 1970"


class Heartbeat:
    """Keeps status.json of a running run fresh from a thread; ends as done, stopped or failed."""

    def __init__(self, run: Run, **fields: Any):
        self.run = run
        self.fields = {"state": "running", "host": socket.gethostname(), "pid": os.getpid()}
        self.fields |= {"started": time.time(), "error": None, **fields}
        self.state_at_end = "done"
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="heartbeat")

    def update(self, **fields: Any) -> None:
        """New values for the next beat, e.g. step=100, images_per_second=812.5."""
        with self._lock:
            self.fields |= fields

    def _write(self) -> None:
        with self._lock:
            self.run.set_status(**self.fields, heartbeat=time.time())

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            # A full disk must not end training here: saving a checkpoint will say so.
            with suppress(UserError, OSError):
                self._write()

    def __enter__(self) -> "Heartbeat":
        self._write()
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _: Any) -> None:
        self._ended.set()
        self._thread.join()
        # A second Ctrl-C saves nothing more, but the run goes on from what was saved before.
        stopped = isinstance(error, (Stopped, KeyboardInterrupt))
        failed = error is not None and not stopped
        state = "stopped" if stopped else self.state_at_end
        self.update(state="failed" if failed else state)
        if failed:
            self.update(error=str(error) or kind.__name__)
        # Of a run that ends with an error, that one is the news; only its state goes unsaid.
        with suppress(UserError, OSError) if error else nullcontext():
            self._write()
