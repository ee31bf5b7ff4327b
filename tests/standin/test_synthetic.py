"""The stand-in has CelebA's attributes, faces that show them, and a folder that is drawn once."""

import hashlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import multivariate_normal, norm

from src.data.celeba import load_annotations
from src.data.groupings import ATTRIBUTES, COLUMN, parse_grouping
from src.standin.attribute_table import COLOURS, REST, load_table, sample_attributes
from src.standin.dataset import ensure_synthetic
from src.standin.faces import draw_face
from tests.data.small_celeba import table_of

SIZES = {"num_train": 5, "num_val": 2, "num_test": 3}


def celeba_annotations() -> np.ndarray:
    """Read the complete annotations (202599, 40), which lie beside CELEBA_ROOT or in it."""
    root = Path(os.environ.get("CELEBA_ROOT", "nowhere"))
    for folder in (root.parent / "celeba_annotations", root / "celeba_annotations", root):
        if (folder / "list_attr_celeba.txt").exists():
            attributes = load_annotations(folder).codes
            if len(attributes) == 202_599:
                return attributes
    pytest.skip("needs the complete annotations: set CELEBA_ROOT")


def pair_probabilities(attributes: np.ndarray) -> np.ndarray:
    """Return P(attribute i and attribute j), shape (40, 40)."""
    present = attributes.astype(np.float32)
    return present.T @ present / len(present)


# Attributes


def test_table_holds_published_counts_of_sex_and_hair_colour():
    table = load_table()
    share = dict(zip(map(tuple, table.cells.tolist()), table.shares))
    assert share[1, 0, 1, 0, 0, 0] == pytest.approx(1443 / 202_599)  # men, blond and nothing else
    blond = table.cells[:, 1 + COLOURS.index("Blond_Hair")] == 1
    assert table.shares[blond].sum() == pytest.approx(29_983 / 202_599)
    # 1,749 blond men: 1387 + 182 + 180 in train, val and test
    assert table.shares[blond & (table.cells[:, 0] == 1)].sum() == pytest.approx(1749 / 202_599)


def test_samples_have_the_marginals_of_the_table():
    for correlation in (0.0, 0.5, 1.0):
        sampled = sample_attributes(40_000, seed=3, correlation=correlation).mean(axis=0)
        assert np.abs(sampled - load_table().marginals).max() < 4.5 * 0.5 / 200  # 4.5 sigma


@pytest.mark.parametrize("pair", ["Smiling:High_Cheekbones", "Goatee:No_Beard", "Young:Attractive"])
def test_samples_have_the_pair_probabilities_of_the_copula(pair):
    grouping, table = parse_grouping(pair), load_table()
    a, b = REST.index(grouping.task), REST.index(grouping.attributes[0])
    expected = 0
    for cell, share, p in zip(table.cells, table.shares, table.probabilities):
        r = table.correlations[cell[0]][a, b]
        low = norm.ppf(p[[a, b]]).clip(-8, 8)  # P(Z > t) = P(Z < -t), and -t = ppf(p)
        expected += share * multivariate_normal.cdf(low, cov=[[1, r], [r, 1]])
    groups = grouping.group_ids(table_of(sample_attributes(40_000, seed=5)))
    assert (groups == 3).mean() == pytest.approx(expected, abs=4.5 * 0.5 / 200)


def test_first_rows_do_not_depend_on_how_many_are_sampled():
    assert np.array_equal(sample_attributes(10, 7, 0.7), sample_attributes(500, 7, 0.7)[:10])


@pytest.mark.celeba
def test_sampled_pair_probabilities_are_near_those_of_celeba():
    real, drawn = (
        pair_probabilities(a) for a in (celeba_annotations(), sample_attributes(200_000))
    )
    errors = np.abs(real - drawn)[np.triu_indices(40, 1)]
    assert errors.mean() <= 0.002
    assert errors.max() <= 0.02


# Faces


# Attributes that are shown on a man.
MANLY = (
    "5_o_Clock_Shadow", "Bald", "Bushy_Eyebrows", "Goatee", "Gray_Hair", "Mustache", "No_Beard",
    "Receding_Hairline", "Sideburns", "Wearing_Necktie",
)  # fmt: skip


def example_attributes(name: str, value: int) -> np.ndarray:
    """Return the attributes (40,) of a plain face on which attribute `name` has `value`."""
    attributes = np.zeros(40, np.uint8)
    attributes[[COLUMN[usual] for usual in ("Young", "No_Beard", "Attractive")]] = 1
    attributes[COLUMN["Male"]] = name in MANLY
    attributes[COLUMN[name]] = value
    return attributes


def pixels(attributes: np.ndarray, index: int = 0, seed: int = 0) -> np.ndarray:
    return np.asarray(draw_face(attributes, seed, index), np.float32)


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attribute_is_visible_at_64_pixels(name):
    # Chance is equal in both pictures, so only the cue differs.
    def small(value: int, index: int) -> np.ndarray:
        face = draw_face(example_attributes(name, value), 0, index).crop((0, 20, 178, 198))
        return np.asarray(face.resize((64, 64), Image.Resampling.BILINEAR), np.float32)

    changes = [np.abs(small(1, k) - small(0, k)).max(axis=2) for k in range(5)]
    changed = [(change > 10).sum() for change in changes]  # pixels, by 4 % of the range or more
    assert np.mean(changed) >= 20
    assert min(changed) > 0


