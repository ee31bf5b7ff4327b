"""The one error a user is meant to see: a message without a traceback, and exit code 2."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something the user can put right.

    Says what was found, what is allowed and the next step. Several problems are shown at once:
    `UserError(["first", "second"])`.
    """

    def __init__(self, problems: str | list[str]):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Print a `UserError` on stderr and leave with exit code 2; every entrypoint runs inside it."""
    try:
        yield
    except UserError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
