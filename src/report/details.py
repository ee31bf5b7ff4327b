"""Read what the page shows of each run besides its results: error, configuration, curves."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from src.config.saved import read_config
from src.data.groupings import parse_groupings
from src.io import UserError, read_json
from src.report.curves import run_curves
from src.runs.folder import Run
from src.runs.probes import ProbeFile

# A second process takes as long to start as reading 300 runs.
MANY_RUNS = 300
Details = dict[str, dict[str, Any]]  # by run folder


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


@contextmanager
def reading_details(folders: Sequence[Path]) -> Iterator[Callable[[], Details]]:
    """Read `run_details` of many runs in a second process, while their results are measured.

    Yields a function that waits for the details and returns them. It returns nothing for fewer than
    `MANY_RUNS` runs, or if that process died; the caller then reads what is missing.
    """
    if len(folders) < MANY_RUNS:
        yield dict
        return
    spawn = multiprocessing.get_context("spawn")  # a fork would copy the locks of other threads
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_send_details, args=(sender, folders), daemon=True)
    previous = signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # inherited: only the parent handles Ctrl-C
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, previous)
        sender.close()  # else recv would wait for ever

    def wait() -> Details:
        with suppress(EOFError, OSError):  # it died before or while it sent
            return receiver.recv()
        return {}

    try:
        yield wait
    finally:
        process.terminate()
        process.join()
        receiver.close()


def _send_details(sender: Connection, folders: Sequence[Path]) -> None:
    with suppress(OSError):  # nobody listens any more
        sender.send(_details_of(folders))


def _details_of(folders: Sequence[Path]) -> Details:
    """Return `run_details` of the readable runs; measuring the others reports their errors."""
    found = {}
    for folder in folders:
        with suppress(UserError, OSError, ValueError, LookupError, TypeError):
            names = read_config(folder / "config.yaml")["dataset"]["groupings"]
            tasks = [grouping.task for grouping in parse_groupings(names)]
            found[str(folder)] = run_details(folder, tasks)
    return found
