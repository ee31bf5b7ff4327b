"""Mixup and LISA: mixed images, mixed losses, and which examples make a pair."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.io import UserError
from src.methods.mixup import Lisa, Mixup, draw_rectangle
from src.methods.options import LisaOptions, MixupOptions
from src.sampling.pairs import PairSchedule
from tests.objective.build import make_objective, make_tables


def mean_pixel(images: torch.Tensor) -> torch.Tensor:
    """A network whose logit is the mean of the image."""
    return images.mean((1, 2, 3))[:, None]


def images_of(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None, None, None].expand(-1, 3, 4, 4).clone()


def bce(logit: float, label: int) -> float:
    return float(torch.nn.functional.softplus(torch.tensor((1 - 2 * label) * logit)))


def test_mixup_blends_images_and_losses():
    tables = make_tables([[0], [1], [1]])
    method = Mixup(MixupOptions(), tables, 3, (4, 4))
    method.share[:3] = torch.tensor([0.75, 0.5, 1.0])
    method.others[:3] = torch.tensor([1, 2, 0])
    total, _ = method.loss(
        mean_pixel, make_objective(tables), images_of(0.0, 2.0, 4.0), torch.arange(3)
    )
    logits = [0.75 * 0 + 0.25 * 2, 0.5 * 2 + 0.5 * 4, 4.0]
    expected = [
        0.75 * bce(logits[0], 0) + 0.25 * bce(logits[0], 1),
        bce(logits[1], 1),
        bce(logits[2], 1),
    ]
    assert total.item() == pytest.approx(sum(expected) / 3)


def test_mixup_draws_are_a_function_of_seed_and_step():
    tables = make_tables([[0]] * 8)
    one, other = (Mixup(MixupOptions(), tables, 8, (4, 4)) for _ in range(2))
    np.random.seed(1)
    one.draw(3, 7, 8)
    other.draw(3, 6, 8)
    assert not torch.equal(one.share, other.share)
    other.draw(3, 7, 8)
    assert torch.equal(one.share, other.share) and torch.equal(one.others, other.others)
    assert sorted(one.others[:8].tolist()) == [*range(8)]
    per_batch = Mixup(MixupOptions(per="batch"), tables, 8, (4, 4))
    per_batch.draw(3, 7, 8)
    assert len(set(per_batch.share[:8].tolist())) == 1


def test_a_share_of_1_is_plain_erm():
    tables = make_tables([[0], [1]])
    objective, images = make_objective(tables), images_of(1.0, 3.0)
    method = Mixup(MixupOptions(), tables, 2, (4, 4))
    method.share.fill_(1.0)
    method.others[:2] = torch.tensor([1, 0])
    total, _ = method.loss(mean_pixel, objective, images, torch.arange(2))
    assert total.item() == pytest.approx((bce(1.0, 0) + bce(3.0, 1)) / 2)


def test_cutmix_pastes_a_rectangle_and_counts_its_area():
    tables = make_tables([[0], [1]], groups=[[0], [3]])
    method = Lisa(LisaOptions(), tables, 2, (4, 4))
    method.mask[1:3, 0:2] = True  # 4 of 16 pixels
    method.share.fill_(0.75)
    total, _ = method.loss(
        mean_pixel, make_objective(tables), images_of(0.0, 4.0), torch.tensor([0, 1])
    )
    assert total.item() == pytest.approx(0.75 * bce(1.0, 0) + 0.25 * bce(1.0, 1))


@given(st.integers(0, 1000))
def test_a_drawn_rectangle_lies_in_the_image(seed):
    rows, columns = draw_rectangle(np.random.default_rng(seed), 2.0, (6, 9))
    assert 0 <= rows.start <= rows.stop <= 6 and 0 <= columns.start <= columns.stop <= 9


def test_the_share_of_cutmix_is_the_exact_area():
    tables = make_tables([[0], [1]], groups=[[0], [3]])
    method = Lisa(LisaOptions(), tables, 4, (8, 8))
    for step in range(20):
        method.draw(0, step, 4)
        assert method.share[0].item() == pytest.approx(1 - method.mask.float().mean().item())


# Groups of 6, 4, 5 and 3 examples of one task; two tasks share the examples.
GROUPS = np.array([[0] * 6 + [1] * 4 + [2] * 5 + [3] * 3, [0, 1, 2, 3, 0, 1] * 3]).T


@pytest.mark.parametrize(("same_label", "digit"), [(1.0, 0), (0.0, 1)])
def test_pairs_share_the_label_or_the_attribute_not_both(same_label, digit):
    schedule = PairSchedule(GROUPS[:, :1], [2], [4], same_label)
    for batch in schedule.batches(seed=1, epoch=2, batch_size=8):
        anchors, partners = (np.array(divmod(g, 2)) for g in np.split(GROUPS[batch, 0], 2))
        assert (anchors[digit] == partners[digit]).all()
        assert (anchors[1 - digit] != partners[1 - digit]).all()


def test_anchors_come_from_every_group_equally_often():
    schedule = PairSchedule(GROUPS[:, :1], [2], [4], 0.5)
    batches = schedule.batches(seed=1, epoch=1, batch_size=9)  # two of each group, one left over
    assert len(batches) == schedule.total_steps(1, 9) == 1  # 3 examples of the smallest, 2 a batch
    assert schedule.rows(9) == len(batches[0]) == 16
    assert np.bincount(GROUPS[batches[0][:8], 0]).tolist() == [2, 2, 2, 2]
    assert [schedule.epoch_of(step, 9) for step in (1, 2, 5)] == [1, 2, 5]


def test_the_steps_of_two_tasks_take_turns():
    schedule = PairSchedule(GROUPS, [2, 2], [4, 4], 1.0)
    turns = []
    for batch in schedule.batches(seed=1, epoch=1, batch_size=4):
        anchors, partners = np.split(batch, 2)
        shares = [(GROUPS[anchors, t] // 2 == GROUPS[partners, t] // 2).all() for t in (0, 1)]
        balanced = [np.bincount(GROUPS[anchors, t], minlength=4).tolist() for t in (0, 1)]
        turns.append([t for t in (0, 1) if shares[t] and balanced[t] == [1, 1, 1, 1]])
    assert len(turns) == 3 and all(step % 2 in turn for step, turn in enumerate(turns))


def test_a_batch_smaller_than_the_number_of_groups_is_refused():
    schedule = PairSchedule(GROUPS[:, :1], [2], [4], 0.5)
    with pytest.raises(UserError, match="batch_size to at least 4"):
        schedule.batches(seed=0, epoch=1, batch_size=3)


def test_an_epoch_of_pairs_is_a_function_of_seed_and_epoch():
    schedule = PairSchedule(GROUPS[:, :1], [2], [4], 0.5)
    one, again = (schedule.batches(seed=5, epoch=3, batch_size=4) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    other = schedule.batches(seed=5, epoch=4, batch_size=4)
    assert not all(np.array_equal(a, b) for a, b in zip(one, other))
