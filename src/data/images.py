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

from src.data.pixels import Pixels, WrongFrame
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

    def missing(self, names: Sequence[str]) -> list[str]:
        """Return those of `names` that do not exist."""
        if self.is_archive:
            members = open_archive(self.location)[1]
            return [str(name) for name in names if self.file_name(name) not in members]
        return [str(name) for name in names if not Path(self.path(name)).exists()]

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


class BadImages(UserError):
    """Images that are missing or unreadable: `bad` maps their names to reasons."""

    def __init__(self, images: ImageFiles, bad: dict[str, str]):
        self.bad = bad
        shown = [f"{images.path(name)}: {reason}" for name, reason in sorted(bad.items())[:10]]
        if len(bad) > 10:
            shown.append(f"... and {len(bad) - 10} more")
        super().__init__(
            [
                f"{len(bad)} images are missing or unreadable:",
                *shown,
                "get them again, or leave them out: python -m scripts.prepare_data --skip_bad ...",
            ]
        )


def decode_file(
    images: ImageFiles, name: str, pixels: Pixels
) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the pixels of an image by name, and the size of its picture; see `Pixels.decode`.

    Raises:
        OSError, BadImage: it cannot be read.
        UserError: it has not the size of the data set's frames.
    """
    try:
        return pixels.decode(images.read(name))
    except WrongFrame as error:
        raise UserError(
            f"{images.path(name)}: {error}, the size of CelebA's aligned images. Use the images of "
            f"img_align_celeba.zip, or take other pictures with exp.dataset.crop=square (or full)"
        ) from None


@functools.cache
def open_archive(path: Path) -> tuple[zipfile.ZipFile, dict[str, str]]:
    """Open a zip archive once per process; return it with its members by path and by last name.

    Raises:
        UserError: it is not a complete zip archive.
    """
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise UserError(f"{path} is not a complete zip archive ({error}): get it again") from error
    full = [name for name in archive.namelist() if not name.startswith("__MACOSX/")]
    members = {name.rpartition("/")[2]: name for name in full}
    return archive, members | {name: name for name in full}


def bad_images_file(cache_folder: Path) -> Path:
    """Return the path of the list of images to leave out: {name: {"reason", "fingerprint"}}."""
    return cache_folder / "bad_images.json"


def read_bad_images(cache_folder: Path) -> dict[str, dict[str, str]]:
    """Read the list of images to leave out; empty if there is none."""
    path = bad_images_file(cache_folder)
    return read_json(path, dict[str, dict[str, str]]) if path.is_file() else {}


def leave_out(images: ImageFiles, cache_folder: Path, bad: dict[str, str]) -> None:
    """Add images {name: reason} to the list. Each is left out until its file changes."""
    path = bad_images_file(cache_folder)
    with exclusive(path.with_suffix(".lock"), f"waiting for another process to write {path}"):
        entries = read_bad_images(cache_folder)
        for name, reason in bad.items():
            entries[name] = {"reason": reason, "fingerprint": images.fingerprint([name])}
        write_json(path, entries)


def without_bad_images(
    table: Table, find_images: Callable[[], ImageFiles], cache_folder: Path
) -> Table:
    """Return the table without the listed images, except those whose files changed since."""
    listed = read_bad_images(cache_folder)
    if not listed:
        return table
    images = find_images()
    bad = [n for n, entry in listed.items() if images.fingerprint([n]) == entry["fingerprint"]]
    keep = ~np.isin(table.names, bad)
    if not keep.all():
        count = np.count_nonzero(~keep)
        _print_once(
            f"{count:,} missing or unreadable images are left out, "
            f"see {bad_images_file(cache_folder)}"
        )
    return table.select(keep)


@functools.cache
def _print_once(message: str) -> None:
    print(message, file=sys.stderr)
