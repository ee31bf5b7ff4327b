"""Files whose checksums fit and whose content is made to mislead: refused at once, in one line."""

import io
import os
import struct
import tracemalloc
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from src.arrays import DAMAGE, load_arrays
from src.data.groupings import ATTRIBUTES
from src.errors import UserError
from src.evaluation.inference import saved_logits
from src.evaluation.logits import Logits, _checksum, load_logits, save_logits
from src.files import write_json
from src.methods.jtt import ErrorSet, load_error_set, save_error_set
from src.runs.folder import Run
from src.spurious.results import _unpack_right, read_labels

MEMORY = 200 << 20  # bytes; what a refusal may take at most


@pytest.fixture(autouse=True)
def no_warning_and_little_memory():
    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MEMORY


def npy(descr: str, shape: str, data: bytes = b"") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def pack(path: Path, data: bytes, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as parts:
        parts.writestr("a.npy", data)
    return path


def change(path: Path, **arrays: np.ndarray) -> Path:
    """Put other arrays into an .npz file, which then has good checksums."""
    np.savez(path, **{**np.load(path), **arrays})
    return path


# ---------------------------------------------------------------------------- any .npz


@pytest.mark.parametrize(
    ("descr", "shape"),
    [
        *(("'|S0'", "(1000000000000,)"), ("'|V0'", "(1000000000000,)"), ("'<U0'", "(3,)")),
        *(("'<f4'", "(1000000000000,)"), ("'<f4'", "(4294967296, 4294967296)")),
        *(("'<f4'", "(-1,)"), ("('<f4',)", "(1,)"), ("()", "(1,)"), ("'|O'", "(1,)")),
    ],
)
def test_a_header_that_promises_other_than_what_is_there_is_refused(tmp_path, descr, shape):
    with pytest.raises(DAMAGE):
        load_arrays(pack(tmp_path / "a.npz", npy(descr, shape, bytes(4))))


def test_an_empty_array_and_an_empty_text_are_read(tmp_path):
    np.savez(tmp_path / "a.npz", none=np.zeros((0, 3)), text=np.array(""))
    arrays = load_arrays(tmp_path / "a.npz")
    assert arrays["none"].shape == (0, 3) and str(arrays["text"]) == ""


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_than_those_of_numpy_are_refused(tmp_path, method):
    with pytest.raises(ValueError, match="other than stored or deflated"):
        load_arrays(pack(tmp_path / "a.npz", npy("'|u1'", "(4,)", bytes(4)), method))


@pytest.mark.parametrize("promised", [1000, (1 << 30) + 1])
def test_a_small_file_that_unpacks_to_much_is_refused_whatever_it_promises(tmp_path, promised):
    path, whole = tmp_path / "a.npz", 2 * MEMORY
    packed = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
    with packed, packed.open("a.npy", "w") as part:
        part.write(npy("'|u1'", f"({whole},)"))
        for _ in range(whole >> 20):
            part.write(bytes(1 << 20))
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\x01\x02") + 24  # the size, in the directory
    content[place : place + 4] = struct.pack("<I", promised)
    path.write_bytes(content)
    with pytest.raises(DAMAGE, match=r"Bad CRC|at most 1,073,741,824 are read"):
        load_arrays(path)


def test_a_fifo_in_place_of_a_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "a.npz")
    with pytest.raises(OSError, match="no regular file"):
        load_arrays(tmp_path / "a.npz")


# ---------------------------------------------------------------------------- logits

LOGITS = Logits(np.ones((20, 2), np.float32), ("Young", "Bald"), "val", "3", "c" * 64, "d" * 64)


