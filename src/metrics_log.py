"""metrics.jsonl of a run: one JSON object a line, and the same numbers for TensorBoard."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from src.files import write_atomic, write_error
from src.runs import Run


def read_metrics(run: Run) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; the half line of a killed process is left out."""
    records = []
    for line in run.metrics.read_text().splitlines() if run.metrics.exists() else []:
        with suppress(ValueError):
            records.append(json.loads(line))
    return records


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
