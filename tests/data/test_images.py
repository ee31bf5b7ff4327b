"""Image files in folders and archives, and the list of those to leave out."""

import os
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from src.data.celeba import find_images
from src.io import UserError
from tests.data.small_celeba import write_annotations, write_celeba

SPLIT = [0, 0, 1, 2, 0]


def nest(root: Path) -> None:
    folder = root / "img_align_celeba"
    folder.rename(root / "inner")
    folder.mkdir()
    (root / "inner").rename(folder / "img_align_celeba")


def move_to_img(root: Path) -> None:
    (root / "Img").mkdir()
    (root / "img_align_celeba").rename(root / "Img" / "img_align_celeba")


def zipped(root: Path, prefix: str = "img_align_celeba/", method: int = zipfile.ZIP_STORED) -> None:
    folder = root / "img_align_celeba"
    with zipfile.ZipFile(root / "img_align_celeba.zip", "w", method) as archive:
        archive.writestr("__MACOSX/._000001.jpg", "resource fork")
        for path in sorted(folder.iterdir()):
            archive.write(path, prefix + path.name)
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "layout",
    [
        lambda root: None,
        nest,
        move_to_img,
        zipped,
        lambda root: zipped(root, prefix=""),
        lambda root: zipped(root, "a/b/", zipfile.ZIP_DEFLATED),
    ],
    ids=["folder", "nested", "Img", "zip", "zip-flat", "zip-deflated"],
)
def test_images_read_the_same_in_every_layout(tmp_path, layout):
    names = write_celeba(tmp_path, SPLIT)
    wanted = [(tmp_path / "img_align_celeba" / name).read_bytes() for name in names]
    layout(tmp_path)
    images = find_images(tmp_path)
    assert [images.read(name) for name in names] == wanted
    assert images.missing([*names, "000009.jpg"]) == ["000009.jpg"]
    with pytest.raises(OSError, match="000009"):
        images.read("000009.jpg")


def test_zip_is_read_by_many_threads_at_once(tmp_path):
    names = write_celeba(tmp_path, SPLIT)
    wanted = [(tmp_path / "img_align_celeba" / name).read_bytes() for name in names] * 50
    zipped(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(find_images(tmp_path).read, names * 50)) == wanted


def test_zip_cut_short_is_a_user_error(tmp_path):
    names = write_celeba(tmp_path, SPLIT)
    zipped(tmp_path)
    path = tmp_path / "img_align_celeba.zip"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="not a complete zip"):
        find_images(tmp_path).read(names[0])


def test_changed_byte_in_a_zip_is_an_error(tmp_path):
    names = write_celeba(tmp_path, SPLIT)
    zipped(tmp_path)
    path = tmp_path / "img_align_celeba.zip"
    data = bytearray(path.read_bytes())
    data[data.index(b"\xff\xd8\xff") + 500] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match="CRC-32"):
        find_images(tmp_path).read(names[0])


def test_no_images_says_where_they_belong(tmp_path):
    write_annotations(tmp_path, SPLIT)
    with pytest.raises(UserError, match=r"neither img_align_celeba/ nor img_align_celeba\.zip"):
        find_images(tmp_path)


def test_fingerprint_changes_with_size_mtime_and_absence(tmp_path):
    names = write_celeba(tmp_path, SPLIT)
    images, path = find_images(tmp_path), tmp_path / "img_align_celeba" / names[1]
    seen = [images.fingerprint(names)]
    assert images.fingerprint(names) == seen[0]
    os.utime(path, ns=(5, 5))
    seen.append(images.fingerprint(names))
    path.write_bytes(path.read_bytes() + b"x")
    os.utime(path, ns=(5, 5))
    seen.append(images.fingerprint(names))
    path.unlink()
    seen.append(images.fingerprint(names))
    seen.append(images.fingerprint(names[:-1]))
    assert len(set(seen)) == 5
