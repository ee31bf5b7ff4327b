import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data.celeba import ATTRIBUTES, find_images, find_root, load_annotations
from src.data.groupings import parse_grouping
from src.io import UserError
from tests.data.small_celeba import write_annotations, write_celeba

SPLIT = [0, 0, 1, 2, 0]
HEADER = " ".join(ATTRIBUTES)


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


def test_root_may_be_the_parent_of_celeba(root):
    assert find_root(root) == find_root(root.parent) == root


def test_no_celeba_says_how_to_get_it(tmp_path):
    text = problems(tmp_path / "a b")
    assert f"--download --root '{tmp_path}/a b'" in text  # can be pasted
    assert "exp/dataset=synthetic" in text
    assert "mmlab.ie.cuhk.edu.hk" in text


PAGE = "<!DOCTYPE html><html><body>Quota exceeded</body></html>"


@pytest.mark.parametrize("name", ["list_attr_celeba.txt", "list_eval_partition.txt"])
@pytest.mark.parametrize(("text", "reason"), [("\r\n \n", "is empty"), (PAGE, "is a web page")])
def test_what_is_no_table_is_one_problem(root, name, text, reason):
    (root / name).write_text(text)
    said = problems(root)
    assert f"{name} {reason}" in said and len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("attr", "000002.jpg ", "000002.jpg 1 ", "Expected 41 fields in line 4, saw 42"),
        ("attr", "5\n", "202599\n", "says 202599 rows, but 5 follow"),
        ("attr", "000005.jpg", "000001.jpg", "000001.jpg is there a second time"),
        ("attr", " -1", "  0", "is '0': use -1 or 1"),
        ("partition", "000003.jpg 1", "000003.jpg 3", "the split is '3': use 0, 1, 2 or train"),
        (
            *("partition", "000003.jpg", "000033.jpg"),
            "1 rows of list_attr_celeba.txt have no row in list_eval_partition.txt: 000003",
        ),
        (
            *("partition", "000003.jpg", "000033.jpg 0\n000003.jpg"),
            "1 rows of list_eval_partition.txt have no row in list_attr_celeba.txt: 000033",
        ),
    ],
)
def test_a_damaged_file_is_named_with_the_reason(root, name, old, new, message):
    files = {"attr": "list_attr_celeba.txt", "partition": "list_eval_partition.txt"}
    rewrite(root / files[name], old, new)
    assert message in problems(root)


def test_missing_rows_and_files_are_named(root):
    (root / "list_attr_celeba.txt").write_text(f"0\n{HEADER}\n")
    assert "no rows" in problems(root)
    (root / "list_eval_partition.txt").unlink()
    assert "list_eval_partition.txt (or .csv) is missing" in problems(root)


def test_longer_rows_are_an_error(root):
    path = root / "list_attr_celeba.txt"
    path.write_text(path.read_text().replace(".jpg ", ".jpg 1 "))
    assert "rows have more cells than the first line has names" in problems(root)


@pytest.mark.parametrize("value", ["2", "x", "--1", "0.5", "999999999999999999999"])
def test_other_values_are_named_by_image_and_column(root, value):
    path = root / "list_attr_celeba.txt"
    lines = path.read_text().splitlines()
    fields = lines[3].split()
    fields[1 + ATTRIBUTES.index("Young")] = value
    lines[3] = " ".join(fields)
    path.write_text("\n".join(lines))
    assert f"Young of 000002.jpg is '{value}': use -1 or 1" in problems(root)


def test_empty_csv_field_is_named(root):
    as_csv(root, "0")
    path = root / "list_attr_celeba.csv"
    lines = path.read_text().splitlines()
    lines[2] = lines[2][:-1]
    path.write_text("\n".join(lines))
    assert "list_attr_celeba.csv: Young of 000002.jpg is 'nan': use 0 or 1" in problems(root)


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


def test_binary_copy_is_used_until_a_source_changes(root, cache, monkeypatch):
    first = load_annotations(root, cache)
    path = root / "list_eval_partition.txt"
    with monkeypatch.context() as patch:
        patch.setattr("src.data.celeba.parse_annotations", lambda *paths: pytest.fail("parsed"))
        assert load_annotations(root, cache).identity == first.identity
    rewrite(path, "000003.jpg 1", "000003.jpg 2")
    assert load_annotations(root, cache).split.tolist() == [0, 0, 2, 2, 0]
    rewrite(path, "000003.jpg 2", "000003.jpg 0")
    os.utime(path, ns=(1, 1))  # the same size, another time
    assert load_annotations(root, cache).split.tolist() == [0, 0, 0, 2, 0]


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
