"""The parsers under atheris, which looks for inputs that reach new lines of code: `make fuzz`.

    python -m tests.fuzz.atheris_parsers [PARSER [SECONDS]]

What fails is saved as crash-* in the folder that is named then. Optional: atheris is in no
requirements file. The oracles are those of the tests beside this file.
"""

import json
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["src"]):
    from src.data.groupings import parse_grouping
    from src.data.record_builder import _read_lines
    from src.evaluation.logits import Logits, load_logits, read_report, save_logits
    from src.files import read_json
    from src.runs.folder import HISTORY
    from src.spurious.pairs import read_pairs

from tests.data.small_celeba import write_annotations
from tests.fuzz.cases import right_or_refused
from tests.fuzz.test_files import WHOLE, check_annotations
from tests.fuzz.test_texts import table_text, valid_grouping

BETWEEN = b"\xff\xfe"  # the two annotation files in one input
LOGITS = Logits(
    np.arange(6, dtype=np.float32).reshape(3, 2), ("Bald", "Male"), "val", "1", "h", "d"
)


def groupings(data: bytes, folder: Path) -> None:
    text = data.decode(errors="replace")
    fine, _ = right_or_refused("groupings", lambda: parse_grouping(text), "grouping '")
    assert fine == valid_grouping(text)


def annotations(data: bytes, folder: Path) -> None:
    attributes, _, parts = data.partition(BETWEEN)
    check_annotations(folder, attributes, parts, csv=data[:1] == b"i")


def pairs(data: bytes, folder: Path) -> None:
    path = written(folder / "pairs.csv", data)
    right_or_refused("tables of pairs", lambda: read_pairs(path), str(path))


def history(data: bytes, folder: Path) -> None:
    path = written(folder / "val_stats.json", data)
    fine, found = right_or_refused("results", lambda: read_json(path, HISTORY), str(path))
    assert not fine or found == json.loads(data)


def results(data: bytes, folder: Path) -> None:
    path = written(folder / "val_stats_1.json", data)
    fine, found = right_or_refused("results", lambda: read_report(path), str(path))
    assert not fine or found == json.loads(data)


def logits(data: bytes, folder: Path) -> None:
    path = written(folder / "val_logits_1.npz", data)
    fine, found = right_or_refused("logits", lambda: load_logits(path), str(path))
    # Its checksums are those of the one file there is: nothing else can be read.
    assert not fine or np.array_equal(found.values, LOGITS.values)


def journal(data: bytes, folder: Path) -> None:
    path = written(folder / "x.journal", data)
    fine, found = right_or_refused("journals", lambda: _read_lines(path))
    assert fine and all(f"{line} {zlib.crc32(line.encode())}".encode() in data for line in found)


PARSERS: dict[str, Callable[[bytes, Path], None]] = {
    check.__name__: check
    for check in (groupings, annotations, pairs, history, results, logits, journal)
}


def seeds(folder: Path) -> dict[str, bytes]:
    """A sound input for each parser."""
    write_annotations(folder, [0, 1, 2])
    files = [
        (folder / f"list_{name}.txt").read_bytes() for name in ("attr_celeba", "eval_partition")
    ]
    save_logits(folder / "logits.npz", LOGITS)
    line = '{"version": 1}'
    return {
        "groupings": b"Blond_Hair:Male+Young",
        "annotations": BETWEEN.join(files),
        "pairs": table_text([("Bald", "Male", "1", "val")]).encode(),
        "history": json.dumps(WHOLE["val_stats.json"]).encode(),
        "results": json.dumps(WHOLE["val_stats_1.json"]).encode(),
        "logits": (folder / "logits.npz").read_bytes(),
        "journal": f"{line} {zlib.crc32(line.encode())}\n".encode(),
    }


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def fuzz(name: str, seconds: str) -> None:
    folder = Path(tempfile.mkdtemp(prefix=f"atheris-{name}-"))
    (folder / "corpus").mkdir()
    (folder / "corpus" / "seed").write_bytes(seeds(folder)[name])
    options = [f"-max_total_time={seconds}", f"-artifact_prefix={folder}/", "-print_final_stats=1"]
    atheris.Setup(
        [sys.argv[0], *options, str(folder / "corpus")], lambda d: PARSERS[name](d, folder)
    )
    atheris.Fuzz()  # ends the process


if __name__ == "__main__":
    if len(sys.argv) > 1:
        fuzz(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "60")
    command = [sys.executable, "-m", "tests.fuzz.atheris_parsers"]
    codes = {
        name: subprocess.run([*command, name, "15"], check=False).returncode for name in PARSERS
    }
    print(codes)
    sys.exit(any(codes.values()))
