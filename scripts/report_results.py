"""Results of many runs: tables, figures and a page, with intervals over seeds and test images.

python -m scripts.report_results --log_dirs 'logs/erm/*' 'logs/mtl_erm_mtl_stl/*' --split test

Runs that differ only in their seed are one row; every selection rule is shown, so that all see how
much it matters. Writes report.json, results.csv, results.tex, index.html and figures/ to --out_dir.
"""

import argparse
import glob
import sys
from pathlib import Path
from typing import Any

from scripts.experiments import FAMILIES
from scripts.jobs.states import count_states
from scripts.status import print_table
from src.io import UserError, exclusive, exit_on_user_error, expand, write_atomic, write_json
from src.report.rows import CUT, Row, rule_positions
from src.report.text import (
    DIFFERENCES,
    FIGURES,
    PAPER,
    csv_text,
    latex_text,
    probe_table,
    result_table,
)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log_dirs", nargs="+", required=True, metavar="GLOB")
    parser.add_argument("--split", default="test", choices=("train", "val", "test"))
    parser.add_argument(
        "--rules",
        nargs="+",
        metavar="RULE",
        help="such as best-group, last, or an epoch; default: all rules that validation has",
    )
    parser.add_argument("--out_dir", type=expand, default=Path("outputs/report"))
    parser.add_argument(
        "--no_figures", action="store_true", help="write no PNG and PDF files; the page has none"
    )
    parser.add_argument("--root", type=expand, help="folder of the data set, if it has moved")
    parser.add_argument("--device", help="auto, cpu or cuda; for logits that are not saved yet")
    args = parser.parse_args(argv)
    with exit_on_user_error():
        matches = [sorted(glob.glob(str(expand(text)))) for text in args.log_dirs]  # noqa: PTH207
        folders = [Path(match) for found in matches for match in found]
        if not folders:
            raise UserError(f"--log_dirs {' '.join(args.log_dirs)}: no such folder")
        from src.report.collect import build_report
        from src.report.runs import find_runs

        about = (args.split, args.rules, args.root, args.device)
        report = build_report(find_runs(folders), *about)
        order = ("grouping", "method", "weighting", "rule")
        report["rows"].sort(key=lambda row: [row[key] for key in order])
        # Of two reports at once, all files are those of the later one.
        waiting = f"waiting for another report that is written to {args.out_dir}"
        with exclusive(args.out_dir / ".lock", waiting):
            write_tables(report, args.out_dir)
            closed = None
            try:
                show(report)
                print(f"\n{args.out_dir / 'index.html'}", flush=True)
            except BrokenPipeError as error:  # `| head` was closed; still write all files
                closed = error
            # Figures take longest.
            write_page(report, args.out_dir, with_figures=not args.no_figures)
            if closed is not None:
                raise closed
        return 0


def write_tables(report: dict[str, Any], out_dir: Path) -> None:
    """Write the JSON, CSV and LaTeX files."""
    rows = report["rows"]
    write_json(out_dir / "report.json", report)
    write_atomic(out_dir / "results.csv", csv_text(rows))
    comment = f"{kinds_of(rows)}; mean and std over seeds"
    write_atomic(out_dir / "results.tex", latex_text(result_table(rows, PAPER), comment))


def write_page(report: dict[str, Any], out_dir: Path, with_figures: bool) -> None:
    """Write the figures and the page that shows them."""
    from src.report.page import write_report_page

    figures = {}
    if with_figures:
        from src.report.plots import plot_report

        rules = rule_positions(report["rows"])
        rule = "best-group" if "best-group" in rules or not rules else rules[0]
        figures = plot_report(out_dir / "figures", report, FAMILIES, rule)
    write_report_page(report, out_dir, FAMILIES, figures)


def kinds_of(rows: list[Row]) -> str:
    """Describe the splits and intervals of rows."""
    splits, kinds = ({row[key] for row in rows} for key in ("split", "interval"))
    return f"{', '.join(sorted(splits))} split; 95 % intervals: {' or '.join(sorted(kinds))}"


def show(report: dict[str, Any]) -> None:
    """Print the results, the differences and the runs that are in no row."""
    rows, runs = report["rows"], report["runs"]
    pairs = [row for row in rows if row["difference"]]
    if rows:
        print(f"{kinds_of(rows)}; mean and std over seeds")
    parts = {
        "": [row for row in rows if CUT not in row["settings"]],
        f"cut short by {CUT}, so not comparable with full runs:": [
            row for row in rows if CUT in row["settings"]
        ],
        "together with other tasks minus alone, same settings (points, 95 % interval):": [
            row for row in pairs if row["difference"]["matched"]
        ],
        "together minus alone with other settings; not the effect of the other tasks:": [
            row for row in pairs if not row["difference"]["matched"]
        ],
    }
    for title, part in parts.items():
        if part:
            print(f"\n{title}\n" if title else "")
            print_table(result_table(part, DIFFERENCES if "minus" in title else FIGURES))
    several = max((row["difference"]["candidates"] for row in pairs), default=1)
    if several > 1:
        print(f"\nup to {several} settings alone fit equally well; the one with most seeds is used")
    states = [run["state"] for run in runs]
    print(f"\n{len(states)} {'run' if len(states) == 1 else 'runs'}: {count_states(states)}")
    notes = {
        "no held-out validation figure, as the last fit used all of validation:": [
            ("run",),
            *((run["run"],) for run in runs if not run["has_validation"]),
        ],
        "what the features hold, and what a balanced last layer makes of them:": probe_table(runs),
        "not in the table, unfinished:": [
            ("state", "run"),
            *((run["state"], run["run"]) for run in runs if run["state"] != "done"),
        ],
        "not in the table, as another run has the same configuration and seed:": [
            ("run", "the same as"),
            *((run["run"], run["repeats"]) for run in runs if run["repeats"]),
        ],
    }
    for title, lines in notes.items():
        if len(lines) > 1:
            print(title)
            print_table(lines)


if __name__ == "__main__":
    sys.exit(main())
