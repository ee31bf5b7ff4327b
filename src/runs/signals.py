"""Signals as requests: save, then stop."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(SystemExit):
    """The run saved and ended on a signal; the same command resumes it."""

    def __init__(self, signum: int):
        super().__init__(128 + signum)


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], int | None]]:
    """Turn SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 into a request to save and stop.

    Yield a function that returns the signal that arrived, or None. A second Ctrl-C ends at once.
    """
    received: list[int] = []

    def remember(signum: int, frame: FrameType | None) -> None:
        if received and signum == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(signum)

    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
    before = {number: signal.signal(number, remember) for number in signals}
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
