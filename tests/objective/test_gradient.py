"""The Gramian of the tasks' gradients, and the step that follows."""

import math

import pytest
import torch
from torch import nn

from src.models.build import CosineHead
from src.objective.groups import group_means
from src.objective.options import SOLVERS, CAGradOptions, GramianOptions, SolverOptions
from tests.objective.build import make_objective, make_tables, whole_batch

LABELS = [[1, 0], [0, 0], [1, 1], [0, 1], [1, 0]]
GROUPS = [[2, 1], [0, 0], [3, 2], [1, 3], [3, 0]]


class Net(nn.Module):
    """Features (B, D) through a layer of shape (D, D), the identity, to the head."""

    def __init__(self, columns: int = 2, head: type[nn.Linear] = nn.Linear):
        super().__init__()
        torch.manual_seed(0)
        self.inputs = torch.randn(5, 3)
        self.adapter = nn.Parameter(torch.eye(3))
        self.head = head(3, columns)

    def forward(self) -> torch.Tensor:
        return self.head(self.inputs @ self.adapter.T)


def make(tables, net: Net, name: str = "upgrad", **options):
    options = {"gramian": "adapter"} | options
    kind = {"pcgrad": GramianOptions, "cagrad": CAGradOptions}.get(name, SolverOptions)
    more = {key: options.pop(key) for key in ("task", "example", "across") if key in options}
    objective = make_objective(tables, gradient=name, **{name: kind(**options)}, **more)
    objective.gradient.watch(net)
    net()  # notes the features
    objective.draw(0, 0)
    return objective


def gramian(objective, tables, logits) -> torch.Tensor:
    """What the layer computes for the whole batch, flattened to two dimensions."""
    batch = whole_batch(tables, logits)
    seen = []
    objective.gradient.solve = lambda g, present: seen.append(g) or torch.ones(len(g)).double()
    objective(batch)
    return seen[0].float()


def check(objective, tables, logits, scalars, leaf) -> None:
    """Compare the layer's Gramian with that of the scalars' gradients by a leaf."""
    rows = [torch.autograd.grad(s, leaf, retain_graph=True)[0].flatten() for s in scalars]
    expected = torch.stack(rows) @ torch.stack(rows).T
    found = gramian(objective, tables, logits)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def mean_losses(tables, logits) -> torch.Tensor:
    return make_objective(tables)._losses(whole_batch(tables, logits))[0].mean(0)


@pytest.mark.parametrize("task", ["mean", "dro", "worst", "cvar"])
def test_the_adapter_gramian_is_that_of_autograd(task):
    tables, net = make_tables(LABELS, GROUPS), Net()
    logits, plain = net(), make_objective(tables, task=task)
    batch = whole_batch(tables, logits)
    scalars = plain.task(*plain._losses(batch), batch)
    check(make(tables, net, task=task), tables, logits, scalars, net.adapter)


@pytest.mark.parametrize("chosen", ["features", None])
def test_the_gramian_of_features_is_that_of_autograd(chosen):
    tables, net = make_tables(LABELS, GROUPS), Net()
    features = net.inputs.clone().requires_grad_()
    logits = net.head(features)
    objective = make(tables, net, gramian=chosen)
    check(objective, tables, logits, mean_losses(tables, logits), features)


def test_tasks_of_several_classes_have_one_row_each():
    tables = make_tables([[1, 0], [2, 0], [0, 1], [2, 1], [1, 1]], classes=(3, 2))
    net = Net(columns=4)
    logits = net()
    check(make(tables, net), tables, logits, mean_losses(tables, logits), net.adapter)


def test_cells_have_a_row_for_each_group_of_each_task():
    tables, net = make_tables(LABELS, GROUPS), Net()
    logits = net()
    losses = make_objective(tables)._losses(whole_batch(tables, logits))[0]
    means, _ = group_means(losses, None, torch.tensor(GROUPS), 4)
    objective = make(tables, net, cells=True, task="group_mean", gramian=None)
    check(objective, tables, logits, means.flatten() / 4, net.adapter)  # all four are present


def test_a_cosine_head_sees_normalised_features():
    tables, net = make_tables(LABELS, GROUPS), Net(head=CosineHead)
    net.inputs = nn.functional.normalize(net.inputs)
    objective = make(tables, net)
    # A layer behind the normalisation: logits are inner products with normalised rows.
    logits = net.inputs @ net.adapter.T @ nn.functional.normalize(net.head.weight).T
    objective.gradient.seen = (net.head, net.inputs)
    check(objective, tables, logits, mean_losses(tables, logits), net.adapter)


@pytest.mark.parametrize("cells", [False, True])
@pytest.mark.parametrize("name", SOLVERS)
def test_the_backward_pass_is_the_weighted_one(name, cells):
    tables, net = make_tables(LABELS, GROUPS), Net()
    logits = net()
    total, logged = make(tables, net, name, cells=cells)(whole_batch(tables, logits))
    plain, _ = make_objective(tables)(whole_batch(tables, logits))
    assert total.item() == pytest.approx(plain.item())
    if not cells:
        weighted = (logged[2:4] * mean_losses(tables, logits)).sum()
        expected = torch.autograd.grad(weighted, net.adapter, retain_graph=True)
        torch.testing.assert_close(torch.autograd.grad(total, net.adapter), expected)


@pytest.mark.parametrize("name", SOLVERS)
def test_tasks_without_conflict_or_alone_keep_weight_1(name):
    tables, net = make_tables([row[:1] for row in LABELS]), Net(columns=1)
    _, logged = make(tables, net, name)(whole_batch(tables, net()))
    expected = 1.5 if name == "cagrad" else 1  # CAGrad adds c of the gradient itself
    assert logged[1].item() == pytest.approx(expected, abs=1e-3)


def test_static_weights_scale_the_rows_first():
    tables, net = make_tables(LABELS, GROUPS), Net()
    logits = net()
    objective = make(tables, net)
    objective.across.weights.copy_(torch.tensor([1.0, 3.0]))
    scaled = gramian(objective, tables, logits)
    plain = gramian(make(tables, net), tables, logits)
    torch.testing.assert_close(scaled, plain * torch.tensor([[1.0, 3.0], [3.0, 9.0]]))


def test_a_task_without_labels_gets_weight_0():
    tables, net = make_tables([[1, -1], [0, -1], [1, -1], [0, -1], [1, -1]]), Net()
    total, logged = make(tables, net)(whole_batch(tables, net()))
    assert logged[2:4].tolist() == pytest.approx([1, 0]) and math.isfinite(total.item())


@pytest.mark.parametrize("name", SOLVERS)
def test_nan_reaches_the_total_and_no_solver(name):
    tables, net = make_tables(LABELS, GROUPS), Net()
    total, _ = make(tables, net, name)(whole_batch(tables, net() * math.nan))
    assert math.isnan(total.item())


def test_cosines_and_the_share_of_conflicts_are_logged():
    tables, net = make_tables(LABELS, GROUPS), Net()
    objective = make(tables, net)
    _, logged = objective(whole_batch(tables, net()))
    values = dict(zip(objective.log_names, logged.tolist(), strict=True))
    assert -1 <= values["t1/cosine/t0"] <= 1
    assert values["conflicts"] == float(values["t1/cosine/t0"] < 0)
