"""On a GPU: steps replayed as a CUDA graph train the same network as steps run one by one."""

import json
import math

import numpy as np
import pytest
import torch

from src.checkpoints import load_checkpoint
from src.cuda_graph import CapturedStep
from src.errors import UserError
from src.runs import Run
from tests.tiny_training import make_trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CUDA = torch.device("cuda")


def train(folder, **changes):
    """A finished run of 18 steps on the GPU: (trainer, loss of each step, its model's tensors)."""
    changes = {"device": CUDA, "total_epochs": 6, "log_every_n_steps": 1} | changes
    trainer = make_trainer(folder, **changes)
    trainer.train()
    lines = map(json.loads, Run(folder).metrics.read_text().splitlines())
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    return trainer, losses, load_checkpoint(Run(folder).checkpoint("last"))["model"]


def assert_same(first, second, tolerance):
    assert first[1] == pytest.approx(second[1], rel=tolerance)
    for name, tensor in first[2].items():
        torch.testing.assert_close(tensor, second[2][name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("precision, tolerance", [("fp32", 1e-4), ("bf16", 2e-2)])
@pytest.mark.parametrize("lbtw", [False, True])
@pytest.mark.parametrize("schedule", [None, "cosine"])
def test_a_replayed_step_trains_as_one_that_is_not(tmp_path, precision, tolerance, lbtw, schedule):
    changes = {"precision": precision, "lbtw": lbtw, "schedule": schedule}
    replayed = train(tmp_path / "on", cuda_graph=True, **changes)
    eager = train(tmp_path / "off", cuda_graph=False, **changes)
    assert replayed[0].compute.graph is not None
    assert not isinstance(eager[0].compute, CapturedStep)
    assert_same(replayed, eager, tolerance)


def test_the_gpu_trains_as_the_cpu_does(tmp_path):
    gpu = train(tmp_path / "gpu")
    cpu = train(tmp_path / "cpu", device=torch.device("cpu"))
    assert_same(gpu, cpu, 1e-3)


def test_augmented_batches_are_replayed_too(tmp_path):
    replayed = train(tmp_path / "on", augment=True, cuda_graph=True)
    eager = train(tmp_path / "off", augment=True, cuda_graph=False)
    assert_same(replayed, eager, 1e-4)


def test_a_resumed_run_records_anew_and_ends_alike(tmp_path):
    whole = train(tmp_path / "whole")
    make_trainer(tmp_path / "parts", device=CUDA, log_every_n_steps=1, total_epochs=3).train()
    parts = train(tmp_path / "parts", total_epochs=6)
    assert_same(whole, parts, 1e-4)


def test_a_replayed_step_that_is_not_finite_touches_no_weight(tmp_path):
    trainer = make_trainer(tmp_path, device=CUDA, total_epochs=6)
    step = trainer._train_step

    def poisoned(images, labels):
        step(images * (math.nan if trainer.step == 6 else 1), labels)

    trainer._train_step = poisoned
    with pytest.raises(UserError, match="not finite at step 7"):
        trainer.train()
    assert trainer.compute.graph is not None
    assert all(torch.isfinite(parameter).all() for parameter in trainer.model.parameters())


def test_where_a_step_cannot_be_recorded_it_runs_as_it_is(tmp_path, capsys):
    trainer = make_trainer(tmp_path, device=CUDA, total_epochs=6)
    compute = trainer.compute.step

    def waits_for_the_device(images, labels):
        compute(images, labels)
        float(trainer.sums[0])

    trainer.compute.step = waits_for_the_device
    trainer.train()
    assert trainer.compute.graph is None and trainer.step == 18
    assert "not replayed as a CUDA graph" in capsys.readouterr().out
    assert all(np.isfinite(trainer.sums.tolist()))


def test_fp16_steps_are_scaled_and_not_recorded(tmp_path):
    trainer, losses, _ = train(tmp_path, precision="fp16")
    assert not isinstance(trainer.compute, CapturedStep)
    assert trainer.scaler.get_scale() > 1 and np.isfinite(losses).all()
