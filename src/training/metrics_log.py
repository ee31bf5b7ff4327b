"""Write and read metrics.jsonl: one JSON object per line, with a copy for TensorBoard."""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from src.io import UserError, write_atomic, write_error
from src.runs.folder import Run

_REQUIRED = ("step", "epoch")  # in every record


def read_metrics(run: Run) -> list[dict[str, Any]]:
    """Return the records of metrics.jsonl; skip the truncated line of a killed process.

    Raises:
        UserError: see `read_lines`.
    """
    return [record for line in read_lines(run) if (record := parse_record(line)) is not None]


def read_lines(run: Run) -> list[str]:
    """Return the raw lines of metrics.jsonl, or an empty list if the file is missing.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        return run.metrics.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(
            f"{run.metrics} cannot be read ({error.strerror}); move it away to start a new one"
        ) from error


def parse_record(line: str) -> dict[str, Any] | None:
    """Parse a line of metrics.jsonl; return None if it is not a record."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    valid = isinstance(record, dict) and all(type(record.get(key)) is int for key in _REQUIRED)
    return record if valid else None


class MetricsLog:
    """Append metrics to metrics.jsonl and, optionally, to TensorBoard.

    Opening the log at a checkpoint drops the lines written after this checkpoint.

    Args:
        step, finished_epochs: state of the checkpoint; 0 for a new run.

    Raises:
        UserError: the disk is full or fails; every method can raise it.
    """

    def __init__(self, run: Run, step: int, finished_epochs: int, tensorboard: bool):
        def is_kept(record: dict[str, Any]) -> bool:
            # The validation of an unfinished epoch is repeated.
            validation = any(key.startswith("val/") for key in record)
            repeated = validation and record["epoch"] > finished_epochs
            return record["step"] <= step and not repeated

        kept = filter(is_kept, read_metrics(run))
        write_atomic(run.metrics, "".join(json.dumps(record) + "\n" for record in kept))
        self._path, self._board, self._hook = run.metrics, None, threading.excepthook
        with self._disk_errors():
            self._file = run.metrics.open("a")
            if tensorboard:
                from torch.utils.tensorboard import SummaryWriter

                threading.excepthook = self._ignore_disk_errors
                self._board = SummaryWriter(str(run.path), purge_step=step + 1 if step else None)

    def write(self, step: int, epoch: int, **values: Any) -> None:
        """Append a line with step, epoch (from 1) and flat keys like `val/Blond_Hair/avg_acc`."""
        record = {"step": step, "epoch": epoch, **values}
        with self._disk_errors():
            self._file.write(json.dumps(record, allow_nan=False) + "\n")
            self._file.flush()
            for key, value in values.items():
                if self._board is not None and isinstance(value, float):
                    self._board.add_scalar(key, value, step)

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # Errors from TensorBoard's writer thread carry no file name.
            raise write_error(Path(os.fsdecode(error.filename or self._path)), error) from error

    def close(self) -> None:
        with self._disk_errors():
            try:
                if self._board is not None:
                    self._board.close()
            finally:
                self._file.close()
        # Kept if closing failed: TensorBoard's thread may be about to report the same error.
        threading.excepthook = self._hook

    def _ignore_disk_errors(self, failure: threading.ExceptHookArgs) -> None:
        """Silence disk errors in TensorBoard's thread, which raises them in the next call, too."""
        if not issubclass(failure.exc_type, OSError):
            self._hook(failure)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, kind: type | None, *_: Any) -> None:
        # If another error ends the run, a failed flush must not hide it.
        with suppress(UserError) if kind else nullcontext():
            self.close()


class Clock:
    """Measure images per second and the share of time spent waiting for data.

    Both refer to the time since the last log line.
    """

    def __init__(self) -> None:
        self.start, self.images, self.waited = time.monotonic(), 0, 0.0

    def count(self, images: int) -> None:
        self.images += images

    def images_per_second(self) -> float:
        return self.images / max(time.monotonic() - self.start, 1e-9)

    def share(self, waited: float) -> float:
        """Return the share of waiting since the last call, and restart the clock.

        Args:
            waited: seconds of waiting so far, in total.
        """
        now = time.monotonic()
        share = (waited - self.waited) / max(now - self.start, 1e-9)
        self.start, self.images, self.waited = now, 0, waited
        return min(share, 1.0)
