"""head.json of a run whose head was fitted on the cached features of another run."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from src.runs.folder import Run


class HeadInfo(BaseModel):
    """The contents of head.json.

    Attributes:
        base, epoch: run and epoch whose features the head was fitted on.
        weights: `model_hash` of that checkpoint; empty in older files.
        fit_rows: positions of validation that the head was fitted on.
        chosen: hyperparameters that were selected, for people to read.
    """

    base: str
    epoch: int | str
    weights: str = ""
    fit_rows: list[int]
    chosen: dict[str, Any]


def head_file(run: Run) -> Path:
    return run.path / "head.json"
