"""How the runs are: python -m scripts.status [logs/...]

State, progress, images/s, time left, best validation figures, and where each one's log is.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.jobs.job import LOG_NAME
from scripts.jobs.states import count_states, find_runs, slurm_jobs, status_of
from src.config.saved import read_config
from src.evaluation.table import percent
from src.io import UserError, exit_on_user_error
from src.runs.folder import STATES, Run

COLUMNS = ("state", "epoch", "progress", "images/s", "left", "average %", "worst %", "run", "note")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="*", type=Path, default=[Path("logs")])
    parser.add_argument("--state", choices=STATES, action="append", help="only runs in this state")
    args = parser.parse_args(argv)
    with exit_on_user_error():
        runs = find_runs(args.paths)
        alive = slurm_jobs()
        statuses = [(run, status_of(run, alive)) for run in runs]
        shown = [(r, s) for r, s in statuses if not args.state or s["state"] in args.state]
        if shown:
            print_table([COLUMNS, *(row(run, status) for run, status in shown)])
        print(f"{len(runs)} runs: {count_states(s['state'] for _, s in statuses) or 'none'}")


def row(run: Run, status: dict[str, Any]) -> tuple[str, ...]:
    """A run's line, in the order of COLUMNS."""
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
        str(run.path),
        note(run, status),
    )


def time_left(run: Run, status: dict[str, Any]) -> str:
    """Steps that are left at the present speed; validation is not in it."""
    rate, total = status.get("images_per_second"), status.get("total_steps")
    try:
        config = read_config(run.config)
        # A run in stages tells of the stage it is in.
        config = config.get(status.get("stage"), config)
        batch_size = int(config["dataloader"]["batch_size"])
        seconds = int((total - (status.get("step") or 0)) * batch_size / rate)
    except (UserError, LookupError, TypeError, ArithmeticError, ValueError, AttributeError):
        return ""
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours}:{minutes:02d} h" if hours else f"{minutes}:{seconds % 60:02d} min"


def best_figures(run: Run) -> tuple[str, str]:
    """Validation: the best average accuracy and the best worst-group accuracy so far."""
    stage = Run(run.path / "stage_2")
    if not stage.val_stats.exists():
        stage = run
    if not stage.val_stats.exists():
        return "", ""
    try:
        epochs = stage.history()["epochs"].values()
    except UserError:  # of one run, which must not hide the others
        return "damaged", "damaged"

    def best(rule: str) -> str:
        return percent(max((figures[rule] for figures in epochs if rule in figures), default=None))

    return best("best-avg"), best("best-group")


def note(run: Run, status: dict[str, Any]) -> str:
    """The reason of a failure in one line, the Slurm job, and the log."""
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
    """Columns padded with spaces, nothing cut off: it can be searched with grep."""
    widths = [max(len(line[column]) for line in rows) for column in range(len(rows[0]))]
    for line in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
