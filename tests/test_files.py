"""Files are written whole or not at all, and locks exclude."""

import errno
import json
import math
import multiprocessing
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from src.errors import UserError, exit_on_user_error
from src.files import atomic_path, exclusive, read_json, write_atomic, write_error, write_json
from src.runs.folder import Run
from src.training.metrics_log import read_metrics


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_written_file_has_its_content_and_leaves_nothing_beside(tmp_path):
    write_atomic(tmp_path / "new" / "a.txt", "text")
    write_atomic(tmp_path / "new" / "a.txt", b"bytes")
    assert (tmp_path / "new" / "a.txt").read_bytes() == b"bytes"
    assert names_in(tmp_path / "new") == ["a.txt"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["a.txt"]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent
    assert path.read_text() == "new"


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path):
    write_atomic(tmp_path / "a.txt", "")
    (tmp_path / "b.txt").touch()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.txt", "b.txt")}
    assert len(modes) == 1


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EDQUOT, "quota is used up"),
        (errno.EACCES, "no permission"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_failed_write_says_what_is_wrong_and_what_to_do(number, words):
    message = str(write_error(Path("x/a.txt"), OSError(number, os.strerror(number))))
    assert message.startswith("cannot write x/a.txt: ") and words in message


def test_a_full_disk_is_a_user_error_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(UserError, match="the disk is full"), atomic_path(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["a.txt"]


def test_a_place_that_cannot_exist_is_a_user_error():
    with pytest.raises(UserError, match="cannot write /dev/null/x/a"):
        write_atomic(Path("/dev/null/x/a"), "")
    lock = exclusive(Path("/dev/null/x/.lock"))
    with pytest.raises(UserError, match=r"cannot write /dev/null/x/\.lock"), lock:
        pass


def test_a_link_stays_a_link_and_the_file_it_leads_to_is_written(tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "a.txt"
    link.symlink_to("there/b.txt")
    write_atomic(link, "text")
    assert link.is_symlink() and (tmp_path / "there" / "b.txt").read_text() == "text"
    assert names_in(tmp_path / "there") == ["b.txt"]


def test_a_folder_or_a_device_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "full").symlink_to("/dev/full")
    for path in (tmp_path, tmp_path / "fifo", tmp_path / "full", Path("/dev/full")):
        with pytest.raises(UserError, match="no regular file; choose another name"):
            write_atomic(path, "text")
        assert path.exists() and not path.is_file()
    assert names_in(tmp_path) == ["fifo", "full"]


def test_a_name_that_no_file_can_have_is_a_user_error():
    for name in ("a\0b/c", "a\0b", "\udfff"):
        with pytest.raises(UserError, match="no file can have this name"):
            write_atomic(Path(name), "")
        lock = exclusive(Path(name))
        with pytest.raises(UserError, match="no file can have this name"), lock:
            pass
    with pytest.raises(UserError, match="File name too long"):
        write_atomic(Path("a" * 300), "")


def test_a_fifo_is_neither_read_nor_locked_and_nobody_waits(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(UserError, match="no regular file"):
        read_json(fifo)
    with pytest.raises(UserError, match=r"cannot write .*fifo"), exclusive(fifo):
        pass
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(UserError, match=r"cannot write .*fifo"), exclusive(fifo):
        pass
    os.close(reader)


def test_a_text_too_large_for_the_memory_is_not_read(tmp_path):
    """A sparse file of 1 TB costs nothing to make."""
    with (tmp_path / "metrics.jsonl").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UserError, match="more than 1,024 MiB"):
        read_json(tmp_path / "metrics.jsonl")
    with pytest.raises(UserError, match="more than 1,024 MiB"):
        read_metrics(Run(tmp_path))


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_metrics_that_are_no_file_are_a_user_error(tmp_path, make):
    assert read_metrics(Run(tmp_path)) == []
    make(tmp_path / "metrics.jsonl")
    with pytest.raises(UserError, match=r"metrics\.jsonl cannot be read .*; move it away"):
        read_metrics(Run(tmp_path))


def test_json_comes_back_and_nan_is_refused_before_anything_is_written(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": [1, None, 0.1]})
    assert read_json(path) == {"a": [1, None, 0.1]}
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError):
            write_json(path, {"a": value})
    assert json.loads(path.read_text()) == {"a": [1, None, 0.1]}


@pytest.mark.parametrize(
    "text", ["", '{"a": ', "\x00\xff", "[" * 100_000, "9" * 400, "9" * 5000, "-9223372036854775808"]
)
def test_json_that_cannot_be_read_is_a_user_error_that_names_the_file(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"a\.json cannot be read as JSON"):
        read_json(path)
    with pytest.raises(UserError, match=r"b\.json is missing"):
        read_json(tmp_path / "b.json")


def test_a_lock_is_held_by_one_at_a_time(tmp_path):
    lock = tmp_path / ".lock"
    with exclusive(lock) as free:
        assert free
        with exclusive(lock) as free_again:
            assert not free_again
        with exclusive(lock) as free_again:  # the loser has not taken the lock away
            assert not free_again
    with exclusive(lock) as free:
        assert free


def test_a_file_system_without_locks_is_named_and_nothing_runs_unlocked(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("src.files.fcntl.flock", no_locks)
    lock = exclusive(tmp_path / ".lock")
    with pytest.raises(UserError, match=r"\.lock: no file can be locked there \(Function"), lock:
        pytest.fail("it went on without a lock")


def _hold(lock: Path, held, release) -> None:
    with exclusive(lock):
        held.set()
        release.wait(30)


def test_a_lock_with_a_message_waits_for_another_process(tmp_path, capsys):
    context = multiprocessing.get_context("fork")
    held, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path / ".lock", held, release))
    holder.start()
    assert held.wait(30)
    with exclusive(tmp_path / ".lock") as free:
        assert not free
    release.set()
    with exclusive(tmp_path / ".lock", "waiting for the other"):
        holder.join(30)
        assert holder.exitcode == 0
    assert capsys.readouterr().out in ("waiting for the other\n", "")


def test_what_a_killed_writer_left_goes_with_the_next_write_and_a_living_ones_stays(tmp_path):
    path = tmp_path / "a[1].json"  # brackets are no pattern here
    left = tmp_path / ".a[1].json.abc.tmp"
    other = tmp_path / ".b.json.abc.tmp"
    left.write_text("half of it")
    other.write_text("of another file")
    with atomic_path(path) as living:
        write_atomic(path, "new")
        assert living.exists() and not left.exists() and other.exists()
        living.write_text("newer")
    assert path.read_text() == "newer"
    assert sorted(p.name for p in tmp_path.iterdir()) == [other.name, path.name]


def test_what_a_terminal_would_obey_or_could_not_print_is_shown_by_its_code():
    name = "a\x1b[2Jb\x0b\n\u2028\xa0\udc80é"
    shown = r"a\x1b[2Jb\x0b\n\u2028\xa0\udc80é"
    assert str(UserError([f"{name}: no", "2nd"])) == f"{shown}: no\n2nd"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space"), "cannot write the output: No space"),
        (OSError(errno.EIO, "It fails", "a"), "cannot write a: It fails"),
        (OSError(errno.ENAMETOOLONG, "File name too long", b"a\n\xff"), r"a\n\udcff: File name"),
        (PermissionError(errno.EACCES, "Permission denied", "a"), "a: Permission denied"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "a"), "a: Is a directory"),
        (OSError("no errno"), "no errno"),
        (ConnectionResetError(), "ConnectionResetError"),
    ],
)
def test_what_the_system_refuses_is_a_line_and_exit_code_2(capsys, error, line):
    with pytest.raises(SystemExit) as raised, exit_on_user_error():
        raise error
    assert raised.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {line}") and told.count("\n") == 1


@pytest.mark.parametrize("much", [1, 100_000])
def test_a_reader_that_has_seen_enough_ends_a_command_without_a_word(much):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        done = run_in_errors(f"print('x' * {much})", stdout)
    assert (done.returncode, done.stderr) == (128 + 13, "")


def test_output_on_a_full_disk_is_told_once():
    with Path("/dev/full").open("w") as full:
        done = run_in_errors("print('x')", full)
    line = "error: cannot write the output: No space left on device\n"
    assert (done.returncode, done.stderr) == (2, line)


def run_in_errors(body: str, stdout: IO) -> subprocess.CompletedProcess:
    code = "from src.errors import UserError, exit_on_user_error\n"
    code += f"with exit_on_user_error():\n    {body}\n"
    return subprocess.run(
        [sys.executable, "-c", code], stdout=stdout, stderr=subprocess.PIPE, text=True, check=False
    )
