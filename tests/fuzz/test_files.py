"""Files that a machine spoilt: what is read is right, or the file is named."""

import io
import json
import re
import zipfile
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from src.data.celeba import load_annotations, parse_annotations
from src.data.groupings import ATTRIBUTES
from src.data.layout import ImageFiles
from src.data.pixels import BadImage, Pixels
from src.errors import UserError
from src.evaluation.logits import Logits, load_logits, read_report, save_logits
from src.files import read_json
from src.methods.jtt import ErrorSet, load_error_set, save_error_set
from src.models.build import read_weights
from src.runs.folder import HISTORY, Run
from src.spurious.results import read_labels, read_tasks
from src.training.checkpoints import load_checkpoint, save_checkpoint
from tests.data.small_celeba import official_attributes, write_annotations
from tests.fuzz.cases import cases, right_or_refused
from tests.planted_matrix import write_planted

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def spoil(data: st.DataObject, content: bytes) -> bytes:
    """`content` cut short, with bytes changed, doubled in part, or something else altogether."""
    at = data.draw(st.integers(0, max(0, len(content) - 1)))
    kind = data.draw(st.sampled_from(["cut", "flip", "flip", "insert", "swap", "other"]))
    if kind == "cut":
        return content[:at]
    if kind == "flip":
        changed = bytearray(content)
        changed[at] ^= 1 << data.draw(st.integers(0, 7))
        return bytes(changed)
    if kind == "insert":
        return content[:at] + data.draw(st.binary(min_size=1, max_size=9)) + content[at:]
    if kind == "swap":
        return content[at:] + content[:at]
    return data.draw(st.binary(max_size=60))


# ---------------------------------------------------------------------------- annotations

TOKEN = re.compile(rb"[^\x00-\x20,\"]+")


def oracle(attributes: bytes, partition: bytes, csv: bool) -> dict[str, tuple] | None:
    """Name to (values, split), read the plain way; None where anything is odd."""

    def lines(content: bytes) -> list[list[bytes]]:
        content = content.removeprefix(b"\xef\xbb\xbf")
        return [t for line in re.split(rb"[\r\n]", content) if (t := TOKEN.findall(line))]

    rows, parts = lines(attributes), lines(partition)[1 if csv else 0 :]
    count = rows.pop(0) if rows and not csv and len(rows[0]) == 1 else None
    header = (
        [name.decode(errors="replace") for name in rows.pop(0)][1 if csv else 0 :] if rows else []
    )
    names = [row[0] for row in rows]
    if sorted(header) != sorted(ATTRIBUTES) or not rows or count not in (None, [b"%d" % len(rows)]):
        return None
    if any(len(row) != 41 for row in rows) or any(len(row) != 2 for row in parts):
        return None
    values = {value for row in rows for value in row[1:]}
    low = b"0" if csv and values <= {b"0", b"-0", b"1"} else b"-1"
    if not values <= ({b"0", b"-0", b"1"} if low == b"0" else {b"-1", b"1"}):
        return None
    split = {row[0]: row[1] for row in parts}
    if len(set(names)) < len(names) or set(names) != set(split) or len(split) < len(parts):
        return None
    if not set(split.values()) <= {b"0", b"-0", b"1", b"2"}:
        return None
    if any(len(n) > 255 or b"/" in n or b"\\" in n or n in (b".", b"..") for n in names):
        return None
    try:
        return {
            row[0].decode(): (
                tuple(int(dict(zip(header, row[1:]))[a] == b"1") for a in ATTRIBUTES),
                int(split[row[0]]),
            )
            for row in rows
        }
    except UnicodeDecodeError:
        return None


def annotation_files(data: st.DataObject, count: int) -> tuple[bytes, bytes, bool]:
    """A sound pair of files, with the blanks, line ends and column order that people meet."""
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    names = [f"{number:06d}.jpg" for number in range(1, count + 1)]
    table = rng.integers(0, 2, (count, 40), dtype=np.uint8)
    split = rng.integers(0, 3, count)
    csv = data.draw(st.booleans())
    if csv:
        order = rng.permutation(40)
        low = data.draw(st.sampled_from([0, -1]))
        lines = [",".join(["image_id", *(ATTRIBUTES[k] for k in order)])]
        lines += [
            ",".join([name, *(str(low if row[k] == 0 else 1) for k in order)])
            for name, row in zip(names, table)
        ]
        attributes = "\n".join(lines) + "\n"
        parts = "image_id,partition\n" + "".join(f"{n},{s}\n" for n, s in zip(names, split))
    else:
        attributes = official_attributes(names, table)
        parts = "".join(f"{n} {s}\n" for n, s in zip(names, split))
    end = data.draw(st.sampled_from(["\n", "\r\n", " \n", "\n\n"]))
    mark = data.draw(st.sampled_from(["", "\ufeff"]))
    texts = [(mark + text.replace("\n", end)).encode() for text in (attributes, parts)]
    return texts[0], texts[1], csv


