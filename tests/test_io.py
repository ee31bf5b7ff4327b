"""Atomic writes, locks, checked reads, and how commands end on an error."""

import errno
import math
import multiprocessing
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from pydantic import BaseModel

from src.io import (
    UserError,
    atomic_path,
    did_you_mean,
    exclusive,
    expand,
    load_arrays,
    read_json,
    write_atomic,
    write_error,
    write_json,
)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_written_file_has_its_content_and_nothing_beside_it(tmp_path):
    write_atomic(tmp_path / "new" / "a.txt", "text")
    write_atomic(tmp_path / "new" / "a.txt", b"bytes")
    assert (tmp_path / "new" / "a.txt").read_bytes() == b"bytes"
    assert names_in(tmp_path / "new") == ["a.txt"]


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    with pytest.raises(UserError, match="the disk is full"), atomic_path(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["a.txt"]


def test_writing_follows_symlinks(tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "a.txt"
    link.symlink_to("there/b.txt")
    write_atomic(link, "text")
    assert link.is_symlink() and (tmp_path / "there" / "b.txt").read_text() == "text"


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    with pytest.raises(UserError, match="it is a folder"):
        write_atomic(tmp_path, "text")


def test_files_of_killed_writers_are_deleted_others_stay(tmp_path):
    path = tmp_path / "a[1].json"  # brackets are no pattern here
    left, other = tmp_path / ".a[1].json.abc.tmp", tmp_path / ".b.json.abc.tmp"
    left.write_text("half")
    other.write_text("of another file")
    with atomic_path(path) as living:
        write_atomic(path, "new")
        assert living.exists() and not left.exists() and other.exists()
        living.write_text("newer")
    assert path.read_text() == "newer"
    assert names_in(tmp_path) == [other.name, path.name]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EACCES, "no permission"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_write_error_says_what_to_do(number, words):
    message = str(write_error(Path("x/a.txt"), OSError(number, os.strerror(number))))
    assert message.startswith("cannot write x/a.txt: ") and words in message


def test_json_returns_what_was_written_and_has_no_nan(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": [1, None, 0.1]})
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError):
            write_json(path, {"a": value})
    assert read_json(path) == {"a": [1, None, 0.1]}


@pytest.mark.parametrize("text", ["", '{"a": ', "\x00\xff", '{"a": "x"}'])
def test_json_that_does_not_fit_names_the_file(tmp_path, text):
    class Numbers(BaseModel):
        a: int

    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"a\.json cannot be used \(.*delete it"):
        read_json(path, Numbers)
    with pytest.raises(UserError, match=r"b\.json is missing"):
        read_json(tmp_path / "b.json")


def test_a_changed_byte_of_an_npz_file_is_noticed(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(1000))
    assert load_arrays(path)["x"].sum() == 499500
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises((zipfile.BadZipFile, ValueError)):
        load_arrays(path)


def test_an_npz_file_with_a_pickle_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([print], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        load_arrays(tmp_path / "a.npz")


def test_a_lock_is_held_by_one_process_at_a_time(tmp_path):
    lock = tmp_path / ".lock"
    with exclusive(lock) as free:
        assert free
        for _ in range(2):  # a failed attempt does not release the lock
            with exclusive(lock) as free_again:
                assert not free_again
    with exclusive(lock) as free:
        assert free


def test_a_file_system_without_locks_is_an_error(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("src.io.fcntl.flock", no_locks)
    lock = exclusive(tmp_path / ".lock")
    with pytest.raises(UserError, match="this file system has no locks"), lock:
        pytest.fail("continued without a lock")


def hold(lock: Path, held, release) -> None:
    with exclusive(lock):
        held.set()
        release.wait(30)


def test_a_lock_with_a_message_waits_for_its_holder(tmp_path):
    context = multiprocessing.get_context("fork")
    held, release = context.Event(), context.Event()
    holder = context.Process(target=hold, args=(tmp_path / ".lock", held, release))
    holder.start()
    assert held.wait(30)
    with exclusive(tmp_path / ".lock") as free:
        assert not free
    release.set()
    with exclusive(tmp_path / ".lock", "waiting for the other"):
        holder.join(30)
        assert holder.exitcode == 0


def test_paths_expand_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    assert expand("~/runs") == Path("/home/ann/runs")
    with pytest.raises(UserError, match="there is no such user"):
        expand("~nobody-of-this-name/runs")


def test_a_hint_names_the_nearest_or_the_first_names():
    assert did_you_mean("blond_hair", ["Male", "Blond_Hair"]) == ": did you mean 'Blond_Hair'?"
    assert did_you_mean("xyz", ["a", "b"]) == "; allowed: a, b"


def run_command(body: str, stdout: IO) -> subprocess.CompletedProcess:
    code = "from src.io import UserError, exit_on_user_error\n"
    code += f"with exit_on_user_error():\n    {body}\n"
    return subprocess.run(
        [sys.executable, "-c", code], stdout=stdout, stderr=subprocess.PIPE, text=True, check=False
    )


@pytest.mark.parametrize(
    ("body", "stderr"),
    [
        ("raise UserError(['one', 'two'])", "error: one\nerror: two\n"),
        ("open('/nowhere/a')", "error: /nowhere/a: No such file or directory\n"),
        ("raise OSError(28, 'No space left')", "error: No space left\n"),
    ],
)
def test_errors_of_users_and_disks_are_lines_and_code_2(body, stderr):
    ended = run_command(body, subprocess.PIPE)
    assert (ended.returncode, ended.stderr) == (2, stderr)


@pytest.mark.parametrize("much", [1, 100_000])
def test_a_closed_reader_ends_a_command_silently(much):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        ended = run_command(f"print('x' * {much})", stdout)
    assert (ended.returncode, ended.stderr) == (128 + 13, "")


def test_output_on_a_full_disk_is_one_line():
    with Path("/dev/full").open("w") as full:
        ended = run_command("print('x')", full)
    assert (ended.returncode, ended.stderr) == (2, "error: No space left on device\n")
