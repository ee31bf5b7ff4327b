"""Images kept on the device, on a CPU: where they lie changes neither pixels nor order."""

import numpy as np
import pytest
import torch

from src.data import device_cache
from src.data.batches import iterate_batches
from src.data.device_cache import DeviceImages, keep_on_device
from src.data.pixels import Pixels
from src.io import UserError

CPU = torch.device("cpu")


class Counted:
    """Random images that count how often each is read; one of them may be damaged."""

    def __init__(self, full_frame: bool = False, damaged: int | None = None):
        self.pixels, self.damaged = Pixels((6, 5), full_frame), damaged
        self.shape = self.pixels.shape
        self.sizes = np.full((12, 2), 7)
        self.images = np.random.default_rng(0).integers(0, 256, (12, *self.shape), np.uint8)
        self.reads = np.zeros(12, int)

    def read(self, positions: np.ndarray, out: np.ndarray) -> np.ndarray:
        if self.damaged in positions:
            raise UserError(f"record {self.damaged} is damaged")
        np.add.at(self.reads, positions, 1)
        out[...] = self.images[positions]
        return out


def order(*batches: list[int]) -> list[np.ndarray]:
    return [np.array(batch) for batch in batches]


def everything(source, batches, augment=None) -> list[torch.Tensor]:
    stream = iterate_batches(source, batches, CPU, augment)
    result = []
    for images, positions in stream:
        assert positions.tolist() == batches[len(result)].tolist()
        assert images.is_contiguous(memory_format=torch.channels_last)
        result.append(images)
    assert len(result) == len(batches)
    return result


EPOCHS = [order([3, 1, 7], [1, 1, 4], [9]), order([9, 4, 0], [7, 3, 3]), order([0, 9])]


@pytest.mark.parametrize("augmented", [False, True])
def test_batches_are_those_of_the_source_bit_for_bit(augmented):
    source = Counted(augmented)
    kept = DeviceImages(source, np.array([9, 0, 1, 3, 3, 4, 7]), CPU)
    for epoch, batches in enumerate(EPOCHS):
        augment = (5, 10 * epoch) if augmented else None
        ours = everything(kept, batches, augment)
        theirs = everything(Counted(augmented), batches, augment)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    # Each image that the epochs name was read once, whatever they repeat; the others never.
    assert source.reads.tolist() == [1, 1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0]


def test_epoch_left_early_is_continued():
    source = Counted()
    kept = DeviceImages(source, np.arange(12), CPU)
    batches = order([0, 1], [2, 3], [4, 5], [6, 7], [8, 9])
    with_thread = iterate_batches(kept, batches, CPU, prefetch=1)
    next(with_thread)
    with_thread.close()
    assert list(with_thread) == []
    assert kept.filled.tolist() == [True] * 2 + [False] * 10
    everything(kept, batches[1:])
    assert kept.filled.tolist() == [True] * 10 + [False] * 2
    assert source.reads[:2].tolist() == [1, 1]


def test_images_already_yielded_are_never_overwritten():
    kept = DeviceImages(Counted(), np.arange(12), CPU)
    batches = order([0, 1], [2, 3], [0, 1], [2, 3])
    images = everything(kept, batches)
    images[0].zero_()
    assert torch.equal(images[1], images[3])
    assert not torch.equal(images[0], images[2])


def test_damaged_image_is_an_error_when_it_is_needed():
    kept = DeviceImages(Counted(damaged=4), np.arange(12), CPU)
    stream = iterate_batches(kept, order([1, 2], [3, 4], [5]), CPU)
    next(stream)
    with pytest.raises(UserError, match="record 4 is damaged"):
        next(stream)
    assert list(stream) == []
    assert not kept.filled[3:].any()


@pytest.mark.parametrize("position", [2, 11])
def test_a_position_without_memory_is_refused(position):
    kept = DeviceImages(Counted(), np.array([0, 3, 5]), CPU)
    with pytest.raises(IndexError, match="outside those that memory was made for"):
        iterate_batches(kept, order([0, position]), CPU)


def test_time_spent_waiting_is_that_of_reading():
    kept = DeviceImages(Counted(), np.arange(12), CPU)
    stream = iterate_batches(kept, order([0, 1]), CPU)
    next(stream)
    assert stream.wait_seconds > 0
    stream = iterate_batches(kept, order([1, 0]), CPU)
    next(stream)
    assert stream.wait_seconds == 0


# Whether to keep them: 10 images of 6 x 5 x 3 = 90 bytes, 900 in all.

POSITIONS = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9])


def kept_with(monkeypatch, free: list[int], reads: int = 11, wanted="auto") -> bool:
    """Whether a GPU with so much free memory, before and after, keeps the images."""
    device, frees = torch.device("cuda"), iter(free)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (next(frees), 10**9))
    monkeypatch.setattr(device_cache, "DeviceImages", lambda *_: "kept")
    return keep_on_device(Counted(), POSITIONS, device, wanted, reads) == "kept"


def test_auto_takes_at_most_half_of_what_is_free(monkeypatch):
    assert kept_with(monkeypatch, [1800, 900])
    assert not kept_with(monkeypatch, [1799])


def test_auto_keeps_nothing_if_others_took_the_memory(monkeypatch):
    assert not kept_with(monkeypatch, [1800, 899])


def test_auto_is_only_for_images_that_are_read_more_than_once(monkeypatch):
    assert not kept_with(monkeypatch, [1800, 900], reads=10)


def test_true_always_keeps_and_false_never(monkeypatch):
    assert kept_with(monkeypatch, [], wanted=True)
    assert not kept_with(monkeypatch, [], wanted=False)


def test_auto_keeps_nothing_on_a_cpu_but_true_does():
    source = Counted()
    assert keep_on_device(source, POSITIONS, CPU, "auto", 10**6) is source
    kept = keep_on_device(source, POSITIONS, CPU, True, 10**6)
    assert kept.memory.shape == (10, 6, 5, 3)


def test_out_of_memory_falls_back_to_reading(monkeypatch, capsys):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(device_cache, "DeviceImages", full)
    source = Counted()
    assert keep_on_device(source, POSITIONS, CPU, True, 10**6) is source
    assert capsys.readouterr().out == "cpu has no memory to keep 9e-07 GB of images\n"
