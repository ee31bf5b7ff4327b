"""All figures of a report: rows of report.json and curves of its runs in, PNG files out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tqdm import tqdm

from src.evaluation.plots import save_figure
from src.report.plots_counts import number_of_tasks
from src.report.plots_curves import settings_of, weights_by_step, worst_group_by_epoch
from src.report.plots_grid import setting_grid
from src.report.plots_marks import MEASURES, METHOD_COLOURS
from src.report.plots_tasks import family_contrasts, stl_against_mtl
from src.report.rows import ABLATIONS, Families, in_family, pairings


def plot_report(
    folder: Path, report: Mapping[str, Any], families: Families, split: str, rule: str
) -> list[Path]:
    """Write every figure that the report has rows for; returns the paths.

    Args:
        rule: a position of the rule switch, see `report_rows.RULES`.
    """
    written = []
    drawings = dict(figures(report, families, split, rule))
    bar = tqdm(drawings.items(), "drawing", unit="figure", leave=False, disable=None)
    for name, draw in bar:
        path, figure = folder / f"{name}.png", draw()
        if figure is None:
            path.unlink(missing_ok=True)  # an earlier report had other rows
        else:
            written.append(path)
            save_figure(figure, path)
    return written


def figures(
    report: Mapping[str, Any], families: Families, split: str, rule: str
) -> Iterator[tuple[str, Callable[[], Figure | None]]]:
    """The name of each figure and what draws it: None where the report has no rows for it.

    A figure per family: all of them, some hundred tasks, would be metres long.
    """
    pairs, alone = pairings(report, split, rule)
    rows = [*alone, *(pair.row for pair in pairs)]
    kinds = " or ".join(sorted({row["interval"] for row in rows}))
    chosen = f"{split} split, epochs chosen by {rule}"
    note = f"{chosen}; 95 % intervals: {kinds}"
    for measure in MEASURES:
        for name, runs in families.items():
            members = [pair for pair in pairs if in_family(pair.row, runs)]
            yield f"compare_{name}_{measure}", partial(stl_against_mtl, members, measure, note)
        yield (
            f"families_{measure}",
            partial(family_contrasts, pairs, families, measure, note),
        )
        for name in ABLATIONS:
            if name in families:
                draw = partial(number_of_tasks, pairs, alone, families[name], measure, note)
                yield f"tasks_{name}_{measure}", draw
        for method in METHOD_COLOURS:
            of_method = [row for row in rows if row["method"] == method]
            about = f"{chosen}; mean over tasks and seeds; choose settings on val only"
            yield f"grid_{method}_{measure}", partial(setting_grid, of_method, measure, about)
    for name, runs in families.items():
        yield f"epochs_{name}", partial(_epochs, report, runs, rule)
        yield f"weights_{name}", partial(_weights, report, runs, rule)


def _epochs(report: Mapping[str, Any], family: Sequence, rule: str) -> Figure | None:
    settings, left = settings_of(report, family, rule, dynamic=False)
    about = f"a line is a seed; ringed: the epoch chosen by {rule}"
    return worst_group_by_epoch(settings, about + _left_out(left))


def _weights(report: Mapping[str, Any], family: Sequence, rule: str) -> Figure | None:
    settings, left = settings_of(report, family, rule, dynamic=True)
    return weights_by_step(settings, "a line is a seed" + _left_out(left))


def _left_out(settings: int) -> str:
    return f"; {settings} more settings are on the page" if settings else ""
