"""TorchJD's aggregators on the full Jacobian of a tiny network."""

import pytest
import torch
from torch import nn

from src.io import UserError
from src.models.build import Network
from src.objective import jacobian
from src.objective.options import TorchJDOptions
from tests.objective.build import make_objective, make_tables, whole_batch

pytest.importorskip("torchjd")
TABLES = make_tables([[1, 0], [0, 0], [1, 1], [0, 1], [1, 0]])


def make_network() -> tuple[Network, torch.Tensor]:
    torch.manual_seed(0)
    network = Network(nn.Sequential(nn.Linear(3, 4), nn.Tanh()), nn.Linear(4, 2))
    return network, network(torch.randn(5, 3))


def gradients(network: Network, logits: torch.Tensor, **options) -> list[torch.Tensor]:
    """The gradients of all weights after the backward pass."""
    objective = make_objective(TABLES, **options)
    if objective.gradient is not None:
        objective.gradient.watch(network)
    total, _ = objective(whole_batch(TABLES, logits))
    return list(torch.autograd.grad(total, list(network.parameters()), retain_graph=True))


@pytest.mark.parametrize(("aggregator", "rescale"), [("Sum", True), ("Mean", True)])
def test_sum_and_the_rescaled_mean_are_plain_descent(aggregator, rescale):
    network, logits = make_network()
    chosen = TorchJDOptions(aggregator=aggregator, rescale=rescale)
    found = gradients(network, logits, gradient="torchjd", torchjd=chosen)
    for one, other in zip(found, gradients(network, logits)):
        torch.testing.assert_close(one, other)


def test_the_backbone_gets_the_aggregated_and_the_head_the_plain_gradient():
    network, logits = make_network()
    chosen = TorchJDOptions(aggregator="MGDA", rescale=False)
    found = gradients(network, logits, gradient="torchjd", torchjd=chosen)
    losses = make_objective(TABLES)._losses(whole_batch(TABLES, logits))[0].mean(0)
    shared = list(network.backbone.parameters())
    rows = torch.stack(
        [
            torch.cat([g.flatten() for g in torch.autograd.grad(s, shared, retain_graph=True)])
            for s in losses
        ]
    )
    expected = jacobian.make_aggregator(chosen, 2)(rows)
    torch.testing.assert_close(torch.cat([g.flatten() for g in found[:2]]), expected)
    for one, other in zip(found[2:], gradients(network, logits)[2:]):
        torch.testing.assert_close(one, other)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchjd", None)
    with pytest.raises(UserError, match=r"torchjd\[quadprog_projector\]>=0.18"):
        jacobian.make_aggregator(TorchJDOptions(), 2)


def test_nan_reaches_no_aggregator():
    network, logits = make_network()
    chosen = TorchJDOptions(aggregator="MGDA")
    found = gradients(network, logits * torch.nan, gradient="torchjd", torchjd=chosen)
    assert not torch.isfinite(found[0]).all()


def test_the_order_of_pcgrad_depends_on_seed_and_step_only():
    rows = torch.tensor([[1.0, 0.0], [-0.9, 0.1], [0.2, -1.0]])
    tables = make_tables([[1, 0, 1], [0, 1, 0]])
    chosen = TorchJDOptions(aggregator="PCGrad")
    layer = make_objective(tables, gradient="torchjd", torchjd=chosen).gradient
    found = []
    for step in (3, 3, *range(4, 20)):
        torch.rand(step)  # other draws change nothing
        layer.draw(0, step)
        found.append(layer.combine(rows))
    assert torch.equal(found[0], found[1]) and len(torch.stack(found).unique(dim=0)) > 1


def test_a_trimmed_mean_keeps_the_rows_of_absent_tasks():
    tables = make_tables([[1, 0, 1], [0, 1, 0]])
    chosen = TorchJDOptions(aggregator="TrimmedMean", rescale=False)
    layer = make_objective(tables, gradient="torchjd", torchjd=chosen).gradient
    rows = torch.tensor([[1.0, 3.0], [0.0, 0.0], [2.0, -1.0]])
    assert layer.combine(rows).tolist() == [1.0, 0.0]  # the medians
