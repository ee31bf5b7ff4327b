"""On a GPU: replayed steps and images kept there train the same network as plain ones do."""

import json
import math

import numpy as np
import pytest
import torch

from src.data.batches import DeviceImages, iterate_batches, keep_on_device
from src.io import UserError
from src.objective import compose
from src.objective.across import ACROSS_LAYERS
from src.runs.folder import Run
from src.training.checkpoints import load_checkpoint
from src.training.cuda_graph import CapturedStep
from tests.tiny_training import MemoryImages, make_trainer

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
    assert replayed[0].run_step.graph is not None
    assert not isinstance(eager[0].run_step, CapturedStep)
    assert_same(replayed, eager, tolerance)


@pytest.mark.parametrize("across", ACROSS_LAYERS)
def test_a_replayed_step_weighs_tasks_as_an_eager_one(tmp_path, across, monkeypatch):
    monkeypatch.setattr(compose, "CAPTURED", {*ACROSS_LAYERS})
    objective = {"across": across}
    replayed = train(tmp_path / "on", cuda_graph=True, objective=objective)
    eager = train(tmp_path / "off", cuda_graph=False, objective=objective)
    assert replayed[0].run_step.graph is not None
    assert_same(replayed, eager, 1e-4)


def test_the_gpu_trains_as_the_cpu_does(tmp_path):
    gpu = train(tmp_path / "gpu")
    cpu = train(tmp_path / "cpu", device=torch.device("cpu"))
    assert_same(gpu, cpu, 1e-3)


def test_augmented_batches_are_replayed_too(tmp_path):
    replayed = train(tmp_path / "on", data_augmentation=True, cuda_graph=True)
    eager = train(tmp_path / "off", data_augmentation=True, cuda_graph=False)
    assert_same(replayed, eager, 1e-4)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_resumed_run_records_anew_and_ends_alike(tmp_path, dropout):
    whole = train(tmp_path / "whole", dropout=dropout)
    train(tmp_path / "parts", dropout=dropout, total_epochs=3)
    parts = train(tmp_path / "parts", dropout=dropout, total_epochs=6)
    assert_same(whole, parts, 1e-4)


def test_a_replayed_step_that_is_not_finite_touches_no_weight(tmp_path):
    trainer = make_trainer(tmp_path, device=CUDA, total_epochs=6)
    step = trainer._train_step

    def poisoned(images, labels):
        step(images * (math.nan if trainer.step == 6 else 1), labels)

    trainer._train_step = poisoned
    with pytest.raises(UserError, match="not finite at step 7"):
        trainer.train()
    assert trainer.run_step.graph is not None
    assert all(torch.isfinite(parameter).all() for parameter in trainer.model.parameters())


def test_images_kept_on_the_gpu_train_as_those_read_each_time(tmp_path):
    for augment in (False, True):
        kept = train(tmp_path / f"on-{augment}", device_cache=True, data_augmentation=augment)
        read = train(tmp_path / f"off-{augment}", data_augmentation=augment)
        assert isinstance(kept[0].images, DeviceImages)
        assert_same(kept, read, 1e-4)


@pytest.mark.parametrize("augment", [None, (5, 0)])
def test_pixels_kept_on_the_gpu_are_those_read_each_time(augment):
    source = MemoryImages(40, full_frame=augment is not None)
    kept = keep_on_device(source, np.arange(40), CUDA, True, 240)
    order = np.random.default_rng(0).integers(0, 40, (30, 8))
    pairs = zip(
        iterate_batches(kept, order, CUDA, augment),
        iterate_batches(source, order, CUDA, augment),
        strict=True,
    )
    for (images, _), (wanted, _) in pairs:
        assert torch.equal(images, wanted)


def test_a_gpu_far_behind_sees_each_batch_before_the_next_one_takes_its_place():
    source = MemoryImages(40)
    order = np.random.default_rng(0).integers(0, 40, (60, 8))
    wanted = [images.sum().item() for images, _ in iterate_batches(source, order)]
    sums = []
    stream = iterate_batches(source, order, CUDA, prefetch=2)
    for _ in order:
        torch.cuda._sleep(5_000_000)  # some milliseconds before the pixels are looked at
        sums.append(next(stream)[0].sum())
    torch.testing.assert_close(torch.stack(sums).cpu(), torch.tensor(wanted), rtol=1e-4, atol=1e-2)


def test_reading_again_and_again_takes_no_more_memory():
    source = MemoryImages(40)
    order = np.arange(40).reshape(5, 8)
    reserved = []
    for _ in range(40):
        for _ in iterate_batches(source, order, CUDA):
            pass
        reserved.append(torch.cuda.memory_reserved())
    assert reserved[-1] - reserved[0] < 16 * 2**20  # 2 MB for each of 32 streams would be more


def test_images_beyond_four_gigabytes_are_found():
    # 2**32 bytes: where a kernel that counts in 32 bits would begin again at 0.
    source = MemoryImages(1, full_frame=True)
    size = int(np.prod(source.shape))
    count = 2**32 // size + 100
    source.images = np.random.default_rng(0).integers(0, 256, (200, *source.shape), np.uint8)
    read = source.read
    source.read = lambda positions, out: read(positions % 200, out)
    kept = keep_on_device(source, np.arange(count), CUDA, True, count)
    order = np.array([[0, 1, count - 1], [2**31 // size, count - 50, count - 2]])
    for positions, batch in zip(order, iterate_batches(kept, order, CUDA, (0, 0)), strict=True):
        stored = kept.memory[torch.from_numpy(positions)].cpu().numpy()
        assert np.array_equal(stored, source.images[positions % 200])
        assert batch[0].isfinite().all()


def test_more_images_than_the_gpu_has_memory_for_are_read_each_time(capsys):
    source = MemoryImages(1, full_frame=True)
    positions = np.arange(2 * torch.cuda.get_device_properties(CUDA).total_memory // 10**5)
    for wanted in ("auto", True):
        assert keep_on_device(source, positions, CUDA, wanted, 10**12) is source
    assert capsys.readouterr().out.count("cuda has no memory to keep") == 1
    torch.ones(1, device=CUDA)  # and the device is as good as before


def test_fp16_steps_are_scaled_and_not_recorded(tmp_path):
    trainer, losses, _ = train(tmp_path, precision="fp16")
    assert not isinstance(trainer.run_step, CapturedStep)
    assert trainer.compute.scaler.get_scale() > 1 and np.isfinite(losses).all()


# The last of all: torch 2.11 remembers for good that recording has failed.


def test_where_a_step_cannot_be_recorded_it_runs_as_it_is(tmp_path, capsys):
    trainer = make_trainer(tmp_path, device=CUDA, total_epochs=6)
    compute = trainer.run_step.step

    def waits_for_the_device(images, labels):
        compute(images, labels)
        float(trainer.compute.sums[0])

    trainer.run_step.step = waits_for_the_device
    trainer.train()
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    assert trainer.run_step.graph is None and trainer.step == 18
    assert "not replayed as a CUDA graph" in capsys.readouterr().out
    assert all(np.isfinite(trainer.compute.sums.tolist()))
