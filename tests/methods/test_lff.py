"""LfF against a naive implementation written from its equations."""

import torch

from src.methods.lff import LfF
from src.methods.options import LffOptions
from tests.objective.build import make_objective, make_tables


def naive_step(state, biased, debiased, labels, rows):
    """Losses of one task by the equations; `state` holds E of both networks, None if unseen."""
    losses = [torch.nn.functional.softplus((1 - 2 * labels[rows]) * f) for f in (biased, debiased)]
    relative = []
    for means, loss in zip(state, losses):
        for place, row in enumerate(rows.tolist()):
            value = float(loss[place].detach())
            means[row] = value if means[row] is None else 0.7 * means[row] + 0.3 * value
        largest = [
            max((m for m, y in zip(means, labels.tolist()) if m is not None and y == k), default=0)
            for k in (0, 1)
        ]
        relative.append([means[row] / largest[int(labels[row])] for row in rows.tolist()])
    weights = [b / (b + d + 1e-8) for b, d in zip(*relative)]
    p = torch.exp(-losses[0].detach())
    generalised = (0.7 * p**0.7 * losses[0]).mean()
    return generalised + (torch.tensor(weights) * losses[1]).mean()


def test_20_steps_equal_a_naive_implementation():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=generator)
    labels = torch.randint(0, 2, (40,), generator=generator)
    tables = make_tables(labels[:, None].tolist())
    method, objective = LfF(LffOptions(), tables, 10, (1, 1)), make_objective(tables)
    start = torch.randn(2, 3, generator=generator)  # debiased, biased
    ours, naive = start.clone().requires_grad_(), start.clone().requires_grad_()
    state = [[None] * 40, [None] * 40]
    for _ in range(20):
        rows = torch.randperm(40, generator=generator)[:10]
        logits = (x[rows] @ ours.T).T[..., None]  # (2, B, 1)
        total, _ = method.loss(lambda _, logits=logits: logits, objective, x[rows], rows)
        (gradient,) = torch.autograd.grad(total, ours)
        method.commit(torch.tensor(True))
        ours = (ours - 0.3 * gradient).detach().requires_grad_()

        expected = naive_step(state, x[rows] @ naive[1], x[rows] @ naive[0], labels, rows)
        torch.testing.assert_close(total, expected, atol=1e-5, rtol=1e-5)
        (gradient,) = torch.autograd.grad(expected, naive)
        naive = (naive - 0.3 * gradient).detach().requires_grad_()
    torch.testing.assert_close(ours, naive, atol=1e-4, rtol=1e-4)


def test_a_step_that_is_not_finite_leaves_the_means():
    tables = make_tables([[0], [1]])
    method, objective = LfF(LffOptions(), tables, 2, (1, 1)), make_objective(tables)
    logits = torch.tensor([[[float("nan")], [1.0]], [[1.0], [2.0]]])
    method.loss(lambda batch: logits, objective, torch.zeros(2), torch.arange(2))
    method.commit(torch.tensor(False))
    assert not method.seen.any() and (method.biased_losses == 0).all()
