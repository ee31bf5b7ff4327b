"""All figures of a report: rows of report.json and curves of its runs in, PNG files out."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from src.plots_groups import save_figure
from src.plots_report_counts import number_of_tasks
from src.plots_report_curves import settings_of, weights_by_step, worst_group_by_epoch
from src.plots_report_grid import setting_grid
from src.plots_report_marks import MEASURES, METHOD_COLOURS
from src.plots_report_tasks import family_contrasts, stl_against_mtl
from src.report_rows import ABLATIONS, Families, in_family, pairings


def plot_report(
    folder: Path, report: Mapping[str, Any], families: Families, split: str, rule: str
) -> list[Path]:
    """Write every figure that the report has rows for; returns the paths.

    Args:
        rule: a position of the rule switch, see `report_rows.RULES`.
    """
    written = []
    for name, figure in figures(report, families, split, rule):
        path = folder / f"{name}.png"
        if figure is None:
            path.unlink(missing_ok=True)  # an earlier report had other rows
        else:
            written.append(path)
            save_figure(figure, path)
    return written


def figures(
    report: Mapping[str, Any], families: Families, split: str, rule: str
) -> Iterator[tuple[str, Figure | None]]:
    """Name and figure, one after the other; None where the report has no rows for it.

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
            yield f"compare_{name}_{measure}", stl_against_mtl(members, measure, note)
        yield f"families_{measure}", family_contrasts(pairs, families, measure, note)
        for name in ABLATIONS:
            if name in families:
                figure = number_of_tasks(pairs, alone, families[name], measure, note)
                yield f"tasks_{name}_{measure}", figure
        for method in METHOD_COLOURS:
            of_method = [row for row in rows if row["method"] == method]
            about = f"{chosen}; mean over tasks and seeds; choose settings on val only"
            yield f"grid_{method}_{measure}", setting_grid(of_method, measure, about)
    for name in families:
        settings, left = settings_of(report, families[name], rule, dynamic=False)
        more = f"; {left} more settings are on the page" if left else ""
        about = f"a line is a seed; ringed: the epoch chosen by {rule}{more}"
        yield f"epochs_{name}", worst_group_by_epoch(settings, about)
        settings, left = settings_of(report, families[name], rule, dynamic=True)
        more = f"; {left} more settings are on the page" if left else ""
        yield f"weights_{name}", weights_by_step(settings, f"a line is a seed{more}")
