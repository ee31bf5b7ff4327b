"""Figure of a report: learning rate against weight decay, a heatmap per list of tasks."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from src.report.plots import grid_heatmaps
from src.report.plots_marks import MEASURES, WEIGHTINGS, readable
from src.report.rows import Row, differing_settings
from src.report.text import settings_text


def setting_grid(rows: Sequence[Row], measure: str, note: str = "") -> Figure | None:
    """Mean accuracy over the tasks and seeds of a network, for each learning rate and weight decay.

    Args:
        rows: of one method, split and rule; measure: average or worst_group; note: small print.

    Returns:
        None unless some network was trained with several of both.
    """
    panels: dict[str, list[Row]] = {}
    # Settings beside the two axes: networks that differ in one of these share no heatmap.
    names = dict.fromkeys(["batch_size", *differing_settings(rows)])
    names = [name for name in names if name not in ("lr", "weight_decay")]
    for row in rows:
        if row[measure]["mean"] is not None:
            panels.setdefault(_title(row, names), []).append(row)
    panels = {name: same for name, same in panels.items() if _is_grid(same)}
    if not panels:
        return None
    every = [row for same in panels.values() for row in same]
    decays, rates = _values(every, "weight_decay"), _values(every, "lr")
    heatmaps = {
        f"{MEASURES[measure]} accuracy, %\n{name}": _cells(same, decays, rates, measure)
        for name, same in panels.items()
    }
    names = [[f"{value:g}" for value in values] for values in (decays, rates)]
    return grid_heatmaps(heatmaps, *names, "weight decay", "learning rate", note)


def _title(row: Row, names: Sequence[str]) -> str:
    tasks = "\n".join(readable(name) for name in row["groupings"])
    together = f", {WEIGHTINGS.get(row['weighting'], row['weighting'])}"
    weighting = together if len(row["groupings"]) > 1 else ""
    return f"{row['method'].upper()}{weighting}, {settings_text(row, names)}\n{tasks}"


def _is_grid(rows: Sequence[Row]) -> bool:
    return len(_values(rows, "weight_decay")) > 1 and len(_values(rows, "lr")) > 1


def _values(rows: Sequence[Row], setting: str) -> list[float]:
    return sorted({row["settings"][setting] for row in rows})


def _cells(
    rows: Sequence[Row], decays: Sequence[float], rates: Sequence[float], measure: str
) -> np.ndarray:
    """Percent (R, C): the mean over rows of a cell, NaN where there is none."""
    cells: dict[tuple[int, int], list[float]] = {}
    for row in rows:
        place = decays.index(row["settings"]["weight_decay"]), rates.index(row["settings"]["lr"])
        cells.setdefault(place, []).append(100 * row[measure]["mean"])
    values = np.full((len(decays), len(rates)), np.nan)
    for place, found in cells.items():
        values[place] = np.mean(found)
    return values
