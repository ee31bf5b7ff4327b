import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms as tv
from torchvision.transforms import functional

from src.data import batches
from src.data.batches import iterate_batches, keep_on_device
from src.data.celeba import find_images
from src.data.pixels import Pixels
from src.data.sources import StreamedImages
from src.data.transforms import (
    crop_and_resize,
    draw_crops,
    filter_matrix,
    normalise,
    resize_by_products,
    scale_crops,
)
from src.io import UserError
from tests.data.small_celeba import build_cache, draw_image, write_celeba

CPU = torch.device("cpu")
COUNT = 12
ORDER = [np.array([3, 1, 7, 0]), np.array([2, 2, 11, 5]), np.array([9])]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("batches") / "celeba"
    write_celeba(root, [0] * COUNT)
    return root


@pytest.fixture(scope="module")
def cropped(root):
    return build_cache(root, "train", (32, 24))


@pytest.fixture(scope="module")
def frames(root):
    return build_cache(root, "train", (32, 24), full_frame=True)


class Counted:
    """Twelve random images that count how often each is read; one of them may be damaged."""

    def __init__(self, full_frame: bool = False, damaged: int | None = None):
        self.pixels, self.damaged = Pixels((6, 5), full_frame), damaged
        self.shape, self.sizes = self.pixels.shape, np.full((12, 2), 7)
        self.images = np.random.default_rng(0).integers(0, 256, (12, *self.shape), np.uint8)
        self.reads = np.zeros(12, int)

    def read(self, positions: np.ndarray, out: np.ndarray) -> np.ndarray:
        if self.damaged in positions:
            raise UserError(f"record {self.damaged} is damaged")
        np.add.at(self.reads, positions, 1)
        out[...] = self.images[positions]
        return out


