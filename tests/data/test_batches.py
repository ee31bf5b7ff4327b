import gc
import multiprocessing
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

from src.data.batches import iterate_batches
from src.data.celeba import find_images
from src.data.decode import StreamedImages
from src.data.pixels import Pixels
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


class Broken:
    """Fails at its second batch."""

    pixels = Pixels((4, 4))
    shape = (4, 4, 3)
    sizes = np.full((2, 2), 4)

    def __init__(self, error: Exception):
        self.error, self.reads = error, 0

    def read(self, positions, out):
        self.reads += 1
        if self.reads == 2:
            raise self.error
        return out


def readers() -> list:
    return [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


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
def test_result_does_not_depend_on_prefetch(cropped, frames, augmented):
    source, augment = (frames, (5, 100)) if augmented else (cropped, None)
    results = [
        torch.cat(
            [images for images, _ in iterate_batches(source, ORDER, "cpu", augment, prefetch)]
        )
        for prefetch in (1, 2, 4)
    ]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("augmented", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_images_equal_the_cache(cropped, frames, root, workers, augmented):
    records, augment = (frames, (5, 100)) if augmented else (cropped, None)
    streamed = StreamedImages(find_images(root), records.names, records.pixels, workers)
    pairs = list(
        zip(
            iterate_batches(records, ORDER, augment=augment),
            iterate_batches(streamed, ORDER, augment=augment),
        )
    )
    assert len(pairs) == 3
    for (images, positions), (streamed_images, streamed_positions) in pairs:
        assert torch.equal(images, streamed_images)
        assert torch.equal(positions, streamed_positions)


def test_resumed_augmentation_equals_the_uninterrupted_one(frames):
    whole = [images for images, _ in iterate_batches(frames, ORDER, augment=(3, 10))]
    rest = [images for images, _ in iterate_batches(frames, ORDER[1:], augment=(3, 11))]
    assert torch.equal(whole[1], rest[0])
    assert torch.equal(whole[2], rest[1])
    other = [images for images, _ in iterate_batches(frames, ORDER, augment=(4, 10))]
    assert not torch.equal(whole[0], other[0])


def test_images_already_yielded_are_never_overwritten(cropped):
    kept = [images for images, _ in iterate_batches(cropped, ORDER * 5, prefetch=1)]
    for at in range(3, 15):
        assert torch.equal(kept[at], kept[at - 3])


def test_no_batches_is_an_empty_iteration(cropped):
    assert list(iterate_batches(cropped, [])) == []


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
    assert 0.1 < stream.wait_seconds < 1


@pytest.mark.parametrize("error", [UserError("a bad record"), ValueError("a bug")])
def test_error_of_the_thread_is_raised_by_next(error):
    stream = iterate_batches(Broken(error), ORDER)
    next(stream)
    with pytest.raises(type(error), match="a b"):
        next(stream)
    assert list(stream) == []
    assert readers() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_bad_image_is_a_plain_user_error(root, workers):
    names = ["000001.jpg", "nowhere.jpg"]
    streamed = StreamedImages(find_images(root), names, Pixels((8, 8)), workers)
    with pytest.raises(UserError) as caught:
        list(iterate_batches(streamed, [np.array([0]), np.array([1])]))
    assert "nowhere.jpg: cannot be read" in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_closing_early_ends_the_thread(cropped, taken):
    with iterate_batches(cropped, ORDER * 10, prefetch=2) as stream:
        for _ in range(taken):
            next(stream)
        assert len(readers()) == 1
    assert readers() == []
    assert list(stream) == []


def test_thread_of_a_forgotten_iterator_ends(cropped):
    stream = iterate_batches(cropped, ORDER * 10)
    next(stream)
    del stream
    gc.collect()
    deadline = time.monotonic() + 5
    while readers() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert readers() == []


def test_no_more_than_prefetch_batches_are_read_ahead(cropped, monkeypatch):
    read, reads = type(cropped).read, []
    monkeypatch.setattr(type(cropped), "read", lambda *args: reads.append(1) or read(*args))
    with iterate_batches(cropped, ORDER * 10, prefetch=2) as stream:
        time.sleep(0.1)
        assert len(reads) == 2
        next(stream)
        time.sleep(0.1)
        assert len(reads) == 3


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


def test_crops_are_a_function_of_seed_and_step():
    first, again = draw_crops(1, 2, FIFTY), draw_crops(1, 2, FIFTY)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], draw_crops(1, 3, FIFTY)[0])
    assert not np.array_equal(first[0], draw_crops(2, 2, FIFTY)[0])


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
