"""Nothing may change but the time: each way to be fast, on and off, 20 steps on a CPU in fp32."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import train
from src.config.compose import load_config
from src.data.celeba import find_images
from src.data.sources import StreamedImages
from src.runs.folder import Run
from src.runs.signals import Stopped
from src.sampling.epochs import IndexPlan
from src.training.checkpoints import load_checkpoint
from src.training.devices import keep_freed_memory
from tests.data.small_celeba import build_cache
from tests.tiny_training import at, make_trainer

STEPS = 20  # seven epochs of 3 steps, but for the last; ten of 2 where a plan is half as long


def trained(folder: Path, images: Any = None, **changes: Any) -> dict:
    """Weights and momentum after 20 steps, by name."""
    trainer = make_trainer(folder, total_epochs=10, max_steps=STEPS, **changes)
    if images is not None:
        trainer.images = images
    trainer.train()
    state = load_checkpoint(Run(folder).checkpoint("last"))
    assert state["step"] == STEPS
    momentum = {
        f"momentum.{k}": v["momentum_buffer"] for k, v in state["optimizer"]["state"].items()
    }
    return {name: tensor.clone() for name, tensor in (state["model"] | momentum).items()}


def assert_same_bits(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    assert len(one) > 10
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return trained(tmp_path_factory.mktemp("plain") / "run")


def test_keeping_freed_memory_changes_no_bit(plain, tmp_path):
    keep_freed_memory()
    assert_same_bits(plain, trained(tmp_path / "run"))


PLANS = {
    "erm": IndexPlan(np.arange(20)),
    "rwg": IndexPlan(np.arange(20), np.linspace(1, 9, 20)),
    "subg": IndexPlan(np.arange(0, 20, 2)),
    "jtt": IndexPlan(np.repeat(np.arange(20), np.where(np.arange(20) % 5, 1, 3))),
}


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("augment", [False, True])
def test_images_kept_on_the_device_change_no_bit(tmp_path, plan, augment):
    changes = {"plan": PLANS[plan], "data_augmentation": augment}
    kept = trained(tmp_path / "on", device_cache=True, **changes)
    assert_same_bits(kept, trained(tmp_path / "off", device_cache=False, **changes))


def test_images_kept_on_the_device_resume_within_an_epoch(plain, tmp_path):
    stop = at(4, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped):
        trained(tmp_path / "run", device_cache=True, hook=stop)
    assert load_checkpoint(Run(tmp_path / "run").checkpoint("last"))["batch"] == 2
    assert_same_bits(plain, trained(tmp_path / "run", device_cache=True))


def test_the_command_line_decides_whether_they_are_kept(tiny_overrides, tmp_path, capsys):
    for value, times in (("true", 1), ("false", 0), ("auto", 0)):
        overrides = [*tiny_overrides, f"exp.dataloader.device_cache={value}"]
        config = load_config([*overrides, f"exp.train.log_dir={tmp_path / value}"])
        train.train(config, Run(tmp_path / value))
        assert capsys.readouterr().out.count("64 images, 0.0002 GB, are kept on cpu") == times


@pytest.mark.parametrize("augment", [False, True])
def test_the_cache_changes_no_bit(tiny_celeba, tmp_path, augment):
    records = build_cache(tiny_celeba, "train", (16, 16), augment, cache_dir=tmp_path)
    streamed = StreamedImages(find_images(tiny_celeba), records.names, records.pixels)
    order = np.random.default_rng(0).permutation(len(records))
    assert np.array_equal(records.read(order), streamed.read(order))
    cached = trained(tmp_path / "records", records, data_augmentation=augment)
    assert_same_bits(cached, trained(tmp_path / "none", streamed, data_augmentation=augment))
    assert torch.isfinite(cached["head.weight"]).all()
