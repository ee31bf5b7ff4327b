"""A flipped byte or a truncated file is reported and never used, or changes nothing.

Some bytes say nothing (dates in a zip file, for example); a file in which one of those changed is
the same file. Everything else has to be noticed.
"""

import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from src.data import cache
from src.data.celeba import cache_folder, load_annotations
from src.data.pixels import Pixels
from src.evaluation.logits import Logits, Source, load_logits, save_logits
from src.io import UserError
from src.methods.jtt import load_error_set, save_error_set
from src.runs.folder import Run
from src.runs.signals import Stopped
from src.training.checkpoints import load_checkpoint, load_newest
from tests.data.small_celeba import build_cache, write_celeba
from tests.faults.conftest import KILLS
from tests.tiny_training import at, make_trainer, outcome

FLIPS, CUTS = 10 * KILLS, 2 * KILLS  # of each kind of file


def damages(whole: bytes, flips: int = FLIPS, cuts: int = CUTS) -> Iterator[bytes]:
    """Yield copies with a byte changed at a random place, and copies cut at a random length."""
    rng = random.Random(len(whole))
    for _ in range(flips):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= rng.choice([1, 2, 4, 8, 16, 32, 64, 128, 255])
        yield bytes(damaged)
    for length in [0, 1, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(cuts - 3))]:
        yield whole[:length]


def check_noticed(path: Path, read: Callable[[], bytes], flips: int = FLIPS) -> tuple[int, int]:
    """Damage `path` in many ways; `read` must name it or return what it returned before.

    Returns how many damages were noticed, and how many changed nothing.
    """
    whole, wanted, noticed, harmless = path.read_bytes(), read(), 0, 0
    for damaged in damages(whole, flips):
        path.write_bytes(damaged)
        try:
            assert read() == wanted, "other content came out of a damaged file"
            assert len(damaged) == len(whole), "a file cut short was read"
            harmless += 1
        except UserError as error:
            assert str(path) in str(error), error
            noticed += 1
    path.write_bytes(whole)
    assert read() == wanted
    return noticed, harmless


def content(arrays: Sequence[np.ndarray]) -> bytes:
    return b"|".join(f"{a.dtype} {a.shape} ".encode() + a.tobytes() for a in arrays)


@pytest.fixture
def count(survived) -> Callable[[int, int], None]:
    def add(noticed: int, harmless: int) -> None:
        survived["damaged files (byte flipped, cut short) noticed"] += noticed
        survived["damaged files (byte flipped) with the same content as before"] += harmless

    return add


def test_checkpoints(tmp_path, count):
    make_trainer(tmp_path, total_epochs=1).train()
    path = Run(tmp_path).checkpoint(1)

    def read() -> bytes:
        return repr(_bytes(load_checkpoint(path))).encode()

    noticed, harmless = check_noticed(path, read, 2 * FLIPS)
    assert noticed > harmless
    count(noticed, harmless)


def _bytes(value):
    if isinstance(value, torch.Tensor):
        return value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: _bytes(entry) for key, entry in value.items()}
    return value


def test_a_run_with_a_damaged_last_checkpoint_ends_with_the_same_bits(tmp_path, capsys, survived):
    make_trainer(tmp_path / "whole").train()
    wanted = outcome(tmp_path / "whole")
    run = Run(tmp_path / "run")
    with pytest.raises(Stopped):
        stop = at(7, lambda: os.kill(os.getpid(), signal.SIGTERM))
        make_trainer(run.path, hook=stop).train()
    last = run.checkpoint("last")
    whole, resumed = last.read_bytes(), 0
    for number, damaged in enumerate(damages(whole, 12, 4)):
        again = Run(tmp_path / f"again{number}")
        shutil.copytree(run.path, again.path)
        again.checkpoint("last").write_bytes(damaged)
        capsys.readouterr()
        state = load_newest(again)
        said = capsys.readouterr().out
        if state["step"] == 8:
            assert said == ""  # a byte that says nothing
            continue
        assert state["step"] == 6 and "warning:" in said and "ckpt.last.pt" in said
        resumed += 1
        make_trainer(again.path).train()
        assert outcome(again.path) == wanted
    assert resumed > 8
    survived["runs resumed from the checkpoint before a damaged one, same bits"] += resumed


