"""Write and read metrics.jsonl: one JSON object per line, with a copy for trackers."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from src.io import UserError, write_atomic, write_error
from src.runs.folder import Run
from src.runs.signals import Stopped
from src.training.trackers import open_trackers

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
    """Append metrics to metrics.jsonl and to trackers.

    Opening the log at a checkpoint drops the lines written after this checkpoint.

    Args:
        step, finished_epochs: state of the checkpoint; 0 for a new run.
        trackers: names; see src/training/trackers.py.

    Raises:
        UserError: the disk is full or fails; every method can raise it.
    """

    def __init__(self, run: Run, step: int, finished_epochs: int, trackers: Sequence[str] = ()):
        def is_kept(record: dict[str, Any]) -> bool:
            # The validation of an unfinished epoch is repeated.
            validation = any(key.startswith("val/") for key in record)
            repeated = validation and record["epoch"] > finished_epochs
            return record["step"] <= step and not repeated

        kept = filter(is_kept, read_metrics(run))
        write_atomic(run.metrics, "".join(json.dumps(record) + "\n" for record in kept))
        self._path, self.state = run.metrics, "done"
        with self._disk_errors():
            self._file = run.metrics.open("a")
            self._trackers = open_trackers(trackers, run, step)

    def write(self, step: int, epoch: int, **values: Any) -> None:
        """Append a line with step, epoch (from 1) and flat keys like `val/Blond_Hair/avg_acc`."""
        record = {"step": step, "epoch": epoch, **values}
        with self._disk_errors():
            self._file.write(json.dumps(record, allow_nan=False) + "\n")
            self._file.flush()
            numbers = {key: value for key, value in values.items() if isinstance(value, float)}
            for tracker in self._trackers:
                tracker.log(step, numbers)

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
                for tracker in self._trackers:
                    tracker.close(self.state)
            finally:
                self._file.close()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, kind: type | None, *_: Any) -> None:
        if kind is not None:
            self.state = "stopped" if issubclass(kind, (Stopped, KeyboardInterrupt)) else "failed"
        # If another error ends the run, a failed flush must not hide it.
        with suppress(UserError) if kind else nullcontext():
            self.close()


class Clock:
    """Measures speed since the last log line; the loop counts `images`."""

    def __init__(self) -> None:
        self.start, self.images, self.waited = time.monotonic(), 0, 0.0

    def restart(self, waited: float) -> tuple[float, float]:
        """Return images per second and the share of time spent waiting for data, then restart.

        Args:
            waited: seconds of waiting so far, in total.
        """
        now = time.monotonic()
        seconds = max(now - self.start, 1e-9)
        rate, share = self.images / seconds, (waited - self.waited) / seconds
        self.start, self.images, self.waited = now, 0, waited
        return rate, min(share, 1.0)
