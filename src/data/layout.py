"""Where the parts of a CelebA folder lie, and its image files."""

import hashlib
import os
import zipfile
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from src.io import UserError

MAX_MEMBER = 1 << 26  # bytes of one image; CelebA's have 10 kB
IMAGES = "img_align_celeba"
HOMEPAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"


def find_root(root: str | Path) -> Path:
    """The folder with the annotation files: `root` itself or the `celeba/` in it.

    Raises:
        UserError: there is no CelebA; the message says how to get it.
    """
    root = _expand(root)
    for folder in (root, root / "celeba"):
        if any((folder / f"list_attr_celeba{suffix}").is_file() for suffix in (".txt", ".csv")):
            return folder
    raise UserError(
        f"no CelebA in '{root}': list_attr_celeba.txt (or .csv) is neither there nor in its "
        f"celeba/ folder. Fetch it with `python -m scripts.prepare_data --download --root {root}` "
        f"or by hand from {HOMEPAGE} (list_attr_celeba.txt, list_eval_partition.txt, "
        f"{IMAGES}.zip), name its folder with exp.dataset.root=..., or try the drawn stand-in: "
        "exp/dataset=synthetic"
    )


def cache_folder(root: str | Path, cache_dir: str | Path | None = None) -> Path:
    """Where everything derived from `root` is kept: one folder per data set under `cache_dir`
    (default `data/cache`), so that two data sets never mix."""
    resolved = find_root(root).resolve()
    tag = hashlib.sha256(str(resolved).encode()).hexdigest()[:12]
    return _expand(cache_dir or "data/cache") / tag


def _expand(path: str | Path) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"'{path}': there is no such user; write the folder in full") from error


def annotation_file(root: Path, stem: str) -> Path:
    for suffix in (".txt", ".csv"):
        if (root / (stem + suffix)).is_file():
            return root / (stem + suffix)
    raise UserError(f"{root}: {stem}.txt (or .csv) is missing; get it from {HOMEPAGE}")


def _is_file(entry: os.DirEntry) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself
        return False


class ImageFiles:
    """The image files of a CelebA folder, by name.

    Safe to use from several threads and processes at once: an archive is read with `pread`, which
    moves no shared position.

    Raises:
        UserError: there are no images.
    """

    def __init__(self, root: str | Path):
        self.root = find_root(root)
        folder, archive = self.root / IMAGES, self.root / f"{IMAGES}.zip"
        if (folder / IMAGES).is_dir():
            folder = folder / IMAGES
        self.folder = folder if folder.is_dir() and any(folder.iterdir()) else None
        self.archive = archive if self.folder is None and archive.is_file() else None
        if self.folder is None and self.archive is None:
            raise UserError(
                f"no images in '{self.root}': neither {IMAGES}/ nor {IMAGES}.zip is there; "
                f"get {IMAGES}.zip from {HOMEPAGE}"
            )

    @property
    def location(self) -> Path:
        return self.folder or self.archive

    def __reduce__(self):
        return ImageFiles, (self.root,)  # an open archive does not travel to another process

    def path(self, name: str) -> str:
        """What to call an image in a message."""
        return f"{self.location}/{name}"

    def read(self, name: str) -> bytes:
        """The bytes of an image file. Raises OSError where it cannot be read."""
        if "/" in name or "\\" in name or name in ("", ".", ".."):
            raise UserError(f"image name '{name}' leaves the folder {self.location}")
        if self.archive is not None:
            return self._archive.read(name)
        try:
            with (self.folder / name).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size > MAX_MEMBER:
                    raise OSError(f"{size:,} bytes; at most {MAX_MEMBER:,} are read")
                return file.read()
        except ValueError as error:  # a zero byte or a lone surrogate in the name
            raise OSError(f"no file can have this name ({error})") from error

    def names(self) -> set[str]:
        """All files that are there."""
        if self.archive is not None:
            return set(self._archive.members)
        return {entry.name for entry in os.scandir(self.folder) if _is_file(entry)}

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that are not there."""
        present = self.names()
        return [str(name) for name in names if str(name) not in present]

    def fingerprint(self, names: Sequence[str]) -> str:
        """Hash of the names with size and mtime of each file (of the archive, if it is one).

        Never fails: a missing file counts as such.
        """
        names = [str(name) for name in names]
        digest = hashlib.sha256("\n".join(names).encode())
        if self.archive is not None:
            stat = self.archive.stat()
            digest.update(f"\n{stat.st_size} {stat.st_mtime_ns}".encode())
            return digest.hexdigest()
        digest.update(np.array(self._stats(names), np.int64))
        return digest.hexdigest()

    def _stats(self, names: list[str]) -> list[tuple[int, int]]:
        directory = os.open(self.folder, os.O_RDONLY)
        stats = []
        try:
            for name in names:
                try:
                    stat = os.stat(name, dir_fd=directory)
                except (OSError, ValueError):
                    stats.append((-1, -1))
                else:
                    stats.append((stat.st_size, stat.st_mtime_ns))
        finally:
            os.close(directory)
        return stats

    @cached_property
    def _archive(self) -> "_Archive":
        return _Archive(self.archive)


class _Archive:
    """Members of a zip by their last name, whatever folder they were packed in."""

    def __init__(self, path: Path):
        self.members: dict[str, zipfile.ZipInfo] = {}
        try:
            with zipfile.ZipFile(path) as archive:
                infos = archive.infolist()
        except OSError:
            raise
        except Exception as error:  # a damaged directory makes zipfile raise many kinds
            raise UserError(f"{path}: not a complete zip file ({error}); fetch it again") from None
        for info in infos:
            name = info.filename.rpartition("/")[2]
            if not name or info.filename.startswith("__MACOSX/"):
                continue
            if name in self.members:
                raise UserError(
                    f"{path}: two members are called {name} ({self.members[name].filename}, "
                    f"{info.filename}); unpack the right folder as {IMAGES}/"
                )
            self.members[name] = info
        self.file = path.open("rb", buffering=0)

    def read(self, name: str) -> bytes:
        """The bytes of one member, checked against its CRC32."""
        info = self.members.get(name)
        if info is None:
            raise FileNotFoundError(f"no member {name}")
        # Local header: 30 fixed bytes, of which 26:30 are the lengths of the name and extra field.
        if not 0 <= info.header_offset < os.fstat(self.file.fileno()).st_size:
            raise OSError("its place in the archive is damaged")
        header = os.pread(self.file.fileno(), 30, info.header_offset)
        if len(header) < 30 or info.flag_bits & 1:
            raise OSError("cut short or encrypted in the archive")
        skip = 30 + sum(np.frombuffer(header[26:30], "<u2").tolist())
        if max(info.compress_size, info.file_size) > MAX_MEMBER:
            raise OSError(f"{info.file_size:,} bytes; at most {MAX_MEMBER:,} are read")
        data = os.pread(self.file.fileno(), info.compress_size, info.header_offset + skip)
        if info.compress_type == zipfile.ZIP_DEFLATED:
            try:
                # No more than the directory promises: a few kB can unpack to many GB.
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, info.file_size + 1)
            except zlib.error as error:
                raise OSError(f"damaged in the archive: {error}") from None
        elif info.compress_type != zipfile.ZIP_STORED:
            raise OSError("packed with a method other than stored or deflated")
        if zlib.crc32(data) != info.CRC:
            raise OSError("damaged in the archive: CRC32 differs")
        return data