def readers() -> list:
    return [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


# Batches.


def test_batches_equal_torchvisions_pipeline(cropped, root):
    pipeline = tv.Compose(
        [
            tv.CenterCrop(178),
            tv.Resize((32, 24)),
            tv.ToTensor(),
            tv.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    stream = iterate_batches(cropped, ORDER)
    for wanted in ORDER:
        images, positions = next(stream)
        assert positions.tolist() == wanted.tolist()
        assert positions.dtype == torch.int64
        assert images.dtype == torch.float32
        assert images.is_contiguous(memory_format=torch.channels_last)
        paths = [root / "img_align_celeba" / cropped.names[position] for position in wanted]
        expected = torch.stack([pipeline(Image.open(path)) for path in paths])
        torch.testing.assert_close(images, expected, rtol=0, atol=2e-6)
    assert list(stream) == []


def test_normalisation_by_hand():
    images = normalise(torch.tensor([[[[255, 0, 51]]]], dtype=torch.uint8))  # 51 / 255 = 0.2
    wanted = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    torch.testing.assert_close(images.flatten(), torch.tensor(wanted))


@pytest.mark.parametrize("augmented", [False, True])
def test_batches_depend_neither_on_prefetch_nor_on_the_source(cropped, frames, root, augmented):
    records, augment = (frames, (5, 100)) if augmented else (cropped, None)
    streamed = StreamedImages(find_images(root), records.names, records.pixels, workers=2)
    wanted = [images for images, _ in iterate_batches(records, ORDER, "cpu", augment, 1)]
    for source, prefetch in ((records, 2), (records, 4), (streamed, 3)):
        stream = list(iterate_batches(source, ORDER, "cpu", augment, prefetch))
        assert [rows.tolist() for _, rows in stream] == [rows.tolist() for rows in ORDER]
        assert all(torch.equal(images, own) for (images, _), own in zip(stream, wanted))


def test_resumed_augmentation_equals_the_uninterrupted_one(frames):
    whole = [images for images, _ in iterate_batches(frames, ORDER, augment=(3, 10))]
    rest = [images for images, _ in iterate_batches(frames, ORDER[1:], augment=(3, 11))]
    assert torch.equal(whole[1], rest[0])
    assert torch.equal(whole[2], rest[1])
    other = [images for images, _ in iterate_batches(frames, ORDER, augment=(4, 10))]
    assert not torch.equal(whole[0], other[0])


def test_full_frames_without_augment_and_the_reverse_are_refused(cropped, frames):
    with pytest.raises(ValueError, match="full frames need augment"):
        iterate_batches(frames, ORDER)
    with pytest.raises(ValueError, match="full frames need augment"):
        iterate_batches(cropped, ORDER, augment=(0, 0))


def test_time_spent_waiting_is_measured(cropped, monkeypatch):
    read = type(cropped).read

    def slow(self, *args):
        time.sleep(0.05)
        return read(self, *args)

    monkeypatch.setattr(type(cropped), "read", slow)
    stream = iterate_batches(cropped, ORDER)
    assert len(list(stream)) == 3
    assert stream.wait_seconds > 0.1


def test_error_of_the_thread_is_raised_by_next(root):
    stream = iterate_batches(Counted(damaged=4), [np.array([1, 2]), np.array([3, 4])])
    next(stream)
    with pytest.raises(UserError, match="record 4 is damaged"):
        next(stream)
    assert list(stream) == [] and readers() == []
    streamed = StreamedImages(find_images(root), ["nowhere.jpg"], Pixels((8, 8)), workers=2)
    with pytest.raises(UserError, match=r"nowhere\.jpg: .*No such file"):
        next(iterate_batches(streamed, [np.array([0])]))


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_closing_early_ends_the_thread(cropped, taken):
    stream = iterate_batches(cropped, ORDER * 10, prefetch=2)
    for _ in range(taken):
        next(stream)
    stream.close()
    assert readers() == [] and list(stream) == []


def test_no_more_than_prefetch_batches_are_read_ahead(cropped, monkeypatch):
    read, reads = type(cropped).read, []
    monkeypatch.setattr(type(cropped), "read", lambda *args: reads.append(1) or read(*args))
    stream = iterate_batches(cropped, ORDER * 10, prefetch=2)
    next(stream)
    time.sleep(0.2)
    assert len(reads) == 3
    stream.close()


# Images kept on the device.

KEPT = np.array([9, 0, 1, 3, 3, 4, 7])
EPOCHS = [[[3, 1, 7], [1, 1, 4], [9]], [[9, 4, 0], [7, 3, 3]], [[0, 9]]]


@pytest.mark.parametrize("augmented", [False, True])
def test_kept_images_are_read_once_and_give_the_same_batches(augmented):
    source, again = Counted(augmented), Counted(augmented)
    kept = keep_on_device(source, KEPT, CPU, True, 20)
    for epoch, order in enumerate(EPOCHS):
        augment = (5, 10 * epoch) if augmented else None
        ours = list(iterate_batches(kept, order, CPU, augment))
        theirs = list(iterate_batches(again, order, CPU, augment))
        assert len(ours) == len(order)
        for own, other in zip(ours, theirs, strict=True):
            assert torch.equal(own[0], other[0]) and torch.equal(own[1], other[1])
        ours[0][0].zero_()  # does not touch what is kept
    assert source.reads.tolist() == [1, 1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0]
    with pytest.raises(IndexError, match="outside those that are kept"):
        next(iterate_batches(kept, [[0, 2]], CPU, (5, 0) if augmented else None))


# Whether to keep them: 10 images of 6 x 5 x 3 = 90 bytes, 900 in all.


@pytest.mark.parametrize(
    ("free", "reads", "wanted", "keeps"),
    [
        ([1800, 900], 11, "auto", True),
        ([1799], 11, "auto", False),  # more than half of what is free
        ([1800, 899], 11, "auto", False),  # others took the memory
        ([1800, 900], 10, "auto", False),  # each is read once only
        ([], 11, True, True),
        ([], 11, False, False),
    ],
)
def test_auto_keeps_images_where_memory_is_free(monkeypatch, free, reads, wanted, keeps):
    frees, empty = iter(free), torch.empty
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (next(frees), 10**9))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch, "empty", lambda *size, device, **kind: empty(*size, **kind))
    monkeypatch.setattr(batches, "DeviceImages", lambda *_: "kept")
    positions = np.array([*range(10), 9, 9])
    kept = keep_on_device(Counted(), positions, torch.device("cuda"), wanted, reads)
    assert (kept == "kept") is keeps


def test_out_of_memory_falls_back_to_reading(monkeypatch, capsys):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "empty", full)
    source = Counted()
    assert keep_on_device(source, np.arange(10), CPU, True, 10**6) is source
    assert capsys.readouterr().out == "cpu has no memory to keep 9e-07 GB of images\n"
    assert keep_on_device(source, np.arange(10), CPU, "auto", 10**6) is source


# Crops.


def frames_of(count: int) -> np.ndarray:
    """Return the sizes (B, 2) of aligned faces."""
    return np.tile([218, 178], (count, 1))


FIFTY = frames_of(50)


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(0, 10**6), st.integers(1, 64))
def test_crops_lie_in_the_frame_and_keep_area_and_ratio(seed, step, count):
    crops, flips = draw_crops(seed, step, frames_of(count))
    assert crops.shape == (count, 4)
    assert flips.shape == (count,)
    top, left, height, width = crops.T
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + height <= 218).all() and (left + width <= 178).all()
    # Rounding a side moves the area by less than half a row and half a column.
    slack = (height + width + 1) / 2
    assert (height * width + slack >= 0.7 * 218 * 178).all()
    assert ((width + 0.5) / (height - 0.5) >= 1).all()
    assert ((width - 0.5) / (height + 0.5) <= 4 / 3).all()


