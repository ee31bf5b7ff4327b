"""Files and errors: atomic writes, locks, checked reads, and the errors that users see.

A file is written under a temporary name in the same folder, flushed, and renamed. Readers therefore
see the old content or the new one, also after a kill or on a full disk.
"""

import argparse
import difflib
import errno
import fcntl
import functools
import glob
import json
import os
import signal
import sys
import time
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")

# What reading a damaged .npz file can raise.
DAMAGE = (OSError, EOFError, ValueError, LookupError, RuntimeError)
DAMAGE += (zipfile.BadZipFile, zlib.error)


class UserError(Exception):
    """An error that the user can fix; shown without a traceback, exit code 2.

    The message says what was found, what is allowed and what to do next. Several problems are shown
    at once, one per line: `UserError(["first", "second"])`.
    """

    def __init__(self, problems: str | list[str]):
        self.problems = [problems] if isinstance(problems, str) else problems
        super().__init__("\n".join(self.problems))


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Print a `UserError` on stderr and exit with code 2. Every entrypoint runs inside it.

    An `OSError` (a full disk, no permission) ends in the same way. When the reader of stdout has
    closed it (`| head`), exit silently with the code that a shell gives to a broken pipe.
    """
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where errors are caught, and not at the end of Python
    except UserError as error:
        _exit_with(error.problems)
    except BrokenPipeError:
        _discard_stdout()
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        if error.filename is None:
            _exit_with([error.strerror or str(error)])
        _exit_with([f"{os.fsdecode(error.filename)}: {error.strerror or error}"])


def _exit_with(problems: list[str]) -> None:
    _discard_stdout()
    with suppress(OSError):  # stderr may be on the same full disk
        for problem in problems:
            print(f"error: {problem}", file=sys.stderr)
    sys.exit(2)


def _discard_stdout() -> None:
    """Flush stdout, or send the rest to /dev/null: Python would try again at exit and complain."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def at_least(lowest: float, kind: type = int) -> Callable[[str], Any]:
    """Return an argparse type: a finite number that is not below `lowest`."""

    def parse(text: str) -> Any:
        value = kind(text)
        if not lowest <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text}: use {lowest} or more")
        return value

    parse.__name__ = "whole number" if kind is int else "number"  # of argparse's own message
    return parse


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Format a hint: `: did you mean 'Blond_Hair'?`, or the first allowed names."""
    allowed = list(allowed)
    by_case = {candidate.lower(): candidate for candidate in allowed}
    nearest = difflib.get_close_matches(str(name).lower()[:100], by_case, n=1, cutoff=0.5)
    if nearest:
        return f": did you mean '{by_case[nearest[0]]}'?"
    shown = ", ".join(allowed[:8]) + (", ..." if len(allowed) > 8 else "")
    return f"; allowed: {shown}"


def expand(path: str | Path) -> Path:
    """Replace a leading `~` by the home folder; every path of a user passes through here."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"'{path}': there is no such user; write the folder in full") from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success, flush it and rename it to `path`.

    Symlinks are followed.

    Raises:
        UserError: the disk is full, the folder cannot be written, or `path` is a folder. The old
            file, if there was one, is unchanged.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; choose another name")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(target) as temporary:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
    except OSError as error:
        raise write_error(path, error) from error


@contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """Create a file beside `target`, locked until it is renamed or deleted.

    Unlocked ones were left behind by killed processes and are deleted.
    """
    for left in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        with suppress(OSError), left.open("rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()
    path = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    with path.open("xb") as file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if not path.exists():  # deleted as left behind, just before it was locked
            with _temporary(target) as again:
                yield again
            return
        try:
            yield path
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)


def write_error(path: Path, error: OSError) -> UserError:
    """Describe a failed write: a full disk, a quota, a missing permission, a broken disk."""
    advice = {
        errno.ENOSPC: "the disk is full; free some space and start the same command again",
        errno.EDQUOT: "your quota is used up; free some space and start the same command again",
        errno.EACCES: "no permission to write there; choose another folder",
        errno.EROFS: "that file system is read-only; choose another folder",
    }
    reason = f"{error.strerror or error}; check the disk and start the same command again"
    return UserError(f"cannot write {path}: {advice.get(error.errno, reason)}")


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file; see `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: Any) -> None:
    """Write JSON. NaN and infinity raise ValueError, as JSON has neither."""
    write_atomic(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path, kind: type[T] | Any = Any) -> T:
    """Read and validate a JSON file.

    Args:
        kind: any type that pydantic knows, such as a model or `dict[str, float]`.

    Raises:
        UserError: the file is missing, is not JSON, or does not fit `kind`.
    """
    try:
        return _adapter(kind).validate_python(json.loads(path.read_bytes()))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except ValidationError as error:
        reason = "; ".join(validation_problems(error)[:3])
    except (OSError, ValueError, RecursionError) as error:
        reason = first_line(error)
    raise UserError(f"{path} cannot be used ({reason}); delete it so that it is written again")


@functools.cache  # making an adapter takes longer than reading a small file
def _adapter(kind: Any) -> TypeAdapter:
    return TypeAdapter(kind)


def validation_problems(error: ValidationError) -> list[str]:
    """Format each problem of a pydantic error as `key.subkey: what is wrong`."""
    lines = []
    for problem in error.errors(include_url=False):
        where = ".".join(map(str, problem["loc"]))
        lines.append(f"{where}: {problem['msg']}" if where else problem["msg"])
    return lines


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz file, each checked against its CRC32; nothing is unpickled.

    Raises:
        FileNotFoundError, or another of `DAMAGE` if the file is damaged.
    """
    with zipfile.ZipFile(path) as parts:
        # numpy checks no CRC when a damaged header asks for less than the whole part.
        damaged = parts.testzip()
        if damaged is not None:
            raise ValueError(f"its part {damaged} is damaged")
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


@contextmanager
def exclusive(path: Path, message: str | None = None, patience: float = 0.0) -> Iterator[bool]:
    """Hold the lock file `path`; yield whether the lock was free.

    With `message`, wait for the holder and print the message once. Without, give up after
    `patience` seconds and yield False.

    Raises:
        UserError: the lock file cannot be created, or its file system has no locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise write_error(path, error) from error
    deadline = time.monotonic() + patience
    with file:
        try:
            while not (free := _try_lock(file)) and time.monotonic() < deadline:
                time.sleep(0.01)
            if not free and message is not None:
                print(message, flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise UserError(
                f"{path}: this file system has no locks ({error.strerror}), so two commands could "
                f"overwrite each other's files. Choose a folder on another file system (Lustre "
                f"needs the mount option flock)"
            ) from error
        try:
            yield free
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


def _try_lock(file: IO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
