import contextlib
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from scripts import prepare_data
from src.data.celeba import cache_folder, find_images, load_annotations
from src.data.images import ImageFiles, leave_out, read_bad_images
from src.data.sources import INDEX
from src.io import UserError
from tests.data.small_celeba import build_cache, draw_image, wait_for_chunks, write_celeba

SPLIT = [0, 0, 0, 0, 1, 1, 2]


@pytest.fixture
def root(tmp_path):
    write_celeba(tmp_path / "celeba", SPLIT)
    return tmp_path / "celeba"


def arguments(root: Path, *more: str) -> list[str]:
    cache = str(root.parent / "cache")
    sizes = ["--target_resolution", "16", "24"]
    return ["--root", str(root), "--cache_dir", cache, "--workers", "1", *sizes, *more]


def truncate(root: Path, name: str) -> None:
    path = root / "img_align_celeba" / name
    path.write_bytes(path.read_bytes()[:-2000])


def train_names(root: Path) -> list[str]:
    return load_annotations(root, root.parent / "cache").of_split("train").names.tolist()


def test_caches_of_all_splits_are_built_and_listed(root, capsys):
    prepare_data.main(arguments(root))
    output = capsys.readouterr().out
    assert "7 annotated images: train 4, val 2, test 1" in output
    assert f"train-cropped-16x24-178.bin: 4 images, {4 * 16 * 24 * 3:,} bytes" in output
    assert "val-cropped-16x24-178.bin: 2 images" in output
    assert "test-cropped-16x24-178.bin: 1 images" in output
    assert "pictures of 178x218 (4) pixels, width x height" in output


def test_augmentation_keeps_whole_frames_of_the_train_split_only(root, capsys):
    prepare_data.main(arguments(root, "--data_augmentation", "--splits", "train", "val"))
    output = capsys.readouterr().out
    assert "train-frame-218x178.bin: 4 images" in output
    assert "val-cropped-16x24-178.bin: 2 images" in output
    assert "test-cropped" not in output and "test-frame" not in output


def test_bad_image_ends_with_its_name(root):
    truncate(root, "000002.jpg")
    with pytest.raises(UserError, match=r"000002\.jpg: .*truncated"):
        prepare_data.main(arguments(root))


def test_skip_bad_leaves_images_out_and_says_how_many(root, capsys):
    truncate(root, "000002.jpg")
    (root / "img_align_celeba" / "000003.jpg").unlink()
    prepare_data.main(arguments(root, "--skip_bad"))
    output, errors = capsys.readouterr()
    assert "000002.jpg" in output and "000003.jpg" in output
    assert "missing or unreadable images are left out" in output
    assert train_names(root) == ["000001.jpg", "000004.jpg"]
    assert "2 missing or unreadable images are left out, see" in errors + capsys.readouterr().err


def test_repaired_image_comes_back(root):
    truncate(root, "000002.jpg")
    prepare_data.main(arguments(root, "--skip_bad"))
    assert len(train_names(root)) == 3
    assert set(read_bad_images(cache_folder(root, root.parent / "cache"))) == {"000002.jpg"}
    draw_image(5).save(root / "img_align_celeba" / "000002.jpg")
    assert len(train_names(root)) == 4
    records = build_cache(root, "train", (16, 24))
    assert records.read(np.arange(4)).shape == (4, 16, 24, 3)


def test_download_offline_says_what_to_do_by_hand(tmp_path, monkeypatch):
    def offline(*args):
        raise ConnectionError("Failed to resolve 'drive.google.com'")

    monkeypatch.setattr("torchvision.datasets.utils.download_file_from_google_drive", offline)
    monkeypatch.setattr(prepare_data, "find_spec", lambda name: name)
    with pytest.raises(UserError) as caught:
        prepare_data.main(["--root", str(tmp_path), "--download"])
    text = str(caught.value)
    assert "Failed to resolve" in text
    assert "Is this machine online?" in text
    assert "mmlab.ie.cuhk.edu.hk" in text
    assert f"put them into {tmp_path}/celeba" in text


def test_download_fetches_the_three_files_that_are_needed(root, monkeypatch):
    fetched = []
    monkeypatch.setattr(
        "torchvision.datasets.utils.download_file_from_google_drive",
        lambda file_id, folder, name, md5: fetched.append((folder, name, len(md5))),
    )
    monkeypatch.setattr(prepare_data, "find_spec", lambda name: name)
    prepare_data.main(arguments(root, "--download", "--splits", "test"))
    assert sorted(fetched) == [
        (root, name, 32)
        for name in ("img_align_celeba.zip", "list_attr_celeba.txt", "list_eval_partition.txt")
    ]


def test_bad_command_line_exits_with_2_and_no_traceback():
    command = [sys.executable, "-m", "scripts.prepare_data", "--root", "/nonexistent"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert "error: " in result.stderr
    assert "Traceback" not in result.stderr
    for wrong in (["--target_resolution", "0", "64"], ["--splits", "valid"]):
        with pytest.raises(UserError):
            prepare_data.main(wrong)


@pytest.mark.slow
def test_ctrl_c_stops_and_the_next_start_continues(tmp_path):
    root, cache = tmp_path / "celeba", tmp_path / "cache"
    write_celeba(root, [0] * 1500)
    command = [sys.executable, "-m", "scripts.prepare_data", "--splits", "train", "--workers", "2"]
    command += ["--root", str(root), "--cache_dir", str(cache)]
    process = subprocess.Popen(
        command,
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    index = cache_folder(root, cache) / "train-cropped-224x224-178.index"
    wait_for_chunks(index)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "stopped; the same command continues from here" in errors
    assert "Traceback" not in errors
    assert 128 <= np.count_nonzero(np.fromfile(index, INDEX)["done"]) < 1500
    result = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0
    assert "1,500 images" in result.stdout


def test_two_processes_may_leave_images_out_at_once(root, monkeypatch):
    """Each waits between reading and writing the list for the other to read: a lock prevents it."""
    both_have_read = threading.Barrier(2)
    fingerprint = ImageFiles.fingerprint

    def wait_for_the_other(images: ImageFiles, names: list[str]) -> str:
        with contextlib.suppress(threading.BrokenBarrierError):
            both_have_read.wait(0.5)
        return fingerprint(images, names)

    monkeypatch.setattr(ImageFiles, "fingerprint", wait_for_the_other)
    with ThreadPoolExecutor(2) as pool:
        names = ["000001.jpg", "000002.jpg"]
        images, folder = find_images(root), cache_folder(root, root.parent / "cache")
        list(pool.map(lambda name: leave_out(images, folder, {name: "unreadable"}), names))
    assert set(read_bad_images(folder)) == set(names)