ODD_TOKENS = ["0", "2", "-2", "1.0", "x", "", "--1", "é", "\x00", "10", "9" * 400, "Male"]


@cases(900)
@given(st.data(), st.integers(1, 5))
def test_annotations_are_read_as_by_a_plain_reader_or_refused(tmp_path, data, count):
    attributes, parts, csv = annotation_files(data, count)
    if data.draw(st.integers(0, 4)):
        which = data.draw(st.booleans())
        content = attributes if which else parts
        kind = data.draw(st.sampled_from(["token", "line", "double", "bytes", "bytes"]))
        lines = content.split(b"\n")
        at = data.draw(st.integers(0, len(lines) - 1))
        if kind == "token":
            found = list(TOKEN.finditer(content))
            hit = data.draw(st.sampled_from(found))
            new = data.draw(st.sampled_from(ODD_TOKENS)).encode()
            content = content[: hit.start()] + new + content[hit.end() :]
        elif kind in ("line", "double"):
            lines[at : at + 1] = [] if kind == "line" else [lines[at]] * 2
            content = b"\n".join(lines)
        else:
            content = spoil(data, content)
        attributes, parts = (content, parts) if which else (attributes, content)
    check_annotations(tmp_path, attributes, parts, csv)


def check_annotations(folder: Path, attributes: bytes, parts: bytes, csv: bool) -> None:
    """Both files are read as by the oracle, or refused where it refuses them."""
    suffix = "csv" if csv else "txt"
    files = [folder / f"{stem}.{suffix}" for stem in ("list_attr_celeba", "list_eval_partition")]
    for path, content in zip(files, (attributes, parts)):
        path.write_bytes(content)
    fine, found = right_or_refused("annotations", lambda: parse_annotations(*files), "list_")
    wanted = oracle(attributes, parts, csv)
    assert fine == (wanted is not None), found
    if fine:
        rows = zip(found.names.tolist(), found.attributes.tolist(), found.split.tolist())
        assert {name: (tuple(values), split) for name, values, split in rows} == wanted


@pytest.mark.parametrize("header", ["x " * 50_000, "y" * 3_000_000, "Bald" * 200_000 + " Male"])
def test_an_endless_header_is_answered_at_once_and_in_few_words(tmp_path, header):
    write_annotations(tmp_path, [0, 1])
    (tmp_path / "list_attr_celeba.txt").write_text(f"2\n{header}\n1.jpg 1\n2.jpg 1\n")
    fine, _ = right_or_refused("annotations", lambda: load_annotations(tmp_path, tmp_path / "c"))
    assert not fine


# ---------------------------------------------------------------------------- images

MODES = ["RGB", "L", "CMYK", "RGBA", "LA", "P", "1"]
FORMATS = {"JPEG": ("RGB", "L", "CMYK"), "PNG": ("RGB", "L", "RGBA", "LA", "P", "1")}


