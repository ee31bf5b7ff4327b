import errno
import io
import os
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from src.data import cache
from src.data.celeba import cache_folder, find_images, load_annotations
from src.data.images import BadImages
from src.data.pixels import Pixels
from src.data.sources import INDEX, Records, StreamedImages
from src.io import UserError, exclusive
from tests.data.small_celeba import build_cache, draw_image, write_celeba

TRAIN = 10
SPLIT = [0] * TRAIN + [1, 1, 2]
CELEBA = {"crop": 178, "frame": (218, 178)}
NAME = "train-cropped-32x32-178"


@pytest.fixture
def root(tmp_path):
    write_celeba(tmp_path / "celeba", SPLIT)
    return tmp_path / "celeba"


@pytest.fixture
def chunks_of_4(monkeypatch):
    monkeypatch.setattr(cache, "CHUNK", 4)


def build(root, split="train", resolution=(32, 32), **options) -> Records:
    return build_cache(root, split, resolution, **options)


def jpeg(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, options.pop("format", "JPEG"), **options)
    return file.getvalue()


def count_decodes(monkeypatch) -> list:
    """A list that grows by one with every image decoded from now on."""
    seen, decode = [], Pixels.decode
    monkeypatch.setattr(Pixels, "decode", lambda self, data: seen.append(1) or decode(self, data))
    return seen


def test_the_fingerprint_identifies_the_pixels(root, tmp_path):
    images = find_images(root)
    names = load_annotations(root, tmp_path).of_split("train").names
    streamed = StreamedImages(images, names, Pixels((32, 32), **CELEBA))
    before = build(root).fingerprint["crc"], streamed.fingerprint["files"]
    assert (build(root).fingerprint["crc"], streamed.fingerprint["files"]) == before
    path = images.location / names[3]
    path.write_bytes(jpeg(Image.new("RGB", (178, 218))))
    assert build(root).fingerprint["crc"] != before[0]
    assert streamed.fingerprint["files"] != before[1]


# Reading.


@pytest.mark.parametrize("full_frame", [False, True])
def test_records_hold_each_image_of_the_split_in_order(root, full_frame):
    records = build(root, full_frame=full_frame)
    images = find_images(root)
    names = load_annotations(root, root.parent / "cache").of_split("train").names
    pixels = Pixels((32, 32), full_frame, **CELEBA)
    wanted = np.stack([pixels.decode(images.read(name))[0] for name in names])
    assert len(records) == TRAIN
    assert records.shape == ((218, 178, 3) if full_frame else (32, 32, 3))
    np.testing.assert_array_equal(records.read(np.arange(TRAIN)), wanted)
    streamed = StreamedImages(images, names, pixels)
    np.testing.assert_array_equal(streamed.read(np.array([9, 0])), wanted[[9, 0]])


@pytest.fixture(scope="module")
def shared_records(tmp_path_factory):
    root = tmp_path_factory.mktemp("shared") / "celeba"
    write_celeba(root, [0] * 16)
    records = build(root, resolution=(5, 3))
    return records, records.read(np.arange(16))


@settings(max_examples=50)
@given(st.lists(st.integers(0, 15), max_size=40))
def test_any_positions_give_their_records_in_order(shared_records, positions):
    records, everything = shared_records
    positions = np.array(positions, np.int64)
    np.testing.assert_array_equal(records.read(positions), everything[positions])


@pytest.mark.parametrize("position", [-1, 16])
def test_position_outside_the_split_is_an_error(shared_records, position):
    with pytest.raises(IndexError, match=r"0\.\.15"):
        shared_records[0].read(np.array([0, position]))


def test_many_threads_read_the_same_records(shared_records):
    records, everything = shared_records

    def read(seed: int) -> bool:
        positions = np.random.default_rng(seed).integers(0, 16, 8)
        return np.array_equal(records.read(positions), everything[positions])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(400)))


def test_resident_memory_stays_flat_over_a_large_file(tmp_path):
    count, shape = 20_000, (64, 64, 3)  # 246 MB, sparse on disk
    path = tmp_path / "zeros.bin"
    with path.open("wb") as file:
        file.truncate(count * 64 * 64 * 3)
    index = np.zeros(count, INDEX)
    index["crc"] = zlib.crc32(bytes(64 * 64 * 3))
    records = Records(path, Pixels((64, 64)), [""] * count, index)
    out = np.empty((128, *shape), np.uint8)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    records.read(np.arange(128), out)
    before = resident()
    for start in range(0, count - 128, 128):
        records.read(np.arange(start, start + 128), out)
    assert resident() - before < 20e6


def test_flipped_bit_is_found_and_named(root):
    records = build(root)
    with records.path.open("rb+") as file:
        file.seek(3 * 32 * 32 * 3 + 17)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 4]))
    assert len(records.read(np.array([2, 4]))) == 2
    with pytest.raises(UserError, match=r"178\.bin: record 3 \(000004\.jpg\)") as e:
        records.read(np.array([2, 3, 4]))
    assert "Delete that file and start the same command again" in str(e.value)


# Building.


def test_finished_cache_is_opened_without_decoding(root, monkeypatch):
    build(root)
    decoded = count_decodes(monkeypatch)
    build(root)
    assert decoded == []


@pytest.mark.parametrize(("suffix", "size"), [(".bin", -1), (".index", -1), (".json", 10)])
def test_cache_cut_short_is_built_again(root, suffix, size, capsys):
    records = build(root)
    wanted, path = records.read(np.arange(TRAIN)), records.path.with_suffix(suffix)
    os.truncate(path, size % path.stat().st_size)
    np.testing.assert_array_equal(build(root).read(np.arange(TRAIN)), wanted)
    assert "building it again" in capsys.readouterr().out


