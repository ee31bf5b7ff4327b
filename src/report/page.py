"""Write the report as one page: results by rule and split, figures, and runs with curves."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from src.io import UserError
from src.pages import data_url, write_page
from src.report.rows import Families, differing_settings, in_family, rule_positions
from src.runs.folder import Run
from src.training.metrics_log import read_metrics

# Scripts and styles of src/pages, in this order; report.js starts the page.
PARTS = ("common", "curves", "report_table", "report_runs", "report")
# Points kept of a curve: more do not show at its width, and hundreds of runs must stay small.
MOST_POINTS = 150


def write_report_page(
    report: Mapping[str, Any],
    out_dir: Path,
    families: Families | None = None,
    figures: Mapping[str, Sequence[Path]] | None = None,
) -> Path:
    """Write `out_dir`/index.html and return its path.

    Args:
        report: the dict of report.json.
        families: name to the lists of groupings that were trained together.
        figures: PNG files by family, of `plots.plot_report`.
    """
    data = page_data(report, families or {})
    data["figures"] = {
        name: [data_url(path.read_bytes(), "image/png") for path in paths]
        for name, paths in (figures or {}).items()
    }
    path = Path(out_dir) / "index.html"
    write_page(path, "Results", PARTS, data)
    return path


def page_data(report: Mapping[str, Any], families: Families) -> dict[str, Any]:
    """Return what the page's script reads; rows refer to runs by position."""
    rows, places = report["rows"], {run["run"]: at for at, run in enumerate(report["runs"])}
    return {
        "splits": sorted({row["split"] for row in rows}, key=("test", "val", "train").index),
        "rules": rule_positions(rows),
        "settings": differing_settings(rows),
        "runs": [run | run_details(Run(Path(run["run"])), run["tasks"]) for run in report["runs"]],
        "rows": [row | {"runs": [places.get(run) for run in row["runs"]]} for row in rows],
        "families": {
            name: runs
            for name, runs in families.items()
            if any(in_family(run, runs) for run in report["runs"])
        },
    }


def run_details(run: Run, tasks: Sequence[str]) -> dict[str, Any]:
    """Return what the page shows of a run besides its results: error, configuration, curves."""
    error = None
    with suppress(UserError):
        error = run.status().get("error")
    config = run.config.read_text() if run.config.is_file() else ""
    return {"error": error, "config": config, "curves": run_curves(run, tasks)}


def run_curves(run: Run, tasks: Sequence[str]) -> dict[str, Any]:
    """Return a run's thinned curves: validation by epoch, loss and task weights by step.

    Those of JTT are of its second stage. Values that were not logged are None; constant weights
    are left out. Cosines are those between the gradients of two tasks.
    """
    second = Run(run.path / "stage_2")
    lines = read_metrics(second if second.config.exists() else run)
    validated = thin([line for line in lines if any(key.startswith("val/") for key in line)])
    trained = thin([line for line in lines if "train/loss" in line])

    def column(records: Sequence[Mapping[str, Any]], key: str) -> list[float | None]:
        values = [record.get(key) for record in records]
        return [None if value is None else round(value, 5) for value in values]

    weights = {task: column(trained, f"train/{task}/weight") for task in tasks}
    cosines = {
        f"{task}, {other}": column(trained, key)
        for task in tasks
        for other in tasks
        if trained and (key := f"train/{task}/cosine/{other}") in trained[-1]
    }
    return {
        "epochs": [record["epoch"] for record in validated],
        "average": {task: column(validated, f"val/{task}/avg_acc") for task in tasks},
        "worst_group": {task: column(validated, f"val/{task}/worst_group_acc") for task in tasks},
        "steps": [record["step"] for record in trained],
        "loss": column(trained, "train/loss"),
        "weights": weights if any(len(set(values)) > 1 for values in weights.values()) else {},
        "cosines": cosines,
    }


def thin(records: Sequence[Any], most: int = MOST_POINTS) -> list[Any]:
    """Return at most `most` records, evenly spread, with the first and the last."""
    if len(records) <= most:
        return list(records)
    return [records[round(at * (len(records) - 1) / (most - 1))] for at in range(most)]