def picture(mode: str, width: int, height: int, seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def packed(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def decode(data: bytes, full_frame: bool = False) -> np.ndarray:
    try:
        return Pixels((16, 12), full_frame).decode(data)
    except BadImage as error:
        raise UserError(str(error)) from error


@cases(500)
@given(st.data(), st.sampled_from(MODES), st.integers(0, 9))
def test_a_lossless_frame_is_read_pixel_by_pixel_whatever_its_mode(data, mode, seed):
    image = picture(mode, 178, 218, seed)
    kind = "PNG" if mode != "CMYK" else "TIFF"
    fine, found = right_or_refused("images", lambda: decode(packed(image, kind), full_frame=True))
    assert fine
    own = np.asarray(image)
    if mode in ("RGB", "RGBA"):
        assert np.array_equal(found, own[..., :3])
    elif mode in ("L", "LA", "1"):
        grey = own if mode == "L" else own[..., 0] if mode == "LA" else own.astype(np.uint8) * 255
        assert all(np.array_equal(found[..., channel], grey) for channel in range(3))
    assert found.shape == (218, 178, 3)


@cases(900)
@given(st.data(), st.sampled_from(sorted(FORMATS)), st.integers(1, 250), st.integers(1, 250))
def test_a_spoilt_image_is_decoded_to_its_size_or_refused(data, kind, width, height):
    whole = packed(picture(data.draw(st.sampled_from(FORMATS[kind])), width, height, 1), kind)
    fine, before = right_or_refused("images", lambda: decode(whole))
    assert fine and before.shape == (16, 12, 3) and before.dtype == np.uint8
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    fine, after = right_or_refused("images", lambda: decode(cut))
    assert not fine or np.array_equal(before, after)  # only what stands behind the pixels is gone
    fine, after = right_or_refused("images", lambda: decode(spoil(data, whole)))
    assert not fine or after.shape == (16, 12, 3)


def test_huge_empty_and_foreign_files_are_no_images():
    bomb = bytearray(packed(Image.new("L", (1, 1)), "PNG"))
    bomb[16:24] = (20_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    for content in (b"", bytes(bomb), script, b"GIF89a", b"\xff\xd8\xff", b"<svg/>", b"BM" * 500):
        fine, _ = right_or_refused("images", partial(decode, content))
        assert not fine


@cases(300)
@given(st.text(max_size=12) | st.sampled_from(["../x", "a/b", "..", "\\x", "a\0b", "\ud800"]))
def test_no_image_name_leaves_the_folder(tmp_path, name):
    root = tmp_path / "celeba"
    if not root.exists():
        write_annotations(root, [0])
        (root / "img_align_celeba").mkdir()
        (root / "img_align_celeba" / "1.jpg").write_bytes(b"inside")
        (root / "x").write_bytes(b"outside")
    try:
        assert ImageFiles(root).read(name) == b"inside" and name == "1.jpg"
    except OSError:
        pass
    except UserError as error:
        assert "leaves the folder" in str(error)


@cases(300)
@given(st.data(), st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
def test_a_spoilt_archive_gives_its_members_as_they_were_or_an_error(tmp_path, data, method):
    write_annotations(tmp_path, [0])
    members = {"a/1.jpg": b"one" * 40, "../2.jpg": b"two", "/3.jpg": bytes(300)}
    path = tmp_path / "img_align_celeba.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)

    def read_all():
        images = ImageFiles(tmp_path)
        try:
            return {name: images.read(name) for name in ("1.jpg", "2.jpg", "3.jpg")}
        except OSError as error:
            raise UserError(f"{error}") from error

    wanted = {name.rpartition("/")[2]: content for name, content in members.items()}
    assert right_or_refused("archives", read_all) == (True, wanted)
    path.write_bytes(spoil(data, path.read_bytes()))
    fine, found = right_or_refused("archives", read_all)
    assert not fine or found == wanted
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "img_align_celeba.zip",
        "list_attr_celeba.txt",
        "list_eval_partition.txt",
    ]


# ---------------------------------------------------------------------------- arrays and tensors


def same(one, other) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@cases(400)
@given(st.data())
def test_a_spoilt_checkpoint_is_refused_or_as_it_was(tmp_path, data):
    path = tmp_path / "ckpt.1.pt"
    state = {"model": {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)}, "epoch": 1}
    save_checkpoint(path, state)
    assert same(load_checkpoint(path), state)
    path.write_bytes(spoil(data, path.read_bytes()))
    fine, found = right_or_refused("checkpoints", lambda: load_checkpoint(path), str(path))
    assert not fine or same(found, state)


@cases(400)
@given(st.data(), st.sampled_from([".pt", ".safetensors"]))
def test_spoilt_weights_are_refused_or_tensors_by_name(tmp_path, data, suffix):
    path = tmp_path / f"weights{suffix}"
    state = {"w": torch.arange(6.0), "b": torch.zeros(2, 2)}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    assert same(read_weights(path), state)
    path.write_bytes(spoil(data, path.read_bytes()))
    fine, found = right_or_refused("weights", lambda: read_weights(path), str(path))
    if fine and suffix == ".pt":
        assert same(found, state)
    assert not fine or all(isinstance(name, str) for name in found)


@pytest.mark.parametrize("value", [{3: torch.zeros(1)}, [1], {"model": {"x": 1}}, 5, {"a": "b"}])
def test_a_file_of_something_else_holds_no_weights(tmp_path, value):
    torch.save(value, tmp_path / "w.pt")
    fine, _ = right_or_refused("weights", lambda: read_weights(tmp_path / "w.pt"), "w.pt")
    assert not fine


@cases(400)
@given(st.data())
def test_spoilt_logits_are_refused_or_as_they_were(tmp_path, data):
    path = tmp_path / "val_logits_1.npz"
    logits = Logits(
        np.arange(6, dtype=np.float32).reshape(3, 2), ("Bald", "Male"), "val", "1", "h", "d"
    )
    save_logits(path, logits)
    path.write_bytes(spoil(data, path.read_bytes()))
    fine, found = right_or_refused("logits", lambda: load_logits(path), str(path))
    assert not fine or (np.array_equal(found.values, logits.values) and found.tasks == logits.tasks)


@cases(400)
@given(st.data())
def test_a_spoilt_error_set_is_refused_or_as_it_was(tmp_path, data):
    path, names = tmp_path / "error_set.npz", ["1.jpg", "2.jpg", "3.jpg"]
    errors = ErrorSet(np.eye(3, 2, dtype=bool), np.array([0.5, 0.25]))
    save_error_set(path, names, ["Bald", "Male"], errors)
    path.write_bytes(spoil(data, path.read_bytes()))
    read = partial(load_error_set, path, names, ["Bald", "Male"])
    fine, found = right_or_refused("error sets", read, str(path))
    assert not fine or np.array_equal(found.errors, errors.errors)


@pytest.fixture(scope="module")
def matrix(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("matrix")
    write_planted(folder)
    return folder


@cases(250)
@given(st.data(), st.sampled_from(["labels.npz", "Male/predictions.npz", "Male/summary.json"]))
def test_a_spoilt_matrix_is_refused_or_read_as_it_was(matrix, data, name):
    path = matrix / name
    whole = path.read_bytes()
    before = read_tasks(matrix)

    def read():
        return read_labels(matrix), read_tasks(matrix)

    try:
        path.write_bytes(spoil(data, whole))
        fine, found = right_or_refused("matrices", read, str(matrix))
    finally:
        path.write_bytes(whole)
    if fine:
        for one, other in zip(found[1], before):
            assert np.array_equal(one.correct, other.correct)
            assert np.array_equal(one.total, other.total)
            assert np.array_equal(one.right, other.right)


# ---------------------------------------------------------------------------- JSON

WHOLE = {
    "status.json": {"state": "running", "pid": 1, "host": "h", "heartbeat": 1.5, "step": 3},
    "val_stats.json": {"epochs": {"1": {"best-avg": 0.5}}, "selected": {"best-avg": 1}},
    "val_stats_1.json": {
        "checkpoint": {"name": "1", "epoch": 1, "hash": "h"},
        "split": "val",
        "Bald": {
            "avg_acc": 0.5,
            "loss": 0.7,
            "groups": [
                {"id": 0, "name": "g", "correct": 1, "total": 2, "acc": 0.5, "low": 0, "high": 1}
            ],
            "worst_group": None,
        },
    },
}


@cases(900)
@given(st.data(), st.sampled_from(sorted(WHOLE)))
def test_a_spoilt_result_is_refused_or_has_the_form_that_its_readers_need(tmp_path, data, name):
    run = Run(tmp_path)
    run.results.mkdir(exist_ok=True)
    path = run.status_file if name == "status.json" else run.results / name
    content = json.dumps(WHOLE[name]).encode()
    if data.draw(st.booleans()):
        content = spoil(data, content)
    else:
        key = data.draw(st.sampled_from(sorted(WHOLE[name])))
        content = json.dumps(WHOLE[name] | {key: data.draw(JSON)}).encode(errors="replace")
    path.write_bytes(content)
    read = {
        "status.json": run.status,
        "val_stats.json": run.history,
        "val_stats_1.json": lambda: read_report(path),
    }[name]
    fine, found = right_or_refused("results", read, str(path))
    if fine and name == "val_stats.json":
        assert all(type(epoch) is int for epoch in found["epochs"])
        for rule, epoch in found["selected"].items():
            assert np.isfinite(found["epochs"][epoch][rule])


@cases(300)
@given(JSON)
def test_any_json_has_the_shape_of_a_history_or_is_refused(tmp_path, value):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(value), encoding="utf-8", errors="replace")
    fine, found = right_or_refused("results", lambda: read_json(path, HISTORY), str(path))
    assert not fine or set(found) >= {"epochs", "selected"}
