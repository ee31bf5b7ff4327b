"""Work shared among processes."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from src.io import UserError

FEW = 4  # so few items are done before a second process has started


def run_in_processes(
    function: Callable[[Any], Any], items: Sequence[Any], workers: int | None = None
) -> Iterator[Any]:
    """Yield the results of `function` for all items, in the order in which they are done.

    Args:
        function: can be pickled; few items run in this process.
        workers: processes; default one per core.

    Raises:
        UserError: a process was killed, for lack of memory perhaps.
    """
    workers = min(workers or len(os.sched_getaffinity(0)), len(items))
    if workers <= 1 or len(items) <= FEW:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks of other threads
    pool = ProcessPoolExecutor(workers, context, _end_with_parent)
    try:
        for future in as_completed([pool.submit(function, item) for item in items]):
            yield future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was killed (out of memory?). Start the same command again: finished "
            "work is kept"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Ignore Ctrl-C, which the parent handles, and end when the parent ends, even if killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
