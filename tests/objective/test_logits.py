"""Losses, residuals and probabilities of flat logits, by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.objective.logits import LogitLayout

LOG3 = math.log(3)


def test_a_binary_loss_is_the_cross_entropy_of_one_logit():
    logits, labels = torch.tensor([[0.0, LOG3], [0.0, -LOG3]]), torch.tensor([[1, 1], [0, 1]])
    expected = [[math.log(2), math.log(4 / 3)], [math.log(2), math.log(4)]]
    torch.testing.assert_close(LogitLayout([2, 2]).losses(logits, labels), torch.tensor(expected))


def test_a_task_of_three_classes_has_three_logits():
    layout = LogitLayout([2, 3])
    assert layout.width == 4
    logits = torch.tensor([[0.0, 0.0, LOG3, 0.0]])  # probabilities 1/2; 1/5, 3/5, 1/5
    torch.testing.assert_close(
        layout.losses(logits, torch.tensor([[1, 1]])),
        torch.tensor([[math.log(2), math.log(5 / 3)]]),
    )
    torch.testing.assert_close(
        layout.residuals(logits, torch.tensor([[1, 1]])), torch.tensor([[-0.5, 0.2, -0.4, 0.2]])
    )
    torch.testing.assert_close(layout.probabilities(logits)[1], torch.tensor([[0.2, 0.6, 0.2]]))


def test_losses_are_float32_whatever_the_network_runs_in():
    loss = LogitLayout([2]).losses(
        torch.tensor([[12.0]], dtype=torch.bfloat16), torch.tensor([[1]])
    )
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log1p(math.exp(-12)), rel=1e-4)


@given(st.lists(st.integers(2, 4), min_size=1, max_size=3), st.integers(0, 9))
def test_residuals_are_the_gradient_of_the_losses(classes, seed):
    layout, generator = LogitLayout(classes), torch.Generator().manual_seed(seed)
    logits = torch.randn(5, layout.width, generator=generator, requires_grad=True)
    labels = torch.stack([torch.randint(0, k, (5,), generator=generator) for k in classes], 1)
    layout.losses(logits, labels).sum().backward()
    torch.testing.assert_close(layout.residuals(logits.detach(), labels), logits.grad)
    pairs = zip(layout.probabilities(logits), labels.T)
    true = torch.stack([p.gather(1, y[:, None])[:, 0] for p, y in pairs], 1)
    torch.testing.assert_close(torch.exp(-layout.losses(logits, labels)), true)
