"""Read what the page shows of each run besides its results: error, configuration, curves."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from src.io import UserError
from src.report.curves import run_curves
from src.runs.folder import Run


def run_details(folder: Path | str, tasks: Sequence[str]) -> dict[str, Any]:
    """Return the error (or None), the lines of the configuration, and the curves of a run."""
    run, error = Run(folder), None
    with suppress(UserError):
        error = run.status().get("error")
    lines = run.config.read_text().splitlines() if run.config.is_file() else []
    curves = run_curves(run, tasks)
    return {"error": error, "config": lines, "curves": curves}
