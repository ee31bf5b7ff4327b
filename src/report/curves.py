"""Read a run's curves from metrics.jsonl, thinned to what a figure can show."""

from collections.abc import Mapping, Sequence
from typing import Any

from src.runs.folder import Run
from src.training.metrics_log import parse_record, read_lines

# Points kept of a curve: more do not show at its width, and hundreds of runs must stay small.
MOST_POINTS = 150
DECIMALS = 5  # thousandths of a percent


def run_curves(run: Run, tasks: Sequence[str]) -> dict[str, Any]:
    """Return a run's thinned curves: validation by epoch, loss and task weights by step.

    Those of JTT are of its second stage. Values that were not logged are None; constant weights
    are left out. Cosines are those between the gradients of two tasks.
    """
    second = Run(run.path / "stage_2")
    lines = read_lines(second if second.config.exists() else run)
    while lines and parse_record(lines[-1]) is None:  # cut short by a kill
        lines.pop()
    validated = [r for r in _records(lines, '"val/') if any(key.startswith("val/") for key in r)]
    trained = [r for r in _records(lines, '"train/loss"') if "train/loss" in r]

    def column(kept: Sequence[Mapping[str, Any]], key: str) -> list[float | None]:
        values = [record.get(key) for record in kept]
        return [round(value, DECIMALS) if type(value) in (int, float) else None for value in values]

    weights = {task: column(trained, f"train/{task}/weight") for task in tasks}
    cosines = {
        f"{task}, {other}": column(trained, f"train/{task}/cosine/{other}")
        for task in tasks
        for other in tasks
        if trained and f"train/{task}/cosine/{other}" in trained[-1]
    }
    constant = all(len(set(values)) <= 1 for values in weights.values())
    return {
        "epochs": [record["epoch"] for record in validated],
        "average": {task: column(validated, f"val/{task}/avg_acc") for task in tasks},
        "worst_group": {task: column(validated, f"val/{task}/worst_group_acc") for task in tasks},
        "steps": [record["step"] for record in trained],
        "loss": column(trained, "train/loss"),
        "weights": {} if constant else weights,
        "cosines": cosines,
    }


def _records(lines: Sequence[str], mark: str) -> list[dict[str, Any]]:
    """Parse some of the lines that contain `mark`: a long run has thousands of lines."""
    kept = thin([line for line in lines if mark in line])
    return [record for line in kept if (record := parse_record(line)) is not None]


def thin(records: Sequence[Any], most: int = MOST_POINTS) -> list[Any]:
    """Return at most `most` records, evenly spread, with the first and the last."""
    if len(records) <= most:
        return list(records)
    return [records[round(at * (len(records) - 1) / (most - 1))] for at in range(most)]


def rounded(value: Any) -> Any:
    """Round floats to `DECIMALS`, but for those of settings."""
    if type(value) is float:
        return round(value, DECIMALS)
    if isinstance(value, dict):
        return {key: entry if key == "settings" else rounded(entry) for key, entry in value.items()}
    return list(map(rounded, value)) if isinstance(value, list) else value
