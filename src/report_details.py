"""What the report's page shows of each run besides its results: error, configuration, curves."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from src.config import read_config_file
from src.data.groupings import parse_groupings
from src.errors import UserError
from src.files import read_text
from src.report_curves import run_curves
from src.runs import Run

# From so many runs on a second process pays: it takes as long to start as 300 runs take to read.
MANY_RUNS = 300
Details = dict[str, dict[str, Any]]  # by run folder


def run_details(folder: Path | str, tasks: Sequence[str]) -> dict[str, Any]:
    """The error of a run, None where it has none, the lines of its configuration, its curves."""
    run, error = Run(folder), None
    with suppress(UserError):
        error = run.status().get("error")
    lines = read_text(run.config).splitlines() if run.config.is_file() else []
    return {"error": error, "config": lines, "curves": run_curves(run, tasks)}


@contextmanager
def reading_details(folders: Sequence[Path]) -> Iterator[Callable[[], Details]]:
    """Reads `run_details` of many runs in a process beside, while their results are measured.

    Yields what waits for them and gives those that there are: of few runs none.
    """
    if len(folders) < MANY_RUNS:
        yield dict
        return
    spawn = multiprocessing.get_context("spawn")  # a fork would copy the locks of other threads
    ignore = (signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asked
    with ProcessPoolExecutor(1, spawn, signal.signal, ignore) as beside:
        reading = beside.submit(_details_of, folders)

        def wait() -> Details:
            with suppress(BrokenProcessPool):
                return reading.result()
            return {}

        yield wait


def _details_of(folders: Sequence[Path]) -> Details:
    """`run_details` of the runs that can be read; whoever measures them tells what is wrong with
    the others."""
    found = {}
    for folder in folders:
        with suppress(UserError, OSError, ValueError, LookupError, TypeError):
            names = read_config_file(folder / "config.yaml")["dataset"]["groupings"]
            tasks = [grouping.task for grouping in parse_groupings(names)]
            found[str(folder)] = run_details(folder, tasks)
    return found