def test_crops_are_distributed_as_torchvisions():
    count = 4000
    torch.manual_seed(0)
    image = Image.new("RGB", (178, 218))
    theirs = np.array(
        [tv.RandomResizedCrop.get_params(image, [0.7, 1.0], [1.0, 4 / 3]) for _ in range(count)]
    )
    ours, flips = draw_crops(0, 0, frames_of(count))
    error = np.sqrt((ours.var(0) + theirs.var(0)) / count)
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < 4 * error).all()
    np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=0.1)
    assert abs(flips.mean() - 0.5) < 4 * 0.5 / count**0.5


def test_crops_of_pictures_of_many_sizes_fit_each_of_them():
    sizes = np.array([[50, 300], [300, 50], [7, 7], [1, 1]] * 20)
    crops, _ = draw_crops(3, 1, sizes)
    assert (crops[:, 2:] >= 1).all()
    assert (crops[:, :2] + crops[:, 2:] <= sizes).all()
    scaled = scale_crops(crops, sizes, (64, 64))
    assert (scaled[:, 2:] >= 1).all()
    assert (scaled[:, :2] + scaled[:, 2:] <= 64).all()


def test_crop_of_a_scaled_copy_by_hand():
    # Rows 10..30 of 100 are rows 5..15 of 50; columns 20..40 of 40 are columns 25..50 of 50.
    scaled = scale_crops(np.array([[10, 20, 20, 20]]), np.array([[100, 40]]), (50, 50))
    assert scaled.tolist() == [[5, 25, 10, 25]]


def test_fallback_is_the_central_square_as_in_torchvision(monkeypatch):
    monkeypatch.setattr("src.data.transforms.SCALE", (2.0, 2.0))  # no crop is that large
    crops, _ = draw_crops(0, 0, frames_of(2))
    theirs = tv.RandomResizedCrop.get_params(Image.new("RGB", (178, 218)), [2.0, 2.0], [1.0, 4 / 3])
    assert crops.tolist() == [[20, 0, 178, 178]] * 2  # (218 - 178) / 2 = 20
    assert tuple(theirs) == (20, 0, 178, 178)


def test_filter_matrix_by_hand():
    # 4 pixels to 2: the filter is 2 input pixels wide on either side of centres 1 and 3, so the
    # pixel centres .5 1.5 2.5 weigh .75 .75 .25 and by symmetry .25 .75 .75.
    weights = filter_matrix(torch.tensor([0.0]), torch.tensor([4.0]), 4, 2)[0]
    torch.testing.assert_close(weights[0], torch.tensor([0.75, 0.75, 0.25, 0]) / 1.75)
    torch.testing.assert_close(weights[1], torch.tensor([0, 0.25, 0.75, 0.75]) / 1.75)
    # A crop of the 2 pixels from 1 on, to 2: each pixel itself, and none outside the crop.
    weights = filter_matrix(torch.tensor([1.0]), torch.tensor([2.0]), 4, 2)[0]
    torch.testing.assert_close(weights, torch.tensor([[0, 1.0, 0, 0], [0, 0, 1.0, 0]]))


@pytest.mark.parametrize("resize", [crop_and_resize, resize_by_products])
@pytest.mark.parametrize("resolution", [(64, 64), (224, 224), (40, 100)])
def test_crop_and_resize_equals_pil_within_a_grey_level(resize, resolution):
    count = 12
    pictures = [draw_image(seed) for seed in range(count)]
    crops, flips = draw_crops(7, 0, frames_of(count))
    assert 0 < flips.sum() < count
    images = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    ours = resize(images, crops, flips, resolution).float().round().numpy()
    for picture, crop, flip, result in zip(pictures, crops.tolist(), flips, ours):
        wanted = functional.resized_crop(picture, *crop, list(resolution))
        wanted = np.asarray(functional.hflip(wanted) if flip else wanted, np.float32)
        assert np.abs(result - wanted).max() <= 1


@pytest.mark.gpu
def test_cuda_batches_equal_those_of_the_cpu(cropped, frames):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for source, augment in ((cropped, None), (frames, (5, 100))):
        here = iterate_batches(source, ORDER * 20, "cpu", augment)
        there = iterate_batches(source, ORDER * 20, "cuda", augment)
        for (images, positions), (cuda_images, cuda_positions) in zip(here, there, strict=True):
            assert cuda_images.is_cuda
            assert torch.equal(positions, cuda_positions)
            atol = 1e-5 if augment is None else 1.01 / (255 * 0.224)  # one grey level
            torch.testing.assert_close(cuda_images.cpu(), images, rtol=0, atol=atol)