def test_face_depends_on_seed_and_index_only():
    attributes = example_attributes("Smiling", 1)
    assert np.array_equal(pixels(attributes, 4), pixels(attributes, 4))
    assert not np.array_equal(pixels(attributes, 4), pixels(attributes, 5))
    assert not np.array_equal(pixels(attributes, 4, seed=1), pixels(attributes, 4, seed=2))


def test_an_attribute_changes_nothing_but_its_own_cue():
    # A necklace lies below the chin; everything above the chin stays the same.
    without, with_ = (pixels(example_attributes("Wearing_Necklace", v), 1) for v in (0, 1))
    assert np.array_equal(without[:140], with_[:140])
    assert not np.array_equal(without[160:], with_[160:])


# The folder


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def record_drawn(monkeypatch) -> list[int]:
    """Return a list that receives the index of each face that is drawn from now on."""
    drawn = []

    def draw(row, seed, index):
        drawn.append(index)
        return draw_face(row, seed, index)

    monkeypatch.setattr("src.standin.dataset.draw_face", draw)
    return drawn


def test_folder_is_in_celebas_layout_and_format(tmp_path):
    root = ensure_synthetic(tmp_path, **SIZES, workers=1)
    lines = (root / "list_attr_celeba.txt").read_text().splitlines()
    assert lines[0] == "10"
    assert lines[1].split() == list(ATTRIBUTES)
    assert lines[2].split()[0] == "000001.jpg"
    assert set(lines[2].split()[1:]) == {"1", "-1"}
    partition = (root / "list_eval_partition.txt").read_text().splitlines()
    assert [line.split()[1] for line in partition] == list("0000011222")
    assert sorted(p.name for p in (root / "img_align_celeba").iterdir()) == [
        f"{k:06d}.jpg" for k in range(1, 11)
    ]
    annotations = load_annotations(root, tmp_path / "cache")
    assert np.array_equal(annotations.codes, sample_attributes(10))


def test_number_of_processes_and_hash_seed_change_no_byte(tmp_path, monkeypatch):
    sizes = SIZES | {"num_train": 300}  # enough for two workers
    one = ensure_synthetic(tmp_path / "one", **sizes, workers=1)
    monkeypatch.setenv("PYTHONHASHSEED", "123")  # the workers inherit it
    two = ensure_synthetic(tmp_path / "two", **sizes, workers=2)
    assert digests(one) == digests(two)


def test_options_never_share_a_folder(tmp_path):
    variants = ({}, {"num_test": 4}, {"seed": 1}, {"correlation": 0.5})
    roots = [ensure_synthetic(tmp_path, **(SIZES | options), workers=1) for options in variants]
    assert len(set(roots)) == 4
    assert not any(character in str(root.name) for root in roots for character in ":,= ")


def test_interrupted_drawing_resumes_with_the_same_bytes(tmp_path, monkeypatch):
    whole = ensure_synthetic(tmp_path / "whole", **SIZES, workers=1)

    def interrupted(row, seed, index):
        if index == 4:
            raise KeyboardInterrupt
        return draw_face(row, seed, index)

    monkeypatch.setattr("src.standin.dataset.draw_face", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ensure_synthetic(tmp_path, **SIZES, workers=1)
    partial = tmp_path / f".{whole.name}.partial"
    assert not (tmp_path / whole.name).exists()
    third = partial / "img_align_celeba" / "000003.jpg"
    third.write_bytes(third.read_bytes()[:2000])  # truncated
    drawn = record_drawn(monkeypatch)
    root = ensure_synthetic(tmp_path, **SIZES, workers=1)
    assert drawn == [2, 4, 5, 6, 7, 8, 9]
    assert digests(root) == digests(whole)
    assert not partial.exists()


def test_two_at_once_draw_each_face_once(tmp_path, monkeypatch):
    # The lock belongs to an open file, so threads can stand for processes.
    drawn = record_drawn(monkeypatch)
    with ThreadPoolExecutor(2) as threads:
        makers = [threads.submit(ensure_synthetic, tmp_path, **SIZES, workers=1) for _ in range(2)]
    name = "synthetic1-5-2-3-seed0-correlation1.0"
    assert {maker.result() for maker in makers} == {tmp_path / name}
    assert drawn == list(range(10))


@pytest.mark.slow
def test_killed_parent_ends_its_workers_and_the_next_call_resumes(tmp_path):
    sizes = SIZES | {"num_train": 600}
    code = (
        "from pathlib import Path; from src.standin.dataset import ensure_synthetic\n"
        f"ensure_synthetic(Path({str(tmp_path)!r}), **{sizes}, workers=2)"
    )
    maker = subprocess.Popen([sys.executable, "-c", code])
    images = tmp_path / ".synthetic1-600-2-3-seed0-correlation1.0.partial" / "img_align_celeba"
    while len(list(images.glob("*.jpg"))) < 60:
        assert maker.poll() is None
        time.sleep(0.02)
    children = Path(f"/proc/{maker.pid}/task/{maker.pid}/children").read_text().split()
    maker.kill()
    maker.wait()
    assert len(children) >= 2
    deadline = time.monotonic() + 10
    while any(is_running(child) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    kept = len(list(images.glob("*.jpg")))
    assert 60 <= kept < 605
    resumed = ensure_synthetic(tmp_path, **sizes, workers=1)
    whole = ensure_synthetic(tmp_path / "whole", **sizes, workers=1)
    assert digests(resumed) == digests(whole)


def is_running(pid: str) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0] != "Z"
    except OSError:
        return False


def test_log_files_get_one_line_instead_of_a_bar(tmp_path, capsys):
    root = ensure_synthetic(tmp_path, **SIZES, workers=1)
    assert capsys.readouterr().err == f"drawing {root} (once): 10 faces\n"
