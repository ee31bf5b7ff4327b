"""Results of many runs: tables, figures and a page, with intervals over seeds and test images.

python -m scripts.report_results --log_dirs 'logs/erm/*' 'logs/mtl_erm_mtl_stl/*' --split test

Runs that differ only in their seed are one row; every selection rule is shown, so that all see how
much it matters. Writes report.json, results.csv, results.tex, figures/ and index.html to --out_dir.
"""

import argparse
import glob
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.experiments import FAMILIES
from scripts.job_states import count_states
from scripts.status import print_table
from src.errors import UserError, exit_on_user_error
from src.files import exclusive, write_atomic, write_json
from src.tables import interval, percent

BY = {
    "method": lambda row: row["method"],
    "task": lambda row: row["grouping"],
    "weighting": lambda row: row["weighting"],
}
COLUMNS = {
    "rule": lambda row: row["rule"],
    "grouping": lambda row: row["grouping"],
    "method": lambda row: row["method"],
    "weighting": lambda row: row["weighting"],
    "tasks": lambda row: len(row["groupings"]),
    "seeds": lambda row: len(row["seeds"]),
    "average": lambda row: percent(row["average"]["mean"]),
    "average_std": lambda row: percent(row["average"]["std"]),
    "average_interval": lambda row: interval(row["average"]),
    "worst": lambda row: percent(row["worst_group"]["mean"]),
    "worst_std": lambda row: percent(row["worst_group"]["std"]),
    "worst_interval": lambda row: interval(row["worst_group"]),
    "worst_group": lambda row: ", ".join(dict.fromkeys(row["worst_group"]["groups"])),
    "n": lambda row: min(row["worst_group"]["totals"]),
    "published": lambda row: published(row["reference"]),
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log_dirs", nargs="+", required=True, metavar="GLOB")
    parser.add_argument("--by", default="task,method,weighting", help="order of the rows")
    parser.add_argument("--split", default="test", choices=("train", "val", "test"))
    parser.add_argument("--rules", nargs="+", help="selection rules; default: all")
    parser.add_argument("--threshold", type=float, default=0.0, help="logit above which y is 1")
    parser.add_argument("--out_dir", type=Path, default=Path("outputs/report"))
    parser.add_argument("--root", help="folder of the data set, where it has moved since training")
    parser.add_argument("--device", help="auto, cpu or cuda")
    args = parser.parse_args(argv)
    with exit_on_user_error():
        order = args.by.split(",")
        if not set(order) <= set(BY):
            raise UserError(f"--by {args.by}: use {', '.join(BY)}, joined by commas")
        matches = [sorted(glob.glob(text)) for text in args.log_dirs]  # noqa: PTH207, absolute too
        folders = [Path(match) for found in matches for match in found]
        if not folders:
            raise UserError(f"--log_dirs {' '.join(args.log_dirs)}: no such folder")
        from src.report import build_report  # loads torch
        from src.report_runs import find_runs

        report = build_report(
            find_runs(folders), args.split, args.rules, args.threshold, args.root, args.device
        )
        report["rows"].sort(key=lambda row: [BY[name](row) for name in order] + [row["rule"]])
        write(report, args.out_dir, args.split)
        show(report)
        return 0


def write(report: dict[str, Any], out_dir: Path, split: str) -> None:
    """All files of a report."""
    from src.plots_report import plot_report
    from src.report_page import write_report_page

    # The files belong together: of two reports at once, all are those of the later one.
    with exclusive(out_dir / ".lock", f"waiting for another report that is written to {out_dir}"):
        write_json(out_dir / "report.json", report)
        write_atomic(out_dir / "results.csv", csv_text(report["rows"]))
        write_atomic(out_dir / "results.tex", latex_text(report["rows"]))
        plot_report(out_dir / "figures", report, FAMILIES, split, "best-group")
        write_report_page(report, out_dir, FAMILIES)


def show(report: dict[str, Any]) -> None:
    """The results, the differences and what is not done, in the terminal."""
    rows, pairs = report["rows"], report["comparisons"]
    if rows:
        print_table(
            [tuple(COLUMNS), *([str(get(row)) for get in COLUMNS.values()] for row in rows)]
        )
    if pairs:
        print("\ntogether with other tasks, minus alone (points, 95 % interval):")
        print_table(
            [("rule", "grouping", "method", "weighting", "trained with", "average", "worst group")]
            + [
                (
                    *(pair[key] for key in ("rule", "grouping", "method", "weighting")),
                    ", ".join(name for name in pair["groupings"] if name != pair["grouping"]),
                    gap(pair["average"]),
                    gap(pair["worst_group"]),
                )
                for pair in pairs
            ]
        )
    states = [run["state"] for run in report["runs"]]
    print(f"\n{len(states)} runs: {count_states(states)}")
    rest = [(run["state"], run["run"]) for run in report["runs"] if run["state"] != "done"]
    if rest:
        print("in no row, as they are not done:")
        print_table([("state", "run"), *rest])


def gap(figures: dict[str, float]) -> str:
    """`+1.2 (-0.5 to 2.9)`, in points."""
    centre, low, high = (100 * figures[key] for key in ("difference", "low", "high"))
    return f"{centre:+.1f} ({low:+.1f} to {high:+.1f})"


def published(found: dict[str, Any] | None) -> str:
    if found is None:
        return "-"
    return f"{percent(found['worst_group'])} {found['verdict']} ({100 * found['difference']:+.1f})"


def csv_text(rows: Sequence[dict[str, Any]]) -> str:
    """Fractions in full, for other programs."""
    import pandas as pd

    table = [
        {name: COLUMNS[name](row) for name in ("rule", "grouping", "method", "weighting")}
        | {"trained_with": " ".join(row["groupings"]), "settings": str(row["settings"])}
        | {"split": row["split"], "seeds": " ".join(map(str, row["seeds"]))}
        | {
            f"{measure}_{key}": row[measure][key]
            for measure in ("average", "worst_group")
            for key in ("mean", "std", "low", "high")
        }
        | {"worst_groups": ", ".join(row["worst_group"]["groups"]), "interval": row["interval"]}
        for row in rows
    ]
    return pd.DataFrame(table).to_csv(index=False)


def latex_text(rows: Sequence[dict[str, Any]]) -> str:
    """A table for booktabs: mean and std over seeds, in percent."""
    head = r"Task & Method & Weighting & Tasks & Rule & Average & Worst group & 95\,\% interval \\"
    body = [
        " & ".join(
            [
                *(latex(COLUMNS[n](row)) for n in ("grouping", "method", "weighting", "tasks")),
                latex(row["rule"]),
                spread(row["average"]),
                spread(row["worst_group"]),
                interval(row["worst_group"]).replace("-", "--"),
            ]
        )
        + r" \\"
        for row in rows
    ]
    lines = [r"\begin{tabular}{lllrlrrr}", r"\toprule", head, r"\midrule", *body]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def spread(figures: dict[str, Any]) -> str:
    std = "" if figures["std"] is None else rf" $\pm$ {percent(figures['std'])}"
    return percent(figures["mean"]) + std


def latex(value: Any) -> str:
    """Text for LaTeX: what it would take for commands is escaped."""
    return "".join(f"\\{c}" if c in "_&%#$" else c for c in str(value))


if __name__ == "__main__":
    sys.exit(main())
