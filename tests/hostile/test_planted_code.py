"""Files that would run code if they were unpickled, at every place where a file is read."""

import csv
import io
import json
import os
import pickle
import stat
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.grids import read_delta
from scripts.jobs.slurm import SlurmSettings, parameters, private_folder, read_settings
from src.config.compose import load_saved_config, read_config_file
from src.data.cache import open_or_build_cache
from src.data.celeba import load_annotations
from src.data.groupings import parse_grouping
from src.data.layout import ImageFiles, cache_folder
from src.data.pixels import BadImage, Pixels
from src.errors import UserError
from src.evaluation.logits import load_logits, read_report
from src.files import atomic_path, read_json
from src.methods.jtt import load_error_set
from src.models.build import read_weights
from src.runs.folder import Heartbeat, Run
from src.spurious.pairs import read_pairs
from src.spurious.results import read_labels, read_tasks
from src.training.checkpoints import load_checkpoint
from src.training.metrics_log import read_metrics
from tests.data.small_celeba import write_celeba
from tests.planted_matrix import write_planted


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def in_zip(content: bytes, name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


def payloads(marker: Path) -> dict[str, bytes]:
    """The same bomb as each kind of file that holds pickles, and as YAML with Python tags."""
    bomb, array, saved, arrays = Bomb(marker), io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(array, np.array([bomb], object), allow_pickle=True)
    torch.save({"model": bomb}, saved)
    names = ("values", "tasks", "about", "crc", "names", "errors", "task_losses", "right", "count")
    names += ("attributes", "joint", "num_train", "source", "split")
    np.savez(arrays, **dict.fromkeys(names, np.array([bomb], object)))
    legacy = io.BytesIO()
    torch.save({"model": bomb}, legacy, _use_new_zipfile_serialization=False)
    yaml = f"exp: !!python/object/apply:os.mkdir ['{marker}']\n"
    return {
        "pickle": pickle.dumps(bomb),
        "npy": array.getvalue(),
        "npz": arrays.getvalue(),
        "torch": saved.getvalue(),
        "old torch": legacy.getvalue(),
        "zip": in_zip(pickle.dumps(bomb), "archive/data.pkl"),
        "yaml": yaml.encode(),
    }


KINDS = ["pickle", "npy", "npz", "torch", "old torch", "zip", "yaml"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_payloads_would_run(tmp_path, kind):
    marker = tmp_path / "ran"
    content = io.BytesIO(payloads(marker)[kind])
    if kind == "pickle":
        pickle.load(content)  # noqa: S301
    elif kind in ("npy", "npz"):
        loaded = np.load(content, allow_pickle=True)
        if kind == "npz":
            loaded["values"]
    elif kind in ("torch", "old torch"):
        torch.load(content, weights_only=False)
    elif kind == "yaml":
        import yaml

        yaml.unsafe_load(content)
    else:
        pickle.loads(zipfile.ZipFile(content).read("archive/data.pkl"))  # noqa: S301
    assert marker.is_dir()


READERS = {
    "ckpt.pt": load_checkpoint,
    "w.pt": read_weights,
    "w.safetensors": read_weights,
    "val_logits_1.npz": load_logits,
    "error_set.npz": partial(load_error_set, names=["1.jpg"], tasks=["Bald"]),
    "val_stats_1.json": read_report,
    "x.json": partial(read_json, shape={}),
    "config.yaml": read_config_file,
    "saved.yaml": load_saved_config,
    "pairs.csv": read_pairs,
    "status.json": lambda path: Run(path.parent).status(),
    "results/val_stats.json": lambda path: Run(path.parent.parent).history(),
    "labels.npz": lambda path: read_labels(path.parent),
    "Bald/Male.json": lambda path: read_delta(parse_grouping("Bald:Male"), path.parent.parent),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", READERS)
def test_a_planted_file_runs_nothing_and_is_named(tmp_path, name, kind):
    marker, path = tmp_path / "ran", tmp_path / "run" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(payloads(marker)[kind])
    with pytest.raises(UserError) as raised:
        READERS[name](path)
    assert path.name in str(raised.value)
    assert not marker.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_planted_caches_run_nothing_and_are_made_anew(tmp_path, kind):
    root, cache, marker = tmp_path / "celeba", tmp_path / "cache", tmp_path / "ran"
    names = write_celeba(root, [0, 0, 1, 2])
    open_again = partial(open_or_build_cache, root, "train", (8, 8), False, cache, 1, False)
    wanted = open_again().read(np.arange(2)).copy()
    folder = cache_folder(root, cache)
    for path in folder.iterdir():
        if path.is_file() and path.suffix != ".lock":
            path.write_bytes(payloads(marker)[kind])
    assert load_annotations(root, cache).names.tolist() == names
    assert np.array_equal(open_again().read(np.arange(2)), wanted)
    (folder / "train-cropped-8x8.journal").write_bytes(payloads(marker)[kind])
    (folder / "train-cropped-8x8.partial").write_bytes(b"")
    (folder / "train-cropped-8x8.json").unlink()
    assert np.array_equal(open_again().read(np.arange(2)), wanted)
    (folder / "bad_images.json").write_bytes(payloads(marker)[kind])
    with pytest.raises(UserError, match="bad_images"):
        load_annotations(root, cache)
    assert not marker.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_planted_data_and_matrices_run_nothing(tmp_path, kind):
    marker = tmp_path / "ran"
    content = payloads(marker)[kind]
    with pytest.raises(BadImage):
        Pixels((8, 8)).decode(content)
    write_planted(tmp_path / "matrix")
    for name in ("summary.json", "predictions.npz"):
        path = tmp_path / "matrix" / "Male" / name
        whole = path.read_bytes()
        path.write_bytes(content)
        with pytest.raises(UserError, match="Male"):
            read_tasks(tmp_path / "matrix")
        path.write_bytes(whole)
    names = write_celeba(tmp_path / "celeba", [0])
    for name in ("list_attr_celeba.txt", "list_eval_partition.txt"):
        whole = (tmp_path / "celeba" / name).read_bytes()
        (tmp_path / "celeba" / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            load_annotations(tmp_path / "celeba", tmp_path / "cache")
        (tmp_path / "celeba" / name).write_bytes(whole)
    (tmp_path / "celeba" / "img_align_celeba" / names[0]).unlink()
    (tmp_path / "celeba" / "img_align_celeba.zip").write_bytes(content)
    with pytest.raises((UserError, OSError)):
        ImageFiles(tmp_path / "celeba").read(names[0])
    run = Run(tmp_path / "run")
    run.path.mkdir()
    run.metrics.write_bytes(content)
    assert read_metrics(run) == []
    assert not marker.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_planted_slurm_settings_run_nothing(tmp_path, kind):
    import argparse

    from scripts.jobs.slurm import add_slurm_arguments

    path, marker = tmp_path / "slurm.yaml", tmp_path / "ran"
    path.write_bytes(payloads(marker)[kind])
    parser = argparse.ArgumentParser()
    add_slurm_arguments(parser)
    with pytest.raises(UserError, match=r"slurm\.yaml"):
        read_settings(parser.parse_args(["--slurm_config", str(path)]))
    assert not marker.exists()


# ---------------------------------------------------------------------------- folders and logs


def test_the_folder_of_submitits_pickles_is_ours_alone(tmp_path):
    folder = private_folder(tmp_path / "logs" / ".slurm")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o777)
    assert stat.S_IMODE(private_folder(folder).stat().st_mode) == 0o700
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="not ours alone"):
        private_folder(tmp_path / "link")


def test_a_temporary_file_is_private_and_lies_beside_what_it_becomes(tmp_path):
    with atomic_path(tmp_path / "a.json") as temporary:
        assert temporary.parent == tmp_path
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
        temporary.write_text("{}")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_status_and_a_slurm_script_hold_nothing_of_the_environment(tmp_path, monkeypatch):
    from scripts.job_manager import Job

    monkeypatch.setenv("SECRET_TOKEN", "do-not-tell")
    run = Run(tmp_path / "run")
    with Heartbeat(run, step=1):
        pass
    assert "do-not-tell" not in run.status_file.read_text()
    job = Job("a/b", ["python", "x.py"], tmp_path / "job")
    assert "do-not-tell" not in repr(parameters(SlurmSettings(), [job]))


NASTY = [
    "$(touch pwned)",
    "`touch pwned`",
    "a'b\"c",
    "line\nbreak",
    "../../up",
    "; touch pwned",
    "-x",
]


@pytest.mark.parametrize("name", NASTY)
def test_names_stay_data_in_the_log_and_arguments_of_a_job_here(tmp_path, name, monkeypatch):
    from scripts.job_manager import Job, JobManager

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("scripts.jobs.states.shutil.which", lambda name: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    code = "import sys, json; json.dump(sys.argv[1:], open('argv.json', 'w'))"
    job = Job(name, [sys.executable, "-c", code, name], tmp_path / "runs" / "1")
    assert JobManager(mode="shell", log_dir=tmp_path / "runs").run([job]) == 0
    assert json.loads((tmp_path / "argv.json").read_text()) == [name]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["argv.json", "runs"]


@pytest.mark.parametrize("name", NASTY)
def test_names_stay_data_in_the_script_for_slurm(tmp_path, name):
    """submitit's script names no job argument: they travel in its pickle. What is in it are the
    settings, and PYTHONPATH, quoted."""
    import shlex

    from submitit.slurm.slurm import _make_sbatch_string

    from scripts.job_manager import Job

    job = Job("x", ["python", "x.py", name], tmp_path / "job")
    wanted = dict(parameters(SlurmSettings(), [job]))
    wanted.pop("array_parallelism")
    text = _make_sbatch_string("run", tmp_path, **wanted)
    assert name not in text
    exports = [line for line in text.splitlines() if line.startswith("export PYTHONPATH=")]
    assert len(exports) == 1 and len(shlex.split(exports[0])) == 2


def test_cells_of_a_table_are_text_and_no_more(tmp_path):
    path = tmp_path / "pairs.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["task", "attribute", "tested", "split"])
        writer.writerow(["=cmd|'/c calc'!A0", "$(touch x)", "1", "val"])
    with pytest.raises(UserError, match="row 2"):
        read_pairs(path)


def test_an_eps_never_starts_a_program(monkeypatch):
    def started(*args, **options):
        raise AssertionError(f"a program is started: {args}")

    monkeypatch.setattr(subprocess, "Popen", started)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(BadImage, match="cannot identify"):
        Pixels((8, 8)).decode(eps)


def test_a_report_page_of_nasty_names_holds_no_markup_of_theirs(tmp_path):
    import re

    from src.pages import write_page

    nasty = {"name": "</script><img src=x onerror=alert(1)>", "<b>": ["<!--", "&lt;", "'\""]}
    for page in ("explorer", "report"):
        path = tmp_path / f"{page}.html"
        write_page(path, page, "<script>alert(1)</script>", nasty)
        text = path.read_text()
        assert "onerror=alert" in text and "<img src=x" not in text and "<b>" not in text
        assert "<script>alert" not in text
        (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
        assert json.loads(data) == nasty
        assert "default-src 'none'" in text and "unsafe-inline" not in text
