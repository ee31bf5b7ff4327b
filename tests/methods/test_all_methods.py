"""Every method of configs/exp trains two steps of a tiny network, for one, two and three tasks."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import test as evaluation
import train as entrypoint
from src.api import open_run
from src.config.compose import load_config
from src.config.overrides import CONFIG_DIR
from src.config.schema import Config
from src.evaluation.evaluator import RunEvaluator
from src.evaluation.logits import load_logits
from src.evaluation.results import task_figures
from src.io import read_json
from src.methods import stages
from src.methods.options import STAGED
from src.models import build
from src.models.build import HEAD_KINDS, Network
from src.runs.folder import Run
from tests.data.small_celeba import write_celeba

METHODS = sorted(path.stem for path in (CONFIG_DIR / "exp").glob("*.yaml"))
GROUPINGS = ["Young:Male", "Smiling:High_Cheekbones", "Bald:Chubby"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("celeba")
    write_celeba(root, [0] * 120 + [1] * 40 + [2] * 40)
    return root


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch):
    def build_tiny(name, num_logits, pretrained, weights, seed, head="linear", **_):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            body = [nn.Conv2d(3, 8, 5, 4), nn.BatchNorm2d(8), nn.ReLU()]
            backbone = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten())
            return Network(backbone, HEAD_KINDS[head](8, num_logits))

    monkeypatch.setattr(build, "build_model", build_tiny)


SMALL = {
    "self": ["exp.self.early_epochs=[1]", "exp.self.num_rows=[5]", "exp.self.steps=3"],
    "afr": ["exp.afr.steps=5", "exp.afr.num_gammas=2"],
    "dpe": ["exp.dpe.members=2"],
    "dfr": ["exp.dfr.num_retrains=2"],
    "ssa": ["exp.ssa.folds=2", "exp.ssa.interval=1"],
    "cnc": ["exp.cnc.rows=2", "exp.cnc.units=3"],
    "xrm": ["exp.xrm.settings=2", "exp.xrm.steps=5"],
    "crt": ["exp.stage_2.train.total_epochs=2"],
}


SETTINGS = [
    "exp.dataset.target_resolution=[16,16]",
    "exp.model.pretrained=false",
    "exp.dataloader.batch_size=16",
    "exp.optimizer.lr=0.01",
    "exp.train.max_steps=2",
    "exp.train.log_every_n_steps=1",
    "exp.train.tensorboard=false",
    "exp.train.device=cpu",
]


@cache
def composed(method: str) -> Config:
    """A small run; Hydra takes longer to compose them than the run takes."""
    return load_config([f"exp={method}", *SETTINGS, *SMALL.get(method, [])])


def overrides(data: Path, folder: Path, method: str, tasks: int) -> list[str]:
    """The same as a command line, for tests of several processes."""
    places = [f"exp.dataset.root={data}", f"exp.dataset.cache_dir={data / 'cache'}"]
    places += [f"exp.train.log_dir={folder}"]
    return [f"exp={method}", f"exp.dataset.groupings=[{','.join(GROUPINGS[:tasks])}]",
            *places, *SETTINGS]  # fmt: skip


def config_of(data: Path, folder: Path, method: str, tasks: int = 2, **dataset: Any) -> Config:
    values = composed(method).model_dump()
    places = {"root": str(data), "cache_dir": str(data / "cache")}
    values["dataset"] |= places | {"groupings": GROUPINGS[:tasks]} | dataset
    values["train"]["log_dir"] = str(folder)
    return Config.model_validate(values)


@pytest.fixture(autouse=True)
def stages_in_this_process(monkeypatch):
    def run_child(command, run, heartbeat, stop):
        _, script, *arguments = command
        if Path(script).name == "train.py":
            entrypoint.resume(arguments[1])
        else:
            evaluation.main(arguments)

    monkeypatch.setattr(stages, "run_child", run_child)


def test_all_methods_are_found():
    assert len(METHODS) == 31


@pytest.mark.parametrize("tasks", [1, 2, 3])
@pytest.mark.parametrize("method", [method for method in METHODS if method not in STAGED])
def test_a_method_trains(data, tmp_path, method, tasks):
    entrypoint.main(config_of(data, tmp_path / "run", method, tasks))
    check_finished(Run(tmp_path / "run"))


def check_finished(run: Run) -> None:
    assert run.status()["state"] == "done"
    figures = read_json(run.val_stats)["epochs"]["1"]
    assert all(value is None or np.isfinite(value) for value in figures.values())
    assert np.isfinite(load_logits(run.logits("val", 1)).values).all()


@pytest.mark.parametrize("tasks", [1, 2, 3])
@pytest.mark.parametrize("method", sorted(STAGED))
def test_a_staged_method_trains(data, tmp_path, method, tasks):
    entrypoint.main(config_of(data, tmp_path / "run", method, tasks))
    check_finished(Run(tmp_path / "run" / "stage_2"))
    evaluation.main(["--log_dir", str(tmp_path / "run"), "--ckpt_num", "last", "--split", "test"])
    second = Run(tmp_path / "run" / "stage_2")
    assert read_json(second.stats("test", "last"))["Young:Male"]["avg_acc"] > 0
    for run in (Run(tmp_path / "run"), second):
        assert {"train", "val"} <= read_json(run.provenance)["data"].keys()


@pytest.mark.parametrize("method", ["erm", "eiil", "xrm", "dfr", "dpe", "self"])
def test_a_method_trains_without_group_labels(data, tmp_path, method):
    entrypoint.main(config_of(data, tmp_path / "run", method, subgroup_labels=False))
    run = open_run(tmp_path / "run")
    rule = "best-group" if method == "xrm" else "best-class"
    assert set(read_json(run.val_stats)["selected"]) >= {"best-avg", rule}
    names = {name.partition(":")[2] for name in task_figures(read_json(run.epoch_stats(1)))}
    found = {"Young environment", "Smiling environment"}
    assert names == (found if method == "xrm" else {""})


@pytest.mark.parametrize("method", ["rwg", "group_dro", "crt"])
def test_a_method_trains_with_a_share_of_known_groups(data, tmp_path, method):
    entrypoint.main(config_of(data, tmp_path / "run", method, groups_known=0.5))
    check_finished(open_run(tmp_path / "run"))


# Two tasks, of three and of two classes, with attributes of two and of three values.
SHAPES = {"name": "table", "groupings": ["shape:texture", "size:texture"], "bins": {"size": [30]}}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_on_three_classes(shapes, tmp_path, method):
    entrypoint.main(config_of(shapes, tmp_path / "run", method, **SHAPES))
    run = open_run(tmp_path / "run")
    check_finished(run)
    assert load_logits(run.logits("val", 1)).values.shape == (60, 4)
    figures = task_figures(read_json(run.epoch_stats(1)))
    assert len(next(iter(figures.values()))["groups"]) in (9, 6)  # six: class and environment


def test_a_head_is_evaluated_on_saved_features(data, tmp_path, monkeypatch):
    entrypoint.main(config_of(data, tmp_path / "run", "dfr"))
    command = ["--split", "test", "--ckpt_num", "last", "--log_dir"]
    run = open_run(tmp_path / "run")
    evaluation.main([*command, str(run.path)])  # one pass over the images
    passed = load_logits(run.logits("test", 1))
    run.logits("test", 1).unlink()
    evaluation.main([*command, str(tmp_path / "run" / "stage_1"), "--features"])
    monkeypatch.setattr(RunEvaluator, "_pass", None)
    evaluation.main([*command, str(run.path)])
    alone = load_logits(run.logits("test", 1))
    assert alone.values == pytest.approx(passed.values, abs=1e-2)
    assert alone.source.checkpoint == passed.source.checkpoint
    evaluation.main([*command, str(run.path), "--logit_adjustment", "1", "--adjust_by", "group"])
    adjusted = read_json(run.stats("test", "last-adjusted-by-group-1"))
    assert adjusted["logit_adjustment"] == {"tau": 1.0, "by": "group"}
    assert (
        adjusted["Young:Male"]["loss"] != read_json(run.stats("test", "last"))["Young:Male"]["loss"]
    )
