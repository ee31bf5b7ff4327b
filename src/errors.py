"""The one error a user is meant to see: a message without a traceback, and exit code 2."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)


class UserError(Exception):
    """Something the user can put right.

    Says what was found, what is allowed and the next step. Several problems are shown at once:
    `UserError(["first", "second"])`, a line each. What cannot be printed (a line break or another
    control character in a name from elsewhere, half of a surrogate pair) is shown by its code.
    """

    def __init__(self, problems: str | list[str]):
        problems = [problems] if isinstance(problems, str) else problems
        self.problems = [printable(problem) for problem in problems]
        super().__init__("\n".join(self.problems))


def printable(text: str) -> str:
    """`text` with what would move a terminal's cursor, or begin a line, shown by its code."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Print a `UserError` on stderr and leave with exit code 2; every entrypoint runs inside it.

    A disk that is full or fails under the output itself (a log file) ends the same way.
    """
    try:
        yield
    except UserError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in _DISK:
            raise
        with suppress(OSError):
            where = error.filename or "the output"
            print(f"error: cannot write {where}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
