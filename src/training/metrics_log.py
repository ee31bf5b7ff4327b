"""metrics.jsonl of a run: one JSON object a line, and the same numbers for TensorBoard."""

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

_NEEDED = ("step", "epoch")  # of every record


def read_metrics(run: Run) -> list[dict[str, Any]]:
    """The records of metrics.jsonl; the half line of a killed process is left out, and so is
    whatever else is no record.

    Raises:
        UserError: see `read_lines`.
    """
    return [record for line in read_lines(run) if (record := parse_record(line)) is not None]


def read_lines(run: Run) -> list[str]:
    """The lines of metrics.jsonl as they stand there, none where there is no such file.

    Raises:
        UserError: it cannot be read: it is a folder, or the disk fails.
    """
    try:
        return run.metrics.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(
            f"{run.metrics} cannot be read ({error.strerror}); move it away to make it anew"
        ) from error


def parse_record(line: str) -> dict[str, Any] | None:
    """The record in a line of metrics.jsonl; None where it is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    sound = isinstance(record, dict) and all(type(record.get(key)) is int for key in _NEEDED)
    return record if sound else None


class MetricsLog:
    """metrics.jsonl, one JSON object a line, and the same numbers for TensorBoard.

    Opened at a checkpoint, it first drops the lines written after that checkpoint.

    Raises:
        UserError: here and in every call, the disk is full or fails.
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
        self._path, self._board, self._hook = run.metrics, None, threading.excepthook
        with self._told():
            self._file = run.metrics.open("a")
            if tensorboard:
                from torch.utils.tensorboard import SummaryWriter

                threading.excepthook = self._report_unless_told
                self._board = SummaryWriter(str(run.path), purge_step=step + 1 if step else None)

    def write(self, step: int, epoch: int, **values: Any) -> None:
        """Append a line: step, epoch (from 1) and flat keys such as `val/Blond_Hair/avg_acc`."""
        record = {"step": step, "epoch": epoch, **values}
        with self._told():
            self._file.write(json.dumps(record, allow_nan=False) + "\n")
            self._file.flush()
            for key, value in values.items():
                if self._board is not None and isinstance(value, float):
                    self._board.add_scalar(key, value, step)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # TensorBoard writes from a thread of its own, and its errors name no file.
            raise write_error(Path(os.fsdecode(error.filename or self._path)), error) from error

    def close(self) -> None:
        with self._told():
            try:
                if self._board is not None:
                    self._board.close()
            finally:
                self._file.close()
        # Not where that failed: TensorBoard's thread may be just about to report it, too.
        threading.excepthook = self._hook

    def _report_unless_told(self, failure: threading.ExceptHookArgs) -> None:
        """TensorBoard's thread hands an error of the disk to its next caller, which tells it."""
        if not issubclass(failure.exc_type, OSError):
            self._hook(failure)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, kind: type | None, *_: Any) -> None:
        # Where an error ends the run, what cannot be written now is no news.
        with suppress(UserError) if kind else nullcontext():
            self.close()


class Clock:
    """Images per second, and the share of time spent waiting for data, since the last log line."""

    def __init__(self) -> None:
        self.start, self.images, self.waited = time.monotonic(), 0, 0.0

    def count(self, images: int) -> None:
        self.images += images

    def images_per_second(self) -> float:
        return self.images / max(time.monotonic() - self.start, 1e-9)

    def share(self, waited: float) -> float:
        """Of the time since the last call; `waited` is the sum of all waiting so far."""
        now = time.monotonic()
        share = (waited - self.waited) / max(now - self.start, 1e-9)
        self.start, self.images, self.waited = now, 0, waited
        return min(share, 1.0)
