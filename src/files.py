"""Files are written whole or not at all: beside their name, flushed, renamed.

A reader therefore sees the old content or the new one, and a full disk or a killed process leaves
the old one.
"""

import errno
import fcntl
import glob
import json
import math
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from src.errors import UserError
from src.json_shapes import TOO_LARGE, misfit

# Bytes of a text. The largest is metrics.jsonl: 40 tasks, a line every step, 250 epochs.
MAX_TEXT = 1 << 30


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a private path beside `path`; on success it is flushed and takes the name `path`.

    Of a symbolic link it is the file it leads to that is written.

    Raises:
        UserError: the disk is full, the folder cannot be written, or `path` is a folder or a
            device; it is as it was before.
    """
    target = _target(path)
    handle = temporary = None
    try:
        handle, temporary = _make_temporary(target)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        if handle is not None:
            with suppress(OSError):  # where the disk itself fails
                temporary.unlink(missing_ok=True)
            os.close(handle)


def _target(path: Path) -> Path:
    """Where `path` leads to: a file, or nothing yet in a folder that is there."""
    try:
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not target.is_file():
            raise UserError(f"cannot write {path}: it is no regular file; choose another name")
    except (OSError, ValueError) as error:
        raise write_error(path, error) from error
    return target


def _make_temporary(path: Path) -> tuple[int, Path]:
    """A private file beside `path`, locked while this process writes it.

    One that is not locked was left behind by a killed process, and goes.
    """
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with suppress(OSError), left.open("rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)  # another process took it for left behind, just before the lock


def write_error(path: Path, error: OSError | ValueError) -> UserError:
    """The message for a write that failed: a full disk, a read-only folder, a broken disk, or a
    name (ValueError) with a zero byte or with letters that the locale has no bytes for."""
    if isinstance(error, ValueError):
        return UserError(f"cannot write {path}: no file can have this name ({error})")
    advice = {
        errno.ENOSPC: "the disk is full; free some space and start the same command again",
        errno.EDQUOT: "your quota is used up; free some space and start the same command again",
        errno.EACCES: "no permission to write there; choose another folder",
        errno.EROFS: "that file system is read-only; choose another folder",
    }.get(
        error.errno, f"{error.strerror or error}; see to the disk and start the same command again"
    )
    return UserError(f"cannot write {path}: {advice}")


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file; see `atomic_path`."""
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole. NaN and infinity are not JSON and raise ValueError."""
    write_atomic(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def open_regular(path: Path, mode: str = "rb") -> IO:
    """Open a regular file. A FIFO would wait for its other end, and a device may never end.

    Raises:
        OSError: also where it is something else.
    """
    file = open(path, mode, opener=_open_without_waiting)  # noqa: SIM115 (the caller closes it)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return file


def _open_without_waiting(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NONBLOCK, 0o666)


def read_text(path: Path, errors: str = "strict") -> str:
    """The UTF-8 text of a regular file; see `open_regular`.

    Raises:
        OSError: also where it is larger than `MAX_TEXT`.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > MAX_TEXT:
            raise OSError(
                errno.EFBIG, f"more than {MAX_TEXT >> 20:,} MiB are no text of ours", path
            )
        return file.read().decode(errors=errors)


def read_json(path: Path, shape: Any = None) -> Any:
    """Read a JSON file.

    Args:
        shape: what must be in it, see src/json_shapes.py; None is anything.

    Raises:
        UserError: the file is missing, is not JSON (NaN is not), or has another shape.
    """
    try:
        value = parse_json(read_text(path))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error).replace("\n", " ")[:200]
        raise UserError(
            f"{path} cannot be read as JSON ({reason}); delete it to make it anew"
        ) from error
    problem = None if shape is None else misfit(value, shape)
    if problem:
        raise UserError(f"{path} is not what belongs there ({problem}); delete it to make it anew")
    return value


def parse_json(text: str) -> Any:
    """`json.loads` of JSON proper: NaN and infinity, or a number too large for a float or an int64,
    are a ValueError."""
    return _DECODER.decode(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is no finite number")
    return value


def _whole(text: str) -> int:
    value = int(text)
    if abs(value) >= TOO_LARGE:
        raise ValueError(f"{text[:20]} is too large a number")
    return value


_DECODER = json.JSONDecoder(parse_constant=_finite, parse_float=_finite, parse_int=_whole)


@contextmanager
def exclusive(path: Path, message: str | None = None, patience: float = 0.0) -> Iterator[bool]:
    """Hold the lock file `path`; yields whether it was free.

    With `message` the call waits for the holder and prints the message once; without, a lock that
    is still held after `patience` seconds yields False and the caller decides.

    Raises:
        UserError: the lock file cannot be made, or its file system has no locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open_regular(path, "a")
    except (OSError, ValueError) as error:
        raise write_error(path, error) from error
    with file:
        try:
            free = _lock(file, patience)
            if not free and message is not None:
                print(message, flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:  # without a lock, two at once would mix their files
            raise UserError(
                f"{path}: no file can be locked there ({error.strerror}), and two commands at once "
                f"would spoil each other's work: choose a folder on another file system (Lustre "
                f"has locks where it is mounted with -o flock)"
            ) from error
        try:
            yield free
        finally:
            if free or message is not None:
                fcntl.flock(file, fcntl.LOCK_UN)


def _lock(file: IO, patience: float) -> bool:
    """Whether the lock was had within some seconds."""
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.01)


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value
