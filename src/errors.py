"""The one error a user is meant to see: a message without a traceback, and exit code 2."""

import errno
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

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
    if text.isprintable():  # nearly all are
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Print a `UserError` on stderr and leave with exit code 2; every entrypoint runs inside it.

    Whatever else the system refuses (a name that is too long, a folder without permission, a full
    disk under the output itself) ends the same way. Where a reader such as `head` has seen enough
    the command ends without a word, with the code a shell gives to that.
    """
    if sys.stdout is None:  # closed by the caller, as by `>&-`
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 (as long as the process)
    try:
        if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
            sys.stdout.reconfigure(errors="backslashreplace")  # names in letters it has not
        yield
        sys.stdout.flush()  # here, where an error is caught, and not when Python ends
    except UserError as error:
        _leave(error.problems)
    except OSError as error:
        if error.errno == errno.EPIPE:
            _drop_unprinted()
            sys.exit(128 + signal.SIGPIPE)
        _leave(UserError(_told(error)).problems)


def _told(error: OSError) -> str:
    name, what = error.filename, error.strerror or str(error) or type(error).__name__
    where = os.fsdecode(name) if isinstance(name, bytes) else name
    if error.errno in _DISK:
        return f"cannot write {where or 'the output'}: {what}"
    return what if where is None else f"{where}: {what}"


def _drop_unprinted() -> None:
    """What stdout does not take is dropped: Python would try again at its end and say so."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave(problems: list[str]) -> NoReturn:
    _drop_unprinted()
    with suppress(OSError):  # where stderr goes to the same full disk
        for problem in problems:
            print(f"error: {problem}", file=sys.stderr)
    sys.exit(2)
