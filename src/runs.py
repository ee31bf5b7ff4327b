"""A run directory: its files, its name and its state. A run's state is what its folder shows."""

import hashlib
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from src.data.groupings import parse_grouping
from src.errors import UserError
from src.files import exclusive, read_json, write_atomic, write_error, write_json

# new: nothing ran yet; queued: handed to a scheduler; stopped: saved on a signal, goes on when
# started again; failed: ended with an error, or its process died.
STATES = ("new", "queued", "running", "stopped", "failed", "done")
HEARTBEAT_SECONDS = 15.0
# A running process that has not said anything for this long is taken for dead.
DEAD_AFTER_SECONDS = 150.0
LONGEST_NAME = 160


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

    def status(self) -> dict[str, Any]:
        """What status.json says; where the process is dead, `state` is failed and `died` true."""
        if not self.status_file.exists():
            return {"state": "new"}
        status = read_json(self.status_file)
        if not isinstance(status, dict) or status.get("state") not in STATES:
            raise UserError(f"{self.status_file} holds no known state; delete it to start again")
        if status["state"] == "running" and _is_dead(status):
            error = f"its process died: no heartbeat since {_clock(status['heartbeat'])}"
            status |= {"state": "failed", "error": error, "died": True}
        return status

    def set_status(self, **fields: Any) -> None:
        """Write fields over those of status.json, whole."""
        known = read_json(self.status_file) if self.status_file.exists() else {}
        write_json(self.status_file, known | fields)

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
    if status.get("host") == socket.gethostname() and "pid" in status:
        try:
            os.kill(status["pid"], 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
    return time.time() - status.get("heartbeat", 0) > DEAD_AFTER_SECONDS


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


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
        failed = error is not None and not isinstance(error, Stopped)
        state = "stopped" if isinstance(error, Stopped) else self.state_at_end
        self.update(state="failed" if failed else state)
        if failed:
            self.update(error=str(error) or kind.__name__)
        with suppress(UserError, OSError):
            self._write()


class Stopped(SystemExit):
    """The run saved and ended on a signal; started again it goes on."""

    def __init__(self, signum: int):
        super().__init__(128 + signum)


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], int | None]]:
    """Turn SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 into a request to save and stop.

    Yields a function that returns the signal that came, or None. A second Ctrl-C ends at once.
    """
    came: list[int] = []

    def remember(signum: int, frame: FrameType | None) -> None:
        if came and signum == signal.SIGINT:
            raise KeyboardInterrupt
        came.append(signum)

    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
    before = {number: signal.signal(number, remember) for number in signals}
    try:
        yield lambda: came[0] if came else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class MetricsLog:
    """metrics.jsonl, one JSON object a line, and the same numbers for TensorBoard.

    Opened at a checkpoint, it first drops the lines written after that checkpoint.
    """

    def __init__(self, run: Run, step: int, finished_epochs: int, tensorboard: bool):
        kept = [
            record
            for record in read_metrics(run)
            if record["step"] <= step
            and (
                record["epoch"] <= finished_epochs or not any(k.startswith("val/") for k in record)
            )
        ]
        write_atomic(run.metrics, "".join(json.dumps(record) + "\n" for record in kept))
        self._file = run.metrics.open("a")
        self._board = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(run.path), purge_step=step + 1 if step else None)

    def write(self, step: int, epoch: int, **values: Any) -> None:
        """Append a line: step, epoch (from 1) and flat keys such as `val/Blond_Hair/avg_acc`."""
        try:
            record = {"step": step, "epoch": epoch, **values}
            self._file.write(json.dumps(record, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise write_error(Path(self._file.name), error) from error
        if self._board is not None:
            for key, value in values.items():
                if isinstance(value, float):
                    self._board.add_scalar(key, value, step)

    def close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_metrics(run: Run) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; the half line of a killed process is left out."""
    records = []
    for line in run.metrics.read_text().splitlines() if run.metrics.exists() else []:
        with suppress(ValueError):
            records.append(json.loads(line))
    return records


def default_log_dir(
    name: str, groupings: list[str], changed: dict[str, Any], seed: int, parent: str = "logs"
) -> Path:
    """logs/<exp>/<tasks>/<values that differ from the exp's YAML>-seed<seed>.

    `changed` maps dotted keys to values, and `model` or `dataset` to the part that was chosen as a
    whole. A short hash of all of it is added where a value had to be shortened or respelled, so
    that two different commands never share a folder.
    """
    tasks = _fit("_".join(parse_grouping(grouping).slug for grouping in groupings), groupings)
    pieces = []
    for key, value in changed.items():
        section, _, leaf = key.rpartition(".")
        label = section if leaf == "name" else leaf
        if key in ("model", "dataset"):
            label = ""  # a part chosen as a whole speaks for itself: resnet18
        if section.startswith("stage_"):
            label = f"{section.split('.')[0]}_{leaf}"
        pieces.append(label + _spell(value))
    full = "-".join([*pieces, f"seed{seed}"])
    return Path(parent) / name / tasks / _fit(full, [*changed.items()], suffix=f"-seed{seed}")


def _spell(value: Any) -> str:
    if isinstance(value, list):
        return "x".join(_spell(entry) for entry in value)
    if isinstance(value, str):
        return value.replace("-", "~")  # '-' separates values; _fit puts it back and adds a hash
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return str(value).lower()


def _fit(text: str, meant: Any, suffix: str = "") -> str:
    """`text` as a file name without : , = or space, not too long; with a hash where it changed."""
    clean = re.sub(r"[^A-Za-z0-9_.+-]+", "-", text).lstrip(".-")
    if clean == text and len(text) <= LONGEST_NAME:
        return text
    digest = hashlib.sha256(json.dumps([text, meant], default=str).encode()).hexdigest()[:8]
    body = clean.removesuffix(suffix)[: LONGEST_NAME - len(suffix) - len(digest) - 1]
    return f"{body}-{digest}{suffix}"