def test_logits(tmp_path, count):
    values = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    path = tmp_path / "logits.npz"
    source = Source("val", "3", "hash", "identity")
    save_logits(path, Logits(values, ("Young", "Bald"), (2, 2), source))

    def read() -> bytes:
        logits = load_logits(path)
        return content([logits.values]) + repr((logits.tasks, logits.source)).encode()

    noticed, harmless = check_noticed(path, read)
    assert noticed > harmless
    count(noticed, harmless)


def test_error_sets(tmp_path, count):
    names, tasks = [f"{number:06d}.jpg" for number in range(64)], ["Young", "Bald"]
    errors = np.random.default_rng(1).integers(0, 2, (64, 2)).astype(bool)
    path = tmp_path / "error_set.npz"
    save_error_set(path, names, tasks, errors, np.array([0.25, 0.5]), "rows")

    def read() -> bytes:
        return content(load_error_set(path, names, tasks, "rows"))

    noticed, harmless = check_noticed(path, read)
    assert noticed > harmless
    count(noticed, harmless)


@pytest.fixture
def root(tmp_path) -> Path:
    write_celeba(tmp_path / "celeba", [0] * 10 + [1, 2])
    return tmp_path / "celeba"


def test_cached_annotations_are_made_anew(root, count):
    cache = root.parent / "cache"
    wanted = load_annotations(root, cache).identity
    path = cache_folder(root, cache) / "annotations.npz"
    whole, made_anew, harmless = path.read_bytes(), 0, 0
    for damaged in damages(whole):
        path.write_bytes(damaged)
        assert load_annotations(root, cache).identity == wanted
        if path.read_bytes() == damaged:
            harmless += 1
        else:
            made_anew += 1
    assert made_anew > harmless
    count(made_anew, harmless)


def open_cache(root: Path):
    return build_cache(root, "train", (8, 8))


def test_records_are_named_and_the_other_files_of_a_cache_made_anew(root, count):
    records = open_cache(root)
    wanted = records.read(np.arange(10)).tobytes()

    def read() -> bytes:
        return open_cache(root).read(np.arange(10)).tobytes()

    whole, noticed = records.path.read_bytes(), 0
    for damaged in damages(whole, cuts=5):
        records.path.write_bytes(damaged)
        if len(damaged) == len(whole):
            with pytest.raises(UserError, match=r"record \d \(0000\d\d\.jpg\) is damaged"):
                read()
        else:
            assert read() == wanted  # built again
        noticed += 1
    records.path.write_bytes(whole)
    for name in (".index", ".json"):
        path = records.path.with_suffix(name)
        whole = path.read_bytes()
        for damaged in damages(whole, FLIPS // 2, CUTS // 2):
            path.write_bytes(damaged)
            assert read() == wanted
            noticed += 1
    count(noticed, 0)


def test_the_index_of_an_unfinished_cache(root, monkeypatch, count):
    monkeypatch.setattr(cache, "CHUNK", 2)
    wanted = build_cache(root, "train", (8, 8), cache_dir=root.parent / "other")
    wanted = wanted.read(np.arange(10)).tobytes()
    folder = cache_folder(root, root.parent / "cache")
    with monkeypatch.context() as patches:
        decode_image, seen = Pixels.decode, []

        def stop(self, data):
            seen.append(1)
            if len(seen) > 8:
                raise KeyboardInterrupt
            return decode_image(self, data)

        patches.setattr(Pixels, "decode", stop)
        with pytest.raises(KeyboardInterrupt):
            open_cache(root)
    records = folder / "train-cropped-8x8-178.bin"
    index, partial, about = (records.with_suffix(end) for end in (".index", ".partial", ".json"))
    half, source = partial.read_bytes(), about.read_bytes()
    for damaged in damages(index.read_bytes(), FLIPS // 2, CUTS // 2):
        records.unlink(missing_ok=True)
        partial.write_bytes(half)
        about.write_bytes(source)
        index.write_bytes(damaged)
        assert open_cache(root).read(np.arange(10)).tobytes() == wanted
        count(1, 0)
