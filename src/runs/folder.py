"""A run folder: its files, its state, and the heartbeat of a running process."""

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from src.io import UserError, exclusive, read_json, validation_problems, write_json
from src.runs.signals import Stopped

# new: nothing ran yet; queued: submitted to a scheduler; stopped: saved on a signal, the same
# command resumes it; failed: ended with an error, or its process died.
STATES = ("new", "queued", "running", "stopped", "failed", "done")
HEARTBEAT_SECONDS = 15.0
# A running process without a heartbeat for this long is taken for dead.
DEAD_AFTER_SECONDS = 150.0


class Status(BaseModel):
    """The known fields of status.json; missing ones are null."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    state: Literal[STATES]
    pid: int | None = None
    host: str | None = None
    heartbeat: float | None = None
    started: float | None = None
    queued: float | None = None
    step: int | None = None
    total_steps: int | None = None
    epoch: int | None = None
    total_epochs: int | None = None
    images_per_second: float | None = None
    stage: str | None = None
    error: str | None = None
    slurm_job: str | None = None


class History(BaseModel):
    """val_stats.json: the score of each epoch by rule, and the epoch that each rule selects."""

    epochs: dict[int, dict[str, float | None]]  # None: no example was held out
    selected: dict[str, int]


def is_epoch(name: str) -> bool:
    """Return whether a checkpoint's name is a number."""
    return re.fullmatch("[0-9]{1,9}", name) is not None


class Run:
    """The files of one run folder."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.provenance = self.path / "provenance.json"
        self.metrics = self.path / "metrics.jsonl"
        self.results = self.path / "results"
        self.ckpts = self.path / "ckpts"
        self.status_file = self.path / "status.json"
        self.val_stats = self.results / "val_stats.json"
        self.classes_file = self.path / "classes.json"

    def classes(self) -> dict[str, list[str]] | None:
        """Return the class names of the columns it uses; None if all are CelebA's 0 and 1."""
        for path in (self.classes_file, self.path.parent / self.classes_file.name):  # of a stage
            if path.exists():
                return read_json(path, dict[str, list[str]])
        return None

    def epoch_stats(self, epoch: int | str) -> Path:
        return self.results / f"val_stats_{epoch}.json"

    def stats(self, split: str, checkpoint: str) -> Path:
        return self.results / f"{split}_stats_{checkpoint}.json"

    def logits(self, split: str, epoch: int | str) -> Path:
        return self.results / f"{split}_logits_{epoch}.npz"

    def features(self, split: str, epoch: int | str) -> Path:
        return self.results / f"{split}_features_{epoch}.safetensors"

    def probes(self, split: str, checkpoint: str) -> Path:
        return self.results / f"{split}_probes_{checkpoint}.json"

    def checkpoint(self, epoch: int | str) -> Path:
        return self.ckpts / f"ckpt.{epoch}.pt"

    def saved_epochs(self) -> list[int]:
        """List the epochs whose checkpoints are kept."""
        names = (path.name.split(".")[1] for path in self.ckpts.glob("ckpt.*.pt"))
        return sorted(int(name) for name in names if is_epoch(name))

    def status(self) -> dict[str, Any]:
        """Read status.json; if the process is dead, `state` is failed and `died` true."""
        if not self.status_file.exists():
            return {"state": "new"}
        status = read_json(self.status_file, dict)
        try:
            Status.model_validate(status)
        except ValidationError as error:
            reason = "; ".join(validation_problems(error))
            raise UserError(f"{self.status_file}: {reason}; delete it to start again") from error
        if status["state"] == "running" and _is_dead(status):
            since = time.strftime("%F %T", time.localtime(status.get("heartbeat") or 0))
            error = f"its process died: no heartbeat since {since}"
            status |= {"state": "failed", "error": error, "died": True}
        return status

    def set_status(self, **fields: Any) -> None:
        """Write fields over those of status.json, as a job's parent and child both do."""
        # Wait only a short while: a signal handler may run in the middle of this very call, and the
        # holder of the lock may be suspended.
        with exclusive(self.path / ".status.lock", patience=2.0):
            known = read_json(self.status_file, dict) if self.status_file.exists() else {}
            write_json(self.status_file, known | fields)

    def history(self) -> dict[str, Any]:
        """Read val_stats.json; see `History`.

        Raises:
            UserError: it is missing or damaged, or selects an epoch that it does not list.
        """
        history = read_json(self.val_stats, History)
        if any(rule not in history.epochs.get(e, {}) for rule, e in history.selected.items()):
            raise UserError(f"{self.val_stats} is damaged; delete it so that it is written again")
        return history.model_dump()

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Be the only process that trains in this folder.

        Raises:
            UserError: another process trains in it.
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
        except PermissionError:
            pass
    return time.time() - (status.get("heartbeat") or 0) > DEAD_AFTER_SECONDS


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
        """Set values of the next heartbeat, e.g. step=100, images_per_second=812.5."""
        with self._lock:
            self.fields |= fields

    def _write(self) -> None:
        with self._lock:
            self.run.set_status(**self.fields, heartbeat=time.time())

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            # A full disk must not end training here: saving a checkpoint will report it.
            with suppress(UserError, OSError):
                self._write()

    def __enter__(self) -> "Heartbeat":
        self._write()
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _: Any) -> None:
        self._ended.set()
        self._thread.join()
        # A second Ctrl-C saves nothing more, but the run can resume from its last checkpoint.
        stopped = isinstance(error, (Stopped, KeyboardInterrupt))
        failed = error is not None and not stopped
        state = "stopped" if stopped else self.state_at_end
        self.update(state="failed" if failed else state)
        if failed:
            self.update(error=str(error) or kind.__name__)
        # If the run ends with an error, that error is shown, not one about status.json.
        with suppress(UserError, OSError) if error else nullcontext():
            self._write()
