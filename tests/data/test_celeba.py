import multiprocessing
import os
import shutil
import threading
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from src.data.celeba import ImageFiles, cache_folder, find_root, load_annotations
from src.data.groupings import ATTRIBUTES, parse_grouping
from src.io import UserError
from tests.data.small_celeba import official_attributes, write_annotations, write_celeba

SPLIT = [0, 0, 1, 2, 0]
HEADER = " ".join(ATTRIBUTES)
MINUS = " -1" * 40


@pytest.fixture
def root(tmp_path):
    write_annotations(tmp_path / "celeba", SPLIT)
    return tmp_path / "celeba"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def problems(root, cache=None) -> str:
    with pytest.raises(UserError) as caught:
        load_annotations(root, cache or root / "cache")
    return str(caught.value)


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def as_csv(root: Path, low: str) -> None:
    """Turn the official files into the .csv forms, with `low` for the value -1."""
    lines = (root / "list_attr_celeba.txt").read_text().splitlines()[2:]
    rows = [",".join(line.replace("-1", low).split()) for line in lines]
    header = ",".join(["image_id", *ATTRIBUTES])
    (root / "list_attr_celeba.csv").write_text("\n".join([header, *rows]))
    lines = (root / "list_eval_partition.txt").read_text().splitlines()
    rows = [",".join(line.split()) for line in lines]
    (root / "list_eval_partition.csv").write_text("\n".join(["image_id,partition", *rows]))
    (root / "list_attr_celeba.txt").unlink()
    (root / "list_eval_partition.txt").unlink()


def test_official_files_give_names_attributes_and_split(tmp_path, cache):
    names, attributes = write_annotations(tmp_path / "a", SPLIT)
    annotations = load_annotations(tmp_path / "a", cache)
    assert annotations.names.tolist() == names
    assert annotations.codes.dtype == np.int8
    np.testing.assert_array_equal(annotations.codes, attributes)
    assert annotations.split.tolist() == SPLIT
    assert annotations.of_split("train").names.tolist() == [names[0], names[1], names[4]]
    assert len(annotations.of_split("val")) == len(annotations.of_split("test")) == 1


def test_minus_one_is_zero_and_one_is_one_in_the_named_column(tmp_path):
    row = ["-1"] * 40
    row[ATTRIBUTES.index("Blond_Hair")] = "1"
    (tmp_path / "list_attr_celeba.txt").write_text(f"1\n{HEADER}\n000007.jpg {' '.join(row)}\n")
    (tmp_path / "list_eval_partition.txt").write_text("000007.jpg 2\n")
    annotations = load_annotations(tmp_path, tmp_path / "cache")
    assert annotations.codes.sum() == 1
    assert parse_grouping("Blond_Hair:Male").group_ids(annotations).tolist() == [2]


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n\n"])
def test_line_ends_byte_order_mark_and_spaces_do_not_matter(root, cache, end):
    plain = load_annotations(root, cache)
    for path in root.glob("*.txt"):
        text = path.read_text().replace("\n", end).replace(" ", "  ").replace("000002", "\t000002")
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load_annotations(root, cache).identity == plain.identity


@pytest.mark.parametrize("low", ["-1", "0"])
def test_csv_forms_equal_the_official_files(root, cache, low):
    plain = load_annotations(root, cache)
    as_csv(root, low)
    assert load_annotations(root, cache).identity == plain.identity


def test_quoted_csv_and_columns_in_another_order_are_read_by_name(root, cache):
    plain = load_annotations(root, cache)
    as_csv(root, "-1")
    path = root / "list_attr_celeba.csv"
    rows = [line.split(",") for line in path.read_text().splitlines()]
    turned = [[row[0], *row[:0:-1]] for row in rows]
    path.write_text("\n".join(",".join(f'"{field}"' for field in row) for row in turned))
    assert load_annotations(root, cache).identity == plain.identity


def test_rows_are_joined_by_name_in_the_order_of_the_attribute_file(root, cache):
    path = root / "list_eval_partition.txt"
    path.write_text("\n".join(reversed(path.read_text().splitlines())))
    assert load_annotations(root, cache).split.tolist() == SPLIT


def test_root_may_be_the_parent_of_celeba(root):
    assert find_root(root) == find_root(root.parent) == root


def test_no_celeba_says_how_to_get_it(tmp_path):
    text = problems(tmp_path)
    assert "--download" in text
    assert "exp/dataset=synthetic" in text
    assert "mmlab.ie.cuhk.edu.hk" in text


def test_missing_partition_file_is_named(root):
    (root / "list_eval_partition.txt").unlink()
    assert "list_eval_partition.txt (or .csv) is missing" in problems(root)


@pytest.mark.parametrize("name", ["list_attr_celeba.txt", "list_eval_partition.txt"])
def test_empty_file_is_an_error(root, name):
    (root / name).write_text("\r\n \n")
    assert f"{name}: the file is empty" in problems(root)


def test_header_without_rows_is_an_error(root):
    (root / "list_attr_celeba.txt").write_text(f"0\n{HEADER}\n")
    assert "no rows" in problems(root)


