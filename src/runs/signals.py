"""Signals as requests: save, then stop."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(SystemExit):
    """The run saved and ended on a signal; started again it goes on."""

    def __init__(self, signum: int):
        super().__init__(128 + signum)


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], int | None]]:
    """Turn SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 into a request to save and stop.

    Yields a function that returns the signal that came, or None. A second Ctrl-C ends at once.
    """
    came: list[int] = []

    def remember(signum: int, frame: FrameType | None) -> None:
        if came and signum == signal.SIGINT:
            raise KeyboardInterrupt
        came.append(signum)

    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
    before = {number: signal.signal(number, remember) for number in signals}
    try:
        yield lambda: came[0] if came else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
