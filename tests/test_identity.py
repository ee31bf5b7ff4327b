"""Results never come from other data in silence."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

import test as evaluate_entrypoint
import train as entrypoint
from src.config.compose import load_config
from src.data.dataset import Dataset
from src.evaluation.results import task_figures
from src.io import UserError, read_json
from src.report.collect import build_report
from src.runs.folder import Run
from src.runs.provenance import record_data
from src.runs.signals import Stopped
from tests.data.small_celeba import write_celeba

SPLIT = [0] * 48 + [1] * 24 + [2] * 24


@pytest.fixture
def celeba(tmp_path) -> Path:
    root = tmp_path / "celeba"
    write_celeba(root, SPLIT)
    return root


@pytest.fixture
def overrides(celeba, tmp_path, tiny_overrides) -> list[str]:
    own = [
        text for text in tiny_overrides if "dataset.root" not in text and "cache_dir" not in text
    ]
    places = [f"exp.dataset.root={celeba}", f"exp.dataset.cache_dir={tmp_path / 'cache'}"]
    return [*own, *places, f"exp.train.log_dir={tmp_path / 'run'}", "exp.groupings=[Young:Male]"]


def train(overrides: list[str], *more: str) -> Run:
    config = load_config([*overrides, *more])
    entrypoint.main(config)
    return Run(config.train.log_dir)


def evaluate(run: Run, *arguments: str) -> None:
    evaluate_entrypoint.main(["--log_dir", str(run.path), "--ckpt_num", "1", *arguments])


def blacken(folder: Path, first: int = 0) -> None:
    for path in sorted(folder.rglob("*.jpg"))[first:]:
        Image.new("RGB", (178, 218)).save(path)


def test_figures_of_black_pictures_do_not_return_for_real_ones(overrides, celeba, tmp_path):
    run = train(overrides)
    evaluate(run, "--split", "test")
    real = read_json(run.stats("test", "1"))
    shutil.copytree(celeba, tmp_path / "black")
    blacken(tmp_path / "black")
    evaluate(run, "--split", "test", "--root", str(tmp_path / "black"))
    assert read_json(run.stats("test", "1")) == real
    (other,) = set(run.results.glob("test_stats_1-*.json"))
    black = read_json(other)
    assert black["data"]["rows"] == real["data"]["rows"]
    assert black["data"]["images"] != real["data"]["images"]
    assert task_figures(black)["Young:Male"]["loss"] != task_figures(real)["Young:Male"]["loss"]
    evaluate(run, "--split", "test")
    assert read_json(run.stats("test", "1")) == real


def test_black_test_pictures_alone_are_other_data(overrides, celeba, tmp_path):
    run = train(overrides)
    evaluate(run, "--split", "test")
    real = read_json(run.stats("test", "1"))
    shutil.copytree(celeba, tmp_path / "black")
    blacken(tmp_path / "black", SPLIT.index(2))
    evaluate(run, "--split", "test", "--root", str(tmp_path / "black"))
    assert read_json(run.stats("test", "1")) == real
    assert len(list(run.results.glob("test_stats_1-*.json"))) == 1


def test_a_report_on_another_copy_measures_that_copy(overrides, celeba, tmp_path):
    run = train(overrides)
    evaluate(run, "--split", "test")
    shutil.copytree(celeba, tmp_path / "black")
    blacken(tmp_path / "black")
    build_report([run.path], "test", ["1"], root=str(tmp_path / "black"))
    assert len(list(run.results.glob("test_logits_1-*.npz"))) == 1


def test_data_that_moved_are_the_same_data(overrides, celeba, tmp_path):
    run = train(overrides)
    shutil.copytree(celeba, tmp_path / "moved")
    evaluate(run, "--split", "val", "--root", str(tmp_path / "moved"))
    assert run.stats("val", "1").exists()


def test_pictures_replaced_in_place_are_evaluated_again(overrides, celeba):
    run = train(overrides)
    evaluate(run, "--split", "test")
    before = read_json(run.stats("test", "1"))
    blacken(celeba)
    evaluate(run, "--split", "test")
    assert read_json(run.stats("test", "1"))["data"] != before["data"]


def flip_labels(root: Path, part: str) -> None:
    """Flip Young of every example of a split; of train, drop nothing."""
    path = root / "list_attr_celeba.txt"
    lines = path.read_text().splitlines()
    column = lines[1].split().index("Young") + 1
    first = SPLIT.index({"train": 0, "val": 1}[part]) + 2
    for row in range(first, first + 24):
        cells = lines[row].split()
        cells[column] = str(-int(cells[column]))
        lines[row] = " ".join(cells)
    path.write_text("\n".join(lines) + "\n")


def remove_rows(root: Path) -> None:
    partition = root / "list_eval_partition.txt"
    lines = partition.read_text().splitlines()
    lines[:5] = [line.replace(" 0", " 2") for line in lines[:5]]
    partition.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: flip_labels(root, "train"), "labels or number of its train examples"),
        (lambda root: flip_labels(root, "val"), "labels or number of its val examples"),
        (remove_rows, "labels or number of its train examples"),
        (blacken, "the images of its train split changed"),
    ],
    ids=["train labels", "val labels", "rows", "images"],
)
def test_a_run_is_not_resumed_on_other_data(overrides, celeba, change, message):
    longer = [*overrides, "exp.train.total_epochs=2", "exp.dataloader.batch_size=16"]
    with pytest.MonkeyPatch.context() as patch:

        def stop(trainer, name=None):
            raise Stopped(15)

        patch.setattr("src.training.loop.Trainer._finish_epoch", stop)
        with pytest.raises(Stopped):
            train(longer)
    change(celeba)
    with pytest.raises(UserError, match=message):
        train(longer)


def test_a_staged_run_is_not_resumed_with_other_labels(celeba, tmp_path):
    run, data = Run(tmp_path / "run"), (celeba, (32, 32), "none", tmp_path / "cache")
    record_data(run, Dataset(*data))
    record_data(run, Dataset(*data))
    flip_labels(celeba, "val")
    with pytest.raises(UserError, match="number of its val examples changed"):
        record_data(run, Dataset(*data))


def test_a_run_records_what_it_ran_with(overrides):
    run = train(overrides)
    provenance = read_json(run.provenance)
    (session,) = provenance["sessions"]
    assert session["precision"] == "fp32" and session["device"].startswith("cpu")
    assert {"torch", "threads", "code"} <= session.keys()
    assert provenance["data"].keys() == {"train", "val"}


def test_a_change_of_what_decides_bits_is_noted_on_resume(overrides, capsys):
    run = train(overrides)
    provenance = read_json(run.provenance)
    provenance["sessions"][0]["threads"] = 99
    run.provenance.write_text(json.dumps(provenance))
    run.set_status(state="stopped")
    train(overrides)
    assert "note: threads is 1, was 99" in capsys.readouterr().out
    assert len(read_json(run.provenance)["sessions"]) == 2
