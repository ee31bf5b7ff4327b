import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data.celeba import (
    ATTRIBUTES,
    cache_folder,
    find_images,
    find_root,
    load_annotations,
)
from src.data.groupings import parse_grouping
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
    assert f"{name} is empty" in problems(root)


@pytest.mark.parametrize("name", ["list_attr_celeba.txt", "list_eval_partition.txt"])
def test_web_page_in_place_of_a_file_is_one_problem(root, name):
    (root / name).write_text("<!DOCTYPE html><html><body>Quota exceeded</body></html>")
    text = problems(root)
    assert f"{name} is a web page" in text
    assert len(text.splitlines()) == 1


def test_header_without_rows_is_an_error(root):
    (root / "list_attr_celeba.txt").write_text(f"0\n{HEADER}\n")
    assert "no rows" in problems(root)


def test_longer_row_is_named_by_its_line(root):
    rewrite(root / "list_attr_celeba.txt", "000002.jpg ", "000002.jpg 1 ")
    assert "Expected 41 fields in line 4, saw 42" in problems(root)


def test_longer_first_row_is_an_error(root):
    path = root / "list_attr_celeba.txt"
    for name in ("000001", "000002", "000003", "000004", "000005"):
        rewrite(path, f"{name}.jpg ", f"{name}.jpg 1 ")
    assert "rows have more values than the header has names" in problems(root)


@pytest.mark.parametrize("value", ["2", "x", "11", "--1", "é", "0.5", "999999999999999999999"])
def test_other_values_are_named_by_line_and_column(root, value):
    path = root / "list_attr_celeba.txt"
    lines = path.read_text().splitlines()
    fields = lines[3].split()
    fields[1 + ATTRIBUTES.index("Young")] = value
    lines[3] = " ".join(fields)
    path.write_text("\n".join(lines))
    assert f"line 4: Young is '{value}': use -1 or 1" in problems(root)


def test_minus_one_and_zero_may_not_be_mixed(root):
    rewrite(root / "list_attr_celeba.txt", " -1", "  0")
    assert "is '0': use -1 or 1" in problems(root)


def test_empty_csv_field_is_named(root):
    as_csv(root, "0")
    path = root / "list_attr_celeba.csv"
    lines = path.read_text().splitlines()
    lines[2] = lines[2][:-1]
    path.write_text("\n".join(lines))
    assert "list_attr_celeba.csv line 3: Young is missing: use 0 or 1" in problems(root)


def test_announced_number_of_rows_must_follow(root):
    rewrite(root / "list_attr_celeba.txt", "5\n", "202599\n")
    assert "says 202599 rows, but 5 follow" in problems(root)


def test_row_given_twice_is_named_by_its_line(root):
    rewrite(root / "list_attr_celeba.txt", "000005.jpg", "000001.jpg")
    assert "line 7: 000001.jpg is there a second time" in problems(root)


def test_rows_of_one_file_only_are_named_both_ways(root):
    rewrite(root / "list_eval_partition.txt", "000003.jpg", "000033.jpg")
    text = "1 rows of list_attr_celeba.txt have no row in list_eval_partition.txt: 000003"
    assert text in problems(root)
    rewrite(root / "list_eval_partition.txt", "000033.jpg", "000003.jpg 1\n000033.jpg")
    text = "1 rows of list_eval_partition.txt have no row in list_attr_celeba.txt: 000033"
    assert text in problems(root)


def test_unknown_split_in_the_partition_is_an_error(root):
    rewrite(root / "list_eval_partition.txt", "000003.jpg 1", "000003.jpg 3")
    assert "the split is '3': use 0, 1, 2 or train, val, test" in problems(root)


# Files that people have.


def test_zero_and_one_in_the_text_file(root, cache):
    plain = load_annotations(root, cache)
    path = root / "list_attr_celeba.txt"
    path.write_text(path.read_text().replace("-1", "0"))
    assert load_annotations(root, cache).identity == plain.identity


def test_words_in_the_partition(root, cache):
    words = ["train", "Train", "valid", "test", "train"]
    rows = "".join(f"{row:06d}.jpg {word}\n" for row, word in enumerate(words, 1))
    (root / "list_eval_partition.txt").write_text(rows)
    assert load_annotations(root, cache).split.tolist() == SPLIT


def test_official_folders_anno_and_eval(root, cache):
    plain = load_annotations(root, cache)
    for folder, name in (("Anno", "list_attr_celeba.txt"), ("Eval", "list_eval_partition.txt")):
        (root / folder).mkdir()
        (root / name).rename(root / folder / name)
    assert load_annotations(root, cache).identity == plain.identity


def test_fewer_columns_and_columns_of_ones_own(root, cache):
    plain = load_annotations(root, cache)
    lines = [f"{name},{row % 2},{row // 2}" for row, name in enumerate(plain.names)]
    (root / "list_attr_celeba.txt").unlink()
    text = "image_id,Zebra,Young\n" + "\n".join(lines[:4])
    (root / "list_attr_celeba.csv").write_text(text.replace(",2", ",1").replace(",3", ",1"))
    rewrite(root / "list_eval_partition.txt", "000005.jpg 0\n", "")
    table = load_annotations(root, cache)
    assert table.columns == ("Young", "Zebra")  # CelebA's first
    assert table.codes.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


@pytest.mark.parametrize("numbered", [False, True])
def test_csv_of_pandas_with_an_empty_header_cell(root, cache, numbered):
    plain = load_annotations(root, cache)
    as_csv(root, "-1")
    path = root / "list_attr_celeba.csv"
    lines = path.read_text().splitlines()
    if numbered:  # to_csv() with its row numbers
        lines = ["," + lines[0], *(f"{row},{line}" for row, line in enumerate(lines[1:]))]
    else:  # the names are the index
        lines[0] = lines[0].removeprefix("image_id")
    path.write_text("\n".join(lines))
    assert load_annotations(root, cache).identity == plain.identity


def test_file_without_celebas_attributes_says_what_to_use(root):
    rows = "".join(f"{row:06d}.jpg 1\n" for row in range(1, 6))
    (root / "list_attr_celeba.txt").write_text("5\nplace\n" + rows)
    assert "exp/dataset=table" in problems(root)


def test_images_saved_again_as_png(tmp_path):
    names = write_celeba(tmp_path, SPLIT)
    for path in (tmp_path / "img_align_celeba").iterdir():
        Image.open(path).save(path.with_suffix(".png"))
        path.unlink()
    images = find_images(tmp_path)
    assert images.missing(names) == []
    assert images.path(names[0]).endswith("000001.png")
    assert images.read(names[0]).startswith(b"\x89PNG")


# The table and its copy.


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
    assert find_images(real_root).missing(annotations.names) == []


def test_official_text_holds_what_the_parser_is_tested_with():
    text = official_attributes(["000001.jpg"], np.zeros((1, 40), np.uint8))
    assert text == f"1\n{HEADER} \n000001.jpg{MINUS}\n"


def test_the_command_that_gets_celeba_can_be_pasted(tmp_path):
    with pytest.raises(UserError, match=re.escape(f"--download --root '{tmp_path}/a b'")):
        find_root(tmp_path / "a b")