def test_short_row_is_named_by_its_line(root):
    rewrite(root / "list_attr_celeba.txt", "000002.jpg ", "000002.jpg 1 ")
    assert "line 4: 41 values where a name and 40 values belong" in problems(root)


@pytest.mark.parametrize("value", ["2", "0", "x", "11", "-x", "--1", "é"])
def test_other_values_are_named_by_line_and_column(root, value):
    path = root / "list_attr_celeba.txt"
    lines = path.read_text().splitlines()
    fields = lines[3].split()
    fields[1 + ATTRIBUTES.index("Young")] = value
    lines[3] = " ".join(fields)
    path.write_text("\n".join(lines))
    shown = value if value in ("2", "0") else "not a number"
    assert f"line 4: Young is {shown}: allowed are -1, 1" in problems(root)


def test_empty_csv_field_is_a_short_row(root):
    as_csv(root, "0")
    path = root / "list_attr_celeba.csv"
    lines = path.read_text().splitlines()
    lines[2] = lines[2][:-1]
    path.write_text("\n".join(lines))
    assert "list_attr_celeba.csv line 3: 39 values" in problems(root)


def test_unknown_column_names_the_nearest_attribute(root):
    rewrite(root / "list_attr_celeba.txt", "Blond_Hair", "Blonde_Hair")
    text = problems(root)
    assert "unknown attribute column 'Blonde_Hair': did you mean 'Blond_Hair'?" in text
    assert "attribute column 'Blond_Hair' is missing" in text


def test_announced_number_of_rows_must_follow(root):
    rewrite(root / "list_attr_celeba.txt", "5\n", "202599\n")
    assert "says 202599 rows, 5 follow" in problems(root)


def test_row_given_twice_is_named_by_its_line(root):
    rewrite(root / "list_attr_celeba.txt", "000005.jpg", "000001.jpg")
    assert "line 7: 000001.jpg comes a second time" in problems(root)


def test_rows_of_one_file_only_are_named_both_ways(root):
    rewrite(root / "list_eval_partition.txt", "000003.jpg", "000033.jpg")
    text = problems(root)
    assert "1 rows of list_attr_celeba.txt have no row in list_eval_partition.txt: 000003" in text
    assert "1 rows of list_eval_partition.txt have no row in list_attr_celeba.txt: 000033" in text


def test_partition_other_than_0_1_2_is_an_error(root):
    rewrite(root / "list_eval_partition.txt", "000003.jpg 1", "000003.jpg 3")
    assert "line 3: partition is 3: allowed are 0, 1, 2" in problems(root)


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/passwd", "..", "a\\b.jpg"])
def test_names_that_leave_the_folder_are_refused(root, name):
    for path in root.glob("*.txt"):
        rewrite(path, "000003.jpg", name)
    assert "is not a plain file name" in problems(root)


def test_unknown_split_is_an_error(root, cache):
    with pytest.raises(UserError, match="use train, val, test"):
        load_annotations(root, cache).of_split("valid")


def test_binary_copy_is_used_until_a_source_changes(root, cache, monkeypatch):
    first = load_annotations(root, cache)
    with monkeypatch.context() as patch:
        patch.setattr("src.data.celeba.parse_annotations", lambda *paths: pytest.fail("parsed"))
        assert load_annotations(root, cache).identity == first.identity
    rewrite(root / "list_eval_partition.txt", "000003.jpg 1", "000003.jpg 2")
    assert load_annotations(root, cache).split.tolist() == [0, 0, 2, 2, 0]


def test_same_size_with_another_mtime_is_read_again(root, cache):
    load_annotations(root, cache)
    path = root / "list_attr_celeba.txt"
    rewrite(path, "000005.jpg  1", "000005.jpg -1") if "000005.jpg  1" in path.read_text() else (
        rewrite(path, "000005.jpg -1", "000005.jpg  1")
    )
    os.utime(path, ns=(1, 1))
    expected = 1 if "000005.jpg  1" in path.read_text() else 0
    assert load_annotations(root, cache).codes[4, 0] == expected


@pytest.mark.parametrize("where", [0.3, 0.6, 0.9])
def test_damaged_binary_copy_is_never_used(root, cache, where):
    first = load_annotations(root, cache)
    path = cache_folder(root, cache) / "annotations.npz"
    data = bytearray(path.read_bytes())
    for position in range(int(where * len(data)), int(where * len(data)) + 40):
        data[position] ^= 0xFF
    path.write_bytes(data)
    assert load_annotations(root, cache).identity == first.identity


def test_two_roots_share_a_cache_dir_without_mixing(tmp_path, cache):
    _, first = write_annotations(tmp_path / "a", SPLIT, seed=1)
    _, second = write_annotations(tmp_path / "b", SPLIT, seed=2)
    for _ in range(2):
        np.testing.assert_array_equal(load_annotations(tmp_path / "a", cache).codes, first)
        np.testing.assert_array_equal(load_annotations(tmp_path / "b", cache).codes, second)


