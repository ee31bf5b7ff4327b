"""Read what the page shows of each run besides its results: error, configuration, curves."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from src.io import UserError, read_json
from src.report.curves import run_curves
from src.runs.folder import Run
from src.runs.probes import ProbeFile


def run_details(folder: Path | str, tasks: Sequence[str]) -> dict[str, Any]:
    """Return the error (or None), the lines of the configuration, curves and probes of a run."""
    run, error = Run(folder), None
    with suppress(UserError):
        error = run.status().get("error")
    lines = run.config.read_text().splitlines() if run.config.is_file() else []
    curves = run_curves(run, tasks)
    return {"error": error, "config": lines, "curves": curves, "probes": probe_lines(run)}


def probe_lines(run: Run) -> list[str]:
    """Return what `scripts.probe_features` found out about a run; empty if it did not look."""
    lines = []
    for path in sorted(run.path.glob("**/results/probes_*.json")):
        with suppress(UserError):  # a damaged file must not hide the report
            found = read_json(path, ProbeFile)
            lines += [f"{p.grouping}, epoch {found.epoch}: {p.verdict}" for p in found.probes]
    return lines
