"""Image files, in a folder or a zip archive, and the list of those to leave out."""

import functools
import hashlib
import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from src.data.table import Table
from src.io import UserError, exclusive, read_json, write_json


class ImageFiles:
    """The image files of a data set, by name. Safe to use from many threads and processes.

    Args:
        location: a folder or a zip archive.
        suffix: how the files end if not as their names do, such as `.png`.
    """

    def __init__(self, location: Path, suffix: str | None = None):
        self.location, self.suffix = location, suffix
        self.is_archive = location.suffix == ".zip"

    def path(self, name: str) -> str:
        """Return where an image is."""
        return f"{self.location}/{self.file_name(name)}"

    def file_name(self, name: str) -> str:
        """Return the path of an image within the location."""
        return (name.rpartition(".")[0] or str(name)) + self.suffix if self.suffix else str(name)

    def read(self, name: str) -> bytes:
        """Return the bytes of an image file.

        Raises:
            OSError: the file is missing or cannot be read.
        """
        if not self.is_archive:
            return (self.location / self.file_name(name)).read_bytes()
        archive, members = open_archive(self.location)
        member = members.get(self.file_name(name))
        if member is None:
            raise FileNotFoundError(f"no member {name}")
        try:
            return archive.read(member)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
            raise OSError(f"damaged in the archive: {error}") from error

    def names(self) -> set[str]:
        """Return the names of all files directly in the folder, or of all in the archive."""
        if self.is_archive:
            return {name.rpartition("/")[2] for name in open_archive(self.location)[1]} - {""}
        return {entry.name for entry in os.scandir(self.location) if entry.is_file()}

    def missing(self, names: Sequence[str]) -> list[str]:
        """Return those of `names` that do not exist."""
        if self.is_archive:
            members = open_archive(self.location)[1]
            return [str(name) for name in names if self.file_name(name) not in members]
        listed: dict[str, set[str]] = {}
        missing = []
        for name in map(str, names):
            folder, _, file = self.file_name(name).rpartition("/")
            if folder not in listed:
                path = self.location / (folder or ("/" if name.startswith("/") else ""))
                listed[folder] = (
                    {entry.name for entry in os.scandir(path)} if path.is_dir() else set()
                )
            if file not in listed[folder]:
                missing.append(name)
        return missing

    def fingerprint(self, names: Sequence[str]) -> str:
        """Return a hash of the names with size and mtime of each file (or of the archive)."""
        names = list(map(str, names))
        digest = hashlib.sha256("\n".join(names).encode())
        folder = self.location.parent if self.is_archive else self.location
        files = [self.location.name] if self.is_archive else map(self.file_name, names)
        handle = os.open(folder, os.O_RDONLY)
        try:
            digest.update(np.array([_size_and_mtime(file, handle) for file in files], np.int64))
        finally:
            os.close(handle)
        return digest.hexdigest()


def _size_and_mtime(file: str, folder: int) -> tuple[int, int]:
    try:
        stat = os.stat(file, dir_fd=folder)
    except OSError:
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def open_archive(path: Path) -> tuple[zipfile.ZipFile, dict[str, str]]:
    """Open a zip archive once per process; return it with its members by path and by last name.

    Raises:
        UserError: it is not a complete zip archive.
    """
    return _open_archive(path, os.getpid())  # forked processes would share a position in the file


@functools.cache
def _open_archive(path: Path, process: int) -> tuple[zipfile.ZipFile, dict[str, str]]:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise UserError(f"{path} is not a complete zip archive ({error}): get it again") from error
    full = [name for name in archive.namelist() if not name.startswith("__MACOSX/")]
    members = {name.rpartition("/")[2]: name for name in full}
    return archive, members | {name: name for name in full}


class LeftOut(BaseModel):
    """Why an image is left out, and the fingerprint of its file then."""

    reason: str
    fingerprint: str


def bad_images_file(cache_folder: Path) -> Path:
    """Return the path of the list of images to leave out: {name: {"reason", "fingerprint"}}."""
    return cache_folder / "bad_images.json"


def read_bad_images(cache_folder: Path) -> dict[str, LeftOut]:
    """Read the list of images to leave out; empty if there is none."""
    path = bad_images_file(cache_folder)
    return read_json(path, dict[str, LeftOut]) if path.is_file() else {}


def leave_out(images: ImageFiles, cache_folder: Path, bad: dict[str, str]) -> None:
    """Add images {name: reason} to the list. Each is left out until its file changes."""
    path = bad_images_file(cache_folder)
    with exclusive(path.with_suffix(".lock"), f"waiting for another process to write {path}"):
        entries = read_bad_images(cache_folder)
        for name, reason in bad.items():
            entries[name] = LeftOut(reason=reason, fingerprint=images.fingerprint([name]))
        write_json(path, {name: entry.model_dump() for name, entry in entries.items()})


def without_bad_images(
    table: Table, find_images: Callable[[], ImageFiles], cache_folder: Path
) -> Table:
    """Return the table without the listed images, except those whose files changed since."""
    listed = read_bad_images(cache_folder)
    if not listed:
        return table
    images = find_images()
    bad = [
        name for name, entry in listed.items() if images.fingerprint([name]) == entry.fingerprint
    ]
    keep = ~np.isin(table.names, bad)
    if keep.all():
        return table
    _print_once(
        f"{len(keep) - np.count_nonzero(keep):,} missing or unreadable images are left out, "
        f"see {bad_images_file(cache_folder)}"
    )
    return table.select(keep)


@functools.cache
def _print_once(message: str) -> None:
    print(message, file=sys.stderr)