def test_changed_image_rebuilds_the_cache(root):
    before = build(root).read(np.arange(TRAIN))
    path = root / "img_align_celeba" / "000003.jpg"
    path.write_bytes(jpeg(draw_image(77)))
    after = build(root).read(np.arange(TRAIN))
    assert not np.array_equal(before[2], after[2])
    np.testing.assert_array_equal(after[2], Pixels((32, 32), **CELEBA).decode(path.read_bytes())[0])
    np.testing.assert_array_equal(np.delete(before, 2, 0), np.delete(after, 2, 0))


def stop_after(monkeypatch, count: int) -> None:
    decode, seen = Pixels.decode, []

    def stopping(self, data):
        seen.append(1)
        if len(seen) > count:
            raise KeyboardInterrupt
        return decode(self, data)

    monkeypatch.setattr(Pixels, "decode", stopping)


def test_stopped_build_continues_with_unfinished_chunks(root, chunks_of_4, monkeypatch):
    wanted = build(root, cache_dir=root.parent / "other").read(np.arange(TRAIN))
    with monkeypatch.context() as patch:
        stop_after(patch, 9)  # two chunks and one image
        with pytest.raises(KeyboardInterrupt):
            build(root)
    folder = cache_folder(root, root.parent / "cache")
    assert not (folder / f"{NAME}.bin").exists()
    with (folder / f"{NAME}.partial").open("rb+") as file:
        file.write(bytes(32))  # the first record did not reach the disk before a power cut
    decoded = count_decodes(monkeypatch)
    records = build(root)
    assert len(decoded) == TRAIN - 4
    np.testing.assert_array_equal(records.read(np.arange(TRAIN)), wanted)
    files = sorted(path.suffix for path in folder.glob("train*"))
    assert files == [".bin", ".index", ".json", ".lock"]


def test_rebuild_finds_what_size_and_mtime_hide(root):
    before = build(root).read(np.arange(TRAIN))
    first = root / "img_align_celeba" / "000001.jpg"
    stat = first.stat()
    first.write_bytes(jpeg(draw_image(77), quality=1).ljust(stat.st_size, b"\0"))
    os.utime(first, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    np.testing.assert_array_equal(build(root).read(np.arange(TRAIN)), before)
    after = build(root, rebuild=True).read(np.arange(TRAIN))
    assert not np.array_equal(after[0], before[0])
    np.testing.assert_array_equal(after[1:], before[1:])


def test_frame_of_another_size_says_what_fits(root):
    path = root / "img_align_celeba" / "000003.jpg"
    path.write_bytes(jpeg(draw_image(1, (512, 512))))
    with pytest.raises(UserError, match=r"000003\.jpg: 512x512 pixels, not 178x218") as caught:
        build(root)
    assert "exp.dataset.crop=square" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_several_threads_build_the_same_file(root, chunks_of_4):
    alone = build(root, cache_dir=root.parent / "other").path.read_bytes()
    assert build(root, workers=3).path.read_bytes() == alone


def test_second_builder_waits_and_says_so(root, capsys):
    folder = cache_folder(root, root.parent / "cache")
    opened = []
    thread = threading.Thread(target=lambda: opened.append(build(root)))
    with exclusive(folder / f"{NAME}.lock"):
        thread.start()
        deadline = time.monotonic() + 10
        output = ""
        while "waiting for it" not in output and time.monotonic() < deadline:
            time.sleep(0.02)
            output += capsys.readouterr().out
        assert "another process is building this cache; waiting for it" in output
        assert opened == []
    thread.join(10)
    assert len(opened[0]) == TRAIN


def test_too_little_space_is_said_before_decoding(root, monkeypatch):
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    decoded = count_decodes(monkeypatch)
    with pytest.raises(UserError, match=r"needs 30,720 bytes, 1,000 are free"):
        build(root)  # 10 records of 32 * 32 * 3 bytes
    assert decoded == []


def test_disk_that_fills_up_is_a_user_error_and_keeps_what_is_done(root, chunks_of_4, monkeypatch):
    pwrite, calls = os.pwrite, []

    def full(*args):
        calls.append(1)
        if len(calls) > 4:  # the records and the index of two chunks
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(UserError, match="the disk is full"):
            build(root)
    decoded = count_decodes(monkeypatch)
    build(root)
    assert len(decoded) == TRAIN - 8


def test_bad_images_are_named_and_no_cache_is_left(root):
    folder = root / "img_align_celeba"
    (folder / "000004.jpg").unlink()
    with pytest.raises(BadImages, match=r"000004\.jpg: missing"):
        build(root)
    draw_image(3).save(folder / "000004.jpg")
    (folder / "000002.jpg").write_bytes((folder / "000002.jpg").read_bytes()[:-2000])
    (folder / "000005.jpg").write_bytes(b"")
    with pytest.raises(BadImages, match="2 images are missing or unreadable") as caught:
        build(root)
    assert set(caught.value.bad) == {"000002.jpg", "000005.jpg"}
    assert "truncated" in caught.value.bad["000002.jpg"]
    assert f"{folder}/000002.jpg" in str(caught.value) and "--skip_bad" in str(caught.value)
    assert not list(cache_folder(root, root.parent / "cache").glob("*.bin"))


def test_folder_that_cannot_be_written_is_a_user_error(root, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        build(root, cache_dir=tmp_path / "file")
