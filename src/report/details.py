"""What the report's page shows of each run besides its results: error, configuration, curves."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from src.config.saved import read_config
from src.data.groupings import parse_groupings
from src.io import UserError
from src.report.curves import run_curves
from src.runs.folder import Run

# From so many runs on a second process pays: it takes as long to start as 300 runs take to read.
MANY_RUNS = 300
Details = dict[str, dict[str, Any]]  # by run folder


def run_details(folder: Path | str, tasks: Sequence[str]) -> dict[str, Any]:
    """The error of a run, None where it has none, the lines of its configuration, its curves."""
    run, error = Run(folder), None
    with suppress(UserError):
        error = run.status().get("error")
    lines = run.config.read_text().splitlines() if run.config.is_file() else []
    return {"error": error, "config": lines, "curves": run_curves(run, tasks)}


@contextmanager
def reading_details(folders: Sequence[Path]) -> Iterator[Callable[[], Details]]:
    """Reads `run_details` of many runs in a process beside, while their results are measured.

    Yields a function that waits for them and returns them: nothing of fewer than `MANY_RUNS` runs,
    or where that process died. The caller reads what is missing itself.
    """
    if len(folders) < MANY_RUNS:
        yield dict
        return
    spawn = multiprocessing.get_context("spawn")  # a fork would copy the locks of other threads
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_send_details, args=(sender, folders), daemon=True)
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C is for this one
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, previous)
        sender.close()  # so that its end is seen here

    def wait() -> Details:
        with suppress(EOFError, OSError):  # it ended before it sent, or amid that
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
    """`run_details` of the runs that can be read; whoever measures them tells what is wrong with
    the others."""
    found = {}
    for folder in folders:
        with suppress(UserError, OSError, ValueError, LookupError, TypeError):
            names = read_config(folder / "config.yaml")["dataset"]["groupings"]
            tasks = [grouping.task for grouping in parse_groupings(names)]
            found[str(folder)] = run_details(folder, tasks)
    return found