def test_identity_depends_on_every_label(tmp_path, cache):
    write_annotations(tmp_path / "a", SPLIT, seed=1)
    annotations = load_annotations(tmp_path / "a", cache)
    assert annotations.identity == annotations.select(np.arange(5)).identity
    assert annotations.identity != annotations.select(np.array([1, 0, 2, 3, 4])).identity


# Images.


def nest(root: Path) -> None:
    folder = root / "img_align_celeba"
    folder.rename(root / "inner")
    folder.mkdir()
    (root / "inner").rename(folder / "img_align_celeba")


def zipped(root: Path, prefix: str = "img_align_celeba/", method: int = zipfile.ZIP_STORED) -> None:
    folder = root / "img_align_celeba"
    with zipfile.ZipFile(root / "img_align_celeba.zip", "w", method) as archive:
        archive.writestr("__MACOSX/._000001.jpg", "rubbish")
        for path in sorted(folder.iterdir()):
            archive.write(path, prefix + path.name)
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "layout",
    [
        lambda root: None,
        nest,
        zipped,
        lambda root: zipped(root, prefix=""),
        lambda root: zipped(root, "a/b/", zipfile.ZIP_DEFLATED),
    ],
    ids=["folder", "nested", "zip", "zip-flat", "zip-deflated"],
)
def test_images_read_the_same_in_every_layout(tmp_path, layout):
    names = write_celeba(tmp_path, SPLIT)
    wanted = [(tmp_path / "img_align_celeba" / name).read_bytes() for name in names]
    layout(tmp_path)
    images = ImageFiles(tmp_path)
    assert [images.read(name) for name in names] == wanted
    assert set(names) <= images.names()
    assert images.missing([*names, "000009.jpg"]) == ["000009.jpg"]
    # In a process of its own an archive is opened anew.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(images.read, names)) == wanted
    with pytest.raises(OSError, match="000009"):
        images.read("000009.jpg")
    with pytest.raises(UserError, match="leaves the folder"):
        images.read("../list_attr_celeba.txt")


def test_zip_is_read_by_many_threads_at_once(tmp_path):
    names = write_celeba(tmp_path, SPLIT)
    wanted = {name: (tmp_path / "img_align_celeba" / name).read_bytes() for name in names}
    zipped(tmp_path)
    images, wrong = ImageFiles(tmp_path), []

    def read():
        for name in names * 50:
            if images.read(name) != wanted[name]:
                wrong.append(name)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_zip_that_is_cut_short_or_changed_is_an_error(tmp_path):
    names = write_celeba(tmp_path, SPLIT)
    zipped(tmp_path)
    path = tmp_path / "img_align_celeba.zip"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="not a complete zip"):
        ImageFiles(tmp_path).read(names[0])
    changed = bytearray(data)
    changed[data.index(b"\xff\xd8\xff") + 500] ^= 1
    path.write_bytes(changed)
    with pytest.raises(OSError, match="CRC32"):
        ImageFiles(tmp_path).read(names[0])


def test_no_images_says_where_they_belong(root):
    with pytest.raises(UserError, match=r"neither img_align_celeba/ nor img_align_celeba\.zip"):
        ImageFiles(root)


def test_fingerprint_changes_with_size_mtime_and_absence(tmp_path):
    names = write_celeba(tmp_path, SPLIT)
    images, path = ImageFiles(tmp_path), tmp_path / "img_align_celeba" / names[1]
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


# Real data.


@pytest.fixture(scope="session")
def real_root():
    if "CELEBA_ROOT" not in os.environ:
        pytest.skip("CELEBA_ROOT is not set")
    return Path(os.environ["CELEBA_ROOT"])


@pytest.mark.celeba
def test_real_group_sizes_and_speed(real_root, tmp_path):
    complete = real_root.parent / "celeba_annotations"
    if not complete.is_dir():
        pytest.skip(f"no complete annotations in {complete}")
    load_annotations(complete, tmp_path)
    start = time.perf_counter()
    annotations = load_annotations(complete, tmp_path)
    loaded = time.perf_counter()
    groups = parse_grouping("Blond_Hair:Male").group_ids(annotations)
    grouped = time.perf_counter()
    assert len(annotations) == 202_599
    sizes = [np.bincount(groups[annotations.split == split]).tolist() for split in range(3)]
    assert sizes[0] == [71_629, 66_874, 22_880, 1_387]
    assert sizes[1] == [8_535, 8_276, 2_874, 182]
    assert sizes[2] == [9_767, 7_535, 2_480, 180]
    assert loaded - start <= 0.3
    assert grouped - loaded <= 0.02


@pytest.mark.celeba
def test_every_real_row_has_its_image(real_root, tmp_path):
    annotations = load_annotations(real_root, tmp_path)
    assert len(annotations) > 0
    assert ImageFiles(real_root).missing(annotations.names) == []


def test_official_text_holds_what_the_parser_is_tested_with():
    text = official_attributes(["000001.jpg"], np.zeros((1, 40), np.uint8))
    assert text == f"1\n{HEADER} \n000001.jpg{MINUS}\n"


def test_a_home_folder_of_nobody_is_a_user_error():
    with pytest.raises(UserError, match="there is no such user"):
        find_root("~nosuchuser/x")
