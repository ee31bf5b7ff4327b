"""Per-task losses, static weights and LBTW (semantics of section 3), by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.objective.across import LossBalancedTaskWeighting, StaticWeights, task_losses

CPU = torch.device("cpu")


def lbtw(tasks: int = 2, alpha: float = 0.5) -> LossBalancedTaskWeighting:
    objective = LossBalancedTaskWeighting(tasks, alpha, CPU)
    objective.start_epoch()
    return objective


def test_the_loss_of_a_task_is_its_mean_cross_entropy_over_the_batch():
    logits = torch.tensor([[0.0, math.log(3)], [0.0, -math.log(3)]])
    labels = torch.tensor([[1, 1], [0, 1]], dtype=torch.uint8)
    # Task 0: ln 2 twice. Task 1: p = 3/4, then p = 1/4.
    expected = torch.tensor([math.log(2), (math.log(4 / 3) + math.log(4)) / 2])
    torch.testing.assert_close(task_losses(logits, labels), expected)


def test_losses_are_computed_in_float32_whatever_the_network_runs_in():
    logits = torch.tensor([[12.0]], dtype=torch.bfloat16)
    loss = task_losses(logits, torch.tensor([[1]]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log1p(math.exp(-12)), rel=1e-4)


def test_static_weights_multiply_the_losses():
    objective = StaticWeights([0.25, 0.75], CPU)
    loss, weights = objective(torch.tensor([0.4, 0.8]))
    assert loss.item() == pytest.approx(0.25 * 0.4 + 0.75 * 0.8)
    assert weights.tolist() == [0.25, 0.75]


def test_lbtw_example_first_08_05_now_02_05_alpha_half_gives_weights_05_1_and_loss_06():
    objective = lbtw()
    first, weights = objective(torch.tensor([0.8, 0.5]))
    assert weights.tolist() == [1.0, 1.0] and first.item() == pytest.approx(1.3)
    loss, weights = objective(torch.tensor([0.2, 0.5]))
    torch.testing.assert_close(weights, torch.tensor([0.5, 1.0]))
    assert loss.item() == pytest.approx(0.6)


def test_lbtw_weights_are_not_normalised_and_can_exceed_1():
    objective = lbtw(alpha=1.0)
    objective(torch.tensor([0.5, 0.5]))
    loss, weights = objective(torch.tensor([1.0, 1.0]))
    assert weights.tolist() == [2.0, 2.0] and loss.item() == 4.0


def test_no_gradient_flows_through_the_lbtw_weights():
    objective = lbtw()
    objective(torch.tensor([0.8, 0.5]))
    losses = torch.tensor([0.2, 0.5], requires_grad=True)
    objective(losses)[0].backward()
    torch.testing.assert_close(losses.grad, torch.tensor([0.5, 1.0]))  # the weights, nothing else


def test_a_first_loss_counts_as_at_least_1e_3():
    objective = lbtw()
    objective(torch.tensor([1e-9, 0.5]))
    _, weights = objective(torch.tensor([4e-3, 0.5]))
    assert weights.tolist() == pytest.approx([2.0, 1.0])


def test_a_first_loss_of_exactly_0_is_remembered_as_seen():
    objective = lbtw()
    objective(torch.tensor([0.0, 0.5]))
    objective(torch.tensor([0.9, 0.5]))
    _, weights = objective(torch.tensor([4e-3, 0.5]))
    assert weights.tolist() == pytest.approx([2.0, 1.0])


def test_the_first_loss_is_that_of_the_current_epoch():
    objective = lbtw(alpha=1.0)
    objective(torch.tensor([0.8, 0.5]))
    objective.start_epoch()
    assert objective(torch.tensor([0.4, 0.4]))[1].tolist() == [1.0, 1.0]
    assert objective(torch.tensor([0.2, 0.4]))[1].tolist() == [0.5, 1.0]


def test_alpha_0_is_plain_summation():
    objective = lbtw(alpha=0.0)
    objective(torch.tensor([0.8, 0.5]))
    assert objective(torch.tensor([0.1, 0.2]))[1].tolist() == [1.0, 1.0]


@given(st.lists(st.floats(0.125, 8, width=32), min_size=2, max_size=2), st.integers(1, 3))
def test_lbtw_goes_on_in_mid_epoch_from_its_saved_state(first, calls):
    whole, resumed = lbtw(), lbtw()
    whole(torch.tensor(first))
    for step in range(calls):
        losses = torch.tensor(first) * (0.5 + step)
        expected = whole(losses)[1]
    resumed.load_state_dict(whole.state_dict())
    assert torch.equal(resumed(losses)[1], expected)
