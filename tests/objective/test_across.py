"""Static task weights and LBTW, by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.objective.across import LossBalancedTaskWeighting, StaticWeights
from src.objective.options import ObjectiveOptions


def lbtw(tasks: int = 2, alpha: float = 0.5) -> LossBalancedTaskWeighting:
    layer = LossBalancedTaskWeighting(ObjectiveOptions(), [1.0] * tasks, alpha)
    layer.start_epoch(1)
    return layer


def step(layer: LossBalancedTaskWeighting, scalars: list[float], finite: bool = True):
    """One training step; its scalar and weights."""
    total, weights = layer(torch.tensor(scalars))
    layer.commit(torch.tensor(finite))
    return total.item(), weights.tolist()


def test_static_weights_multiply_the_losses():
    total, weights = StaticWeights(ObjectiveOptions(), [0.25, 0.75], 0.5)(torch.tensor([0.4, 0.8]))
    assert total.item() == pytest.approx(0.25 * 0.4 + 0.75 * 0.8)
    assert weights.tolist() == [0.25, 0.75]


def test_lbtw_weighs_by_the_ratio_to_the_first_loss():
    layer = lbtw()
    total, weights = step(layer, [0.8, 0.5])
    assert weights == [1.0, 1.0] and total == pytest.approx(1.3)
    total, weights = step(layer, [0.2, 0.5])
    assert weights == pytest.approx([0.5, 1.0]) and total == pytest.approx(0.6)


def test_lbtw_weights_are_not_normalised():
    layer = lbtw(alpha=1.0)
    step(layer, [0.5, 0.5])
    assert step(layer, [1.0, 1.0]) == (4.0, [2.0, 2.0])


def test_no_gradient_flows_through_lbtw_weights():
    layer = lbtw()
    step(layer, [0.8, 0.5])
    scalars = torch.tensor([0.2, 0.5], requires_grad=True)
    layer(scalars)[0].backward()
    torch.testing.assert_close(scalars.grad, torch.tensor([0.5, 1.0]))


def test_a_first_loss_counts_as_at_least_1e_3():
    layer = lbtw()
    step(layer, [1e-9, 0.5])
    step(layer, [0.9, 0.5])
    assert step(layer, [4e-3, 0.5])[1] == pytest.approx([2.0, 1.0])


def test_the_first_loss_is_that_of_the_current_epoch():
    layer = lbtw(alpha=1.0)
    step(layer, [0.8, 0.5])
    layer.start_epoch(2)
    assert step(layer, [0.4, 0.4])[1] == [1.0, 1.0]
    assert step(layer, [0.2, 0.4])[1] == [0.5, 1.0]


def test_a_step_that_is_not_finite_leaves_no_first_loss():
    layer = lbtw(alpha=1.0)
    step(layer, [float("nan"), 0.5], finite=False)
    assert step(layer, [0.8, 0.5])[1] == [1.0, 1.0]
    assert layer.first.tolist() == pytest.approx([0.8, 0.5])


def test_alpha_0_is_plain_summation():
    layer = lbtw(alpha=0.0)
    step(layer, [0.8, 0.5])
    assert step(layer, [0.1, 0.2])[1] == [1.0, 1.0]


@given(st.lists(st.floats(0.125, 8, width=32), min_size=2, max_size=2), st.integers(1, 3))
def test_lbtw_resumes_in_mid_epoch(first, calls):
    whole, resumed = lbtw(), lbtw()
    step(whole, first)
    for call in range(calls):
        losses = [value * (0.5 + call) for value in first]
        expected = step(whole, losses)
    resumed.load_state_dict(whole.state_dict())
    assert step(resumed, losses) == expected