@pytest.mark.parametrize(
    "values",
    [
        np.full((20, 2), np.nan, np.float32),
        np.full((20, 2), -np.inf, np.float32),
        np.full((20, 2), 1e300),
        np.full((20, 2), 1 + 1j),
        np.full((20, 2), "1"),
        np.ones((20, 2), ">f4"),
        np.ones(20, np.float32),
        np.ones((20, 2, 1), np.float32),
        np.ones((20, 3), np.float32),
    ],
    ids=lambda values: f"{values.dtype.str}{values.shape}{values.flat[0]}",
)
def test_logits_that_are_no_finite_float32_table_are_damaged(tmp_path, values):
    path = tmp_path / "logits.npz"
    save_logits(path, LOGITS)
    try:
        with np.errstate(over="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            crc = _checksum(replace(LOGITS, values=values))
    except ValueError:
        crc = 0
    change(path, values=values, crc=np.array(crc, np.uint32))
    with pytest.raises(UserError, match="is damaged"):
        load_logits(path)


def test_logits_of_another_number_of_rows_are_not_used(tmp_path, capsys):
    run = Run(tmp_path)
    checkpoint = {"name": "3", "epoch": 3, "hash": LOGITS.checkpoint}
    write_json(run.epoch_stats(3), {"checkpoint": checkpoint, "split": "val"})
    asked = (run, "val", 3, LOGITS.tasks, LOGITS.data)
    save_logits(run.logits("val", 3), LOGITS)
    assert len(saved_logits(*asked, 20).values) == 20
    for rows in (0, 19):
        values = LOGITS.values[:rows]
        save_logits(run.logits("val", 3), replace(LOGITS, values=values))
        assert saved_logits(*asked, 20) is None
        assert f"holds {rows} rows, not 20" in capsys.readouterr().out


# ---------------------------------------------------------------------------- error sets

NAMES, TASKS = [f"{number}.jpg" for number in range(33)], ["Young", "Bald"]


@pytest.mark.parametrize(
    "arrays",
    [
        {"errors": np.zeros((0, 2), np.uint8)},
        {"errors": np.zeros((50, 2), np.uint8)},
        {"errors": np.zeros((4, 2), np.uint8)},
        {"errors": np.zeros((5, 2), np.float32)},
        {"tasks": np.array(["Young", "Bald"])[:, None]},
        {"tasks": np.array("Young")},
        {"tasks": np.array([1, 2])},
    ],
)
def test_an_error_set_of_other_shapes_is_refused_not_padded(tmp_path, arrays):
    path = tmp_path / "error_set.npz"
    save_error_set(path, NAMES, TASKS, ErrorSet(np.ones((33, 2), bool), np.ones(2)))
    assert load_error_set(path, NAMES, TASKS).errors.all()
    with pytest.raises(UserError, match="delete it and run stage 1"):
        load_error_set(change(path, **arrays), NAMES, TASKS)


# ---------------------------------------------------------------------------- matrices


@pytest.mark.parametrize("count", [-1, 17, 3_000_000_000])
def test_predictions_must_have_a_bit_each(count):
    with pytest.raises(ValueError, match="2 bytes are not the bits of"):
        _unpack_right({"right": np.zeros(2, np.uint8), "count": np.array(count)})
    assert len(_unpack_right({"right": np.zeros(2, np.uint8), "count": np.array(9)})) == 9


SQUARE = (len(ATTRIBUTES), len(ATTRIBUTES))


@pytest.mark.parametrize(
    "arrays",
    [
        {"joint": np.full(SQUARE, "1")},
        {"joint": np.full(SQUARE, -1)},
        {"joint": np.full(SQUARE, 101)},
        {"joint": np.full(SQUARE, np.nan)},
        {"joint": np.full(SQUARE, 1j)},
        {"num_train": np.array(0)},
        {"num_train": np.array(-7)},
        {"num_train": np.array("1" * 1000)},
        {"num_train": np.array([100])},
        {"attributes": np.zeros((2, 3), np.uint8)},
    ],
)
def test_labels_whose_counts_are_no_counts_are_refused(tmp_path, arrays):
    path = tmp_path / "labels.npz"
    np.savez(
        path,
        about=["test", "data", "root"],
        names=["1.jpg", "2.jpg"],
        attributes=np.zeros((2, 5), np.uint8),
        joint=np.full(SQUARE, 50),
        num_train=100,
    )
    assert read_labels(tmp_path).num_train == 100
    change(path, **arrays)
    with pytest.raises(UserError, match=r"labels\.npz is damaged"):
        read_labels(tmp_path)


def test_an_array_of_a_member_is_read_as_numpy_writes_it(tmp_path):
    for compress in (np.savez, np.savez_compressed):
        array = np.arange(6, dtype=np.float32).reshape(2, 3, order="F")
        file = io.BytesIO()
        compress(file, a=array)
        (tmp_path / "a.npz").write_bytes(file.getvalue())
        assert np.array_equal(load_arrays(tmp_path / "a.npz")["a"], array)
