"""What every fuzz test shares: how many cases, the property, the time limit, the count."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, settings

from src.errors import UserError

COUNTS: Counter[str] = Counter()  # cases tried, by subject
SECONDS = 60  # of one case; a hang fails the test
LINES, LETTERS = 30, 4000  # of a message


def cases(number: int) -> settings:
    """`number` cases times FUZZ_SHARE (see tests/conftest.py); the same ones each time, unless more
    are asked for than usual."""
    share = float(os.environ.get("FUZZ_SHARE", "1"))
    return settings(
        max_examples=max(10, round(number * share)),
        deadline=None,
        derandomize=share <= 1,
        database=None,
        phases=[phase for phase in Phase if phase is not Phase.explain],  # it traces: far too slow
        suppress_health_check=list(HealthCheck),
    )


def right_or_refused(subject: str, call: Callable[[], Any], *names: str) -> tuple[bool, Any]:
    """Call it: (True, its result), or (False, the message) of a UserError.

    Any other exception, a message that is empty, endless or does not say `names`, or a call that
    does not end fails the test.
    """
    COUNTS[subject] += 1
    before = signal.signal(signal.SIGALRM, _too_long)
    timer = signal.setitimer(signal.ITIMER_REAL, SECONDS)  # pytest-timeout's own, perhaps
    try:
        return True, call()
    except UserError as error:
        message = str(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)
    assert message.strip()
    assert len(message.splitlines()) <= LINES and len(message) <= LETTERS, message[:500]
    assert all(name in message for name in names), message
    assert "Traceback" not in message
    return False, message


class Hangs(BaseException):
    """No Exception, so that code which turns those into messages does not catch it."""


def _too_long(*_: Any) -> None:
    raise Hangs(f"no answer within {SECONDS} s")
