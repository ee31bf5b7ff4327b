"""Write the report as one page: results by rule and split, figures, and runs with curves."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src.pages import write_page
from src.report.curves import rounded
from src.report.details import run_details
from src.report.rows import (
    ABLATIONS,
    CONTRAST_NOTES,
    CONTRASTS,
    Families,
    differences,
    differing_settings,
    in_family,
    place,
    positions,
    rule_positions,
)

_OF_DIFFERENCE = ("average", "worst_group", "seeds", "interval", "alone", "matched", "differs")
# Scripts and styles of src/pages, in this order; report.js starts the page.
PARTS = ("common", "charts", "report_table", "report_runs", "report_figures")


def write_report_page(
    report: Mapping[str, Any],
    out_dir: Path,
    families: Families | None = None,
    explorer: Path | None = Path("outputs/spurious_eval/index.html"),
) -> Path:
    """Write `out_dir`/index.html and return its path.

    Args:
        report: the dict of report.json.
        families: name to the lists of groupings that were trained together, for the figures.
        explorer: the page of spurious correlations; linked where it exists.
    """
    path = Path(out_dir) / "index.html"
    link = None
    if explorer is not None and explorer.exists():
        link = Path(os.path.relpath(explorer, path.parent)).as_posix()
    data = page_data(report, families or {}) | {"explorer": link}
    write_page(path, "report", "Results", data, PARTS)
    return path


def page_data(report: Mapping[str, Any], families: Families) -> dict[str, Any]:
    """Return what the page's script reads; rows refer to runs and configurations to lines."""
    rows, lines = report["rows"], {}
    trained = {
        name: runs
        for name, runs in families.items()
        if any(in_family(run, runs) for run in report["runs"])
    }
    known = differences(report["comparisons"])
    places = {run["run"]: at for at, run in enumerate(report["runs"])}
    return {
        "splits": sorted({row["split"] for row in rows}, key=("test", "val", "train").index),
        "rules": rule_positions(rows),
        "settings": differing_settings(rows),
        "runs": [_run(run, run_details(run["run"], run["tasks"]), lines) for run in report["runs"]],
        "rows": [
            _row(row, shown, places, known.get(place(row)))
            for row, shown in zip(rows, positions(rows))
        ],
        "lines": list(lines),
        "families": {name: [list(tasks) for tasks in runs] for name, runs in trained.items()},
        "contrasts": [
            {"families": list(pair), "note": CONTRAST_NOTES.get(pair)}
            for pair in CONTRASTS
            if set(pair) <= set(trained)
        ],
        "ablations": [name for name in ABLATIONS if name in trained],
    }


def _row(
    row: dict[str, Any],
    shown: Sequence[str],
    places: Mapping[str, int],
    difference: Mapping[str, Any] | None,
) -> dict[str, Any]:
    return rounded(
        {key: value for key, value in row.items() if key not in ("runs", "settings")}
        | {
            "settings": row["settings"],
            "runs": [places.get(run) for run in row["runs"]],
            "shown": list(shown),
            "difference": difference and {key: difference[key] for key in _OF_DIFFERENCE},
        }
    )


def _run(run: dict[str, Any], details: dict[str, Any], lines: dict[str, int]) -> dict[str, Any]:
    """Return a run with its details; its configuration becomes numbers of `lines`, which grows."""
    numbers = [lines.setdefault(line, len(lines)) for line in details["config"]]
    return run | details | {"config": numbers}
