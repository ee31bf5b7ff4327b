"""Show run status: python -m scripts.status [logs/...]

State, progress, images/s, time left, best validation accuracies and log of each run. Long folder
names are shortened; --full shows them whole. --watch keeps the table up to date until all runs have
ended; without a terminal it prints the lines that change.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from scripts.jobs.job import LOG_NAME
from scripts.jobs.states import count_states, find_runs, slurm_jobs, status_of
from src.config.saved import read_config
from src.evaluation.table import percent
from src.io import UserError, exit_on_user_error, expand
from src.runs.folder import STATES, Run

COLUMNS = ("state", "epoch", "progress", "images/s", "left", "average %", "worst %", "run", "note")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="*", type=expand, default=[Path("logs")])
    parser.add_argument("--state", choices=STATES, action="append", help="only runs in this state")
    parser.add_argument("--full", action="store_true", help="do not shorten folder names")
    parser.add_argument(
        "--watch", nargs="?", type=float, const=10.0, metavar="SECONDS", help="every 10 seconds"
    )
    args = parser.parse_args(argv)
    with exit_on_user_error():
        if args.watch is None:
            table, summary, _ = snapshot(args.paths, args.state, args.full)
            if table:
                print_table([COLUMNS, *table])
            print(summary)
        else:
            with suppress(KeyboardInterrupt):
                watch(lambda: snapshot(args.paths, args.state, args.full), max(args.watch, 0.1))


Snapshot = tuple[list[tuple[str, ...]], str, bool]


def snapshot(paths: Sequence[Path], states: Sequence[str] | None, full: bool) -> Snapshot:
    """Return the lines of the runs, a summary, and whether any run may still change."""
    alive = slurm_jobs()
    statuses = [(run, status_of(run, alive)) for run in find_runs(paths)]
    table = [row(r, s, full) for r, s in statuses if not states or s["state"] in states]
    counts = count_states(s["state"] for _, s in statuses)
    active = any(s["state"] in ("running", "queued") for _, s in statuses)
    return table, f"{len(statuses)} runs: {counts or 'none'}", active


def watch(look: Callable[[], Snapshot], seconds: float) -> None:
    """Show snapshots until no run is active: a live table, or changed lines without a terminal."""
    console, known = Console(), set()
    live = Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext()
    with live:
        while True:
            table, summary, active = look()
            if console.is_terminal:
                live.update(live_table(table, summary), refresh=True)
            else:
                changed = [line for line in table if line not in known]
                if changed:
                    print(time.strftime("%T"), summary)
                    print_table(changed)
                    sys.stdout.flush()
                known = set(table)
            if not active:
                return
            time.sleep(seconds)


def live_table(lines: Sequence[tuple[str, ...]], summary: str) -> Table:
    """Return lines as a table that fits a terminal, active and failed runs first."""
    table = Table(caption=f"{time.strftime('%T')}  {summary}", caption_justify="left", box=None)
    for column in COLUMNS:
        long = column in ("run", "note")
        table.add_column(column, no_wrap=not long, overflow="ellipsis")
    styles = {"running": "bold", "failed": "red", "done": "dim"}
    order = ("running", "failed", "queued", "stopped", "new", "done")
    for line in sorted(lines, key=lambda line: order.index(line[0])):
        table.add_row(*map(escape, line), style=styles.get(line[0]))
    return table


def shorten(path: Path) -> str:
    """Replace the middle of folder names longer than 48 characters by `...`; seeds stay."""
    names = [n if len(n) <= 48 else f"{n[:27]}...{n[-18:]}" for n in path.parts]
    return str(Path(*names))


def row(run: Run, status: dict[str, Any], full: bool = False) -> tuple[str, ...]:
    """Return the line of a run, in the order of COLUMNS."""
    state, rate = status["state"], status.get("images_per_second")
    running = state == "running"
    epochs = (
        f"{status.get('epoch', 0)}/{status['total_epochs']}" if "total_epochs" in status else ""
    )
    step, total = status.get("step"), status.get("total_steps")
    return (
        state,
        epochs,
        f"{100 * step / total:.0f} %" if step is not None and total else "",
        f"{rate:.0f}" if rate else "",
        time_left(run, status) if running else "",
        *best_figures(run),
        str(run.path) if full else shorten(run.path),
        note(run, status),
    )


def time_left(run: Run, status: dict[str, Any]) -> str:
    """Format the time that the remaining steps take at this speed, without validation."""
    rate, total = status.get("images_per_second"), status.get("total_steps")
    try:
        config = read_config(run.config)
        # A staged run reports the stage that is being trained.
        config = config.get(status.get("stage"), config)
        batch_size = int(config["dataloader"]["batch_size"])
        seconds = int((total - (status.get("step") or 0)) * batch_size / rate)
    except (UserError, LookupError, TypeError, ArithmeticError, ValueError, AttributeError):
        return ""
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours}:{minutes:02d} h" if hours else f"{minutes}:{seconds % 60:02d} min"


def best_figures(run: Run) -> tuple[str, str]:
    """Return the best average and worst-group accuracy on validation so far, in percent."""
    stage = Run(run.path / "stage_2")
    if not stage.val_stats.exists():
        stage = run
    if not stage.val_stats.exists():
        return "", ""
    try:
        epochs = stage.history()["epochs"].values()
    except UserError:  # one damaged run must not hide the others
        return "damaged", "damaged"

    def best(rule: str) -> str:
        return percent(max((figures[rule] for figures in epochs if rule in figures), default=None))

    return best("best-avg"), best("best-group")


def note(run: Run, status: dict[str, Any]) -> str:
    """Return the reason of a failure, the Slurm job and the log, in one line."""
    pieces = []
    if status["state"] == "failed" and status.get("error"):
        pieces.append(str(status["error"]).splitlines()[0])
    silent = time.time() - (status.get("heartbeat") or 0)
    if status["state"] == "running" and silent > 60:
        pieces.append(f"silent for {silent:.0f} s")
    if status["state"] in ("queued", "running") and status.get("slurm_job"):
        pieces.append(f"Slurm job {status['slurm_job']}")
    log = run.path / LOG_NAME
    if log.exists():
        pieces.append(f"log {LOG_NAME}")
    return "; ".join(pieces)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print columns padded with spaces."""
    widths = [max(len(line[column]) for line in rows) for column in range(len(rows[0]))]
    for line in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
