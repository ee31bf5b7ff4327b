"""CVaR, LISA and DPE against second implementations, written from the equations alone."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import softplus

from src.methods.dpe import DPE_STREAM, fit_task
from src.methods.mixup import Lisa
from src.methods.options import DpeOptions, LisaOptions
from src.models.prototypes import PrototypeEnsemble, standardise_rows
from src.objective.logits import LogitLayout
from src.sampling.draws import MIX_STREAM
from src.sampling.epochs import IndexPlan
from tests.objective.build import make_objective, make_tables, step

STEPS = 20


def bce(logits, labels):
    return softplus((1 - 2 * labels) * logits)


def descend(weights, loss, lr=0.3):
    (gradient,) = torch.autograd.grad(loss, weights)
    return (weights - lr * gradient).detach().requires_grad_()


def test_cvar_equals_a_naive_implementation():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 4, generator=generator)
    labels = torch.randint(0, 2, (30, 2), generator=generator)
    tables = make_tables(labels.tolist())
    objective = make_objective(tables, task="cvar", cvar={"alpha": 0.25})
    start = torch.randn(4, 2, generator=generator)
    ours, naive = start.clone().requires_grad_(), start.clone().requires_grad_()
    for _ in range(STEPS):
        rows = torch.randperm(30, generator=generator)[:10]
        ours = descend(ours, step(objective, tables.batch(x[rows] @ ours, rows)))
        total = 0.0
        for task in range(2):
            losses = bce(x[rows] @ naive[:, task], labels[rows, task])
            worst = sorted(losses, reverse=True, key=lambda loss: float(loss.detach()))
            # alpha m = 2.5: the two largest weigh 1/2.5, the next one what is missing to 1
            total = total + (worst[0] + worst[1]) / 2.5 + (1 - 2 / 2.5) * worst[2]
        naive = descend(naive, total)
    torch.testing.assert_close(ours, naive, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(ours, start)


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_lisa_equals_a_naive_implementation(mix):
    generator = torch.Generator().manual_seed(1)
    groups = torch.arange(40) % 4
    images, labels = torch.randn(40, 3, 4, 5, generator=generator), groups // 2
    tables = make_tables(labels[:, None].tolist(), groups[:, None].tolist())
    method = Lisa(LisaOptions(mix=mix, alpha=2.0), tables, 8, (4, 5))
    objective = make_objective(tables)
    batches = method.schedule(IndexPlan(np.arange(40)), 7).batches(7, 1, 8)
    start = torch.randn(60, generator=generator)
    ours, naive = start.clone().requires_grad_(), start.clone().requires_grad_()
    for number in range(STEPS):
        rows = torch.from_numpy(batches[number % len(batches)])
        method.draw(7, number, len(rows))
        network = lambda batch, w=ours: (batch.flatten(1) @ w)[:, None]  # noqa: E731
        total, _ = method.loss(network, objective, images[rows], rows)
        ours = descend(ours, total, 0.05)

        half = len(rows) // 2
        same_label = set()
        rng = np.random.default_rng([7, MIX_STREAM, number])
        if mix == "mixup":
            shares = rng.beta(2.0, 2.0, half)
        else:
            side = math.sqrt(1 - rng.beta(2.0, 2.0))
            box = []
            for length in (4, 5):
                half_side, centre = int(length * side) // 2, int(rng.integers(length))
                box.append((max(centre - half_side, 0), min(centre + half_side, length)))
        loss = 0.0
        for pair in range(half):
            first, second = int(rows[pair]), int(rows[half + pair])
            y, a, other_y, other_a = (
                *divmod(int(groups[first]), 2),
                *divmod(int(groups[second]), 2),
            )
            assert (y == other_y) != (a == other_a)
            same_label.add(y == other_y)
            if mix == "mixup":
                share = shares[pair]
                mixed = share * images[first] + (1 - share) * images[second]
            else:
                mixed, area = images[first].clone(), 0
                for row in range(*box[0]):
                    for column in range(*box[1]):
                        mixed[:, row, column], area = images[second][:, row, column], area + 1
                share = 1 - area / 20
            logit = mixed.flatten() @ naive
            loss = loss + share * bce(logit, y) + (1 - share) * bce(logit, other_y)
        assert len(same_label) == 1  # a step has pairs of one kind
        naive = descend(naive, loss / half, 0.05)
    torch.testing.assert_close(ours, naive, atol=1e-5, rtol=1e-4)


class Rows:
    """What `fit_task` reads of `HeadData`."""

    seed = 3

    def __init__(self, labels, groups):
        self.layout = LogitLayout([2])
        self._labels, self._groups = labels[:, None], groups[:, None]

    def labels(self, split):
        return self._labels

    def groups(self, split):
        return self._groups

    def worst_group(self, logits, task, rows):
        right = np.asarray(logits).argmax(1) == self._labels[rows, 0]
        own = self._groups[rows, 0]
        return min(right[own == group].mean() for group in set(own.tolist()))


def test_dpe_equals_a_naive_implementation():
    rng = np.random.default_rng(2)
    groups = rng.integers(0, 4, 54)
    labels = groups // 2
    z = torch.from_numpy((rng.normal(size=(54, 5)) + labels[:, None]).astype(np.float32))
    x = standardise_rows(z)
    fit, select = np.arange(36), np.arange(36, 54)
    options = DpeOptions(members=3, balance="group", entropic_scale=4.0, diversity=20.0)
    ensemble = PrototypeEnsemble([2], 3, 5)
    data = Rows(labels, groups)
    fit_task(data, 0, options, x, (fit, select), ensemble)

    deviation = ((z - z.mean(1, keepdim=True)) ** 2).mean(1, keepdim=True).sqrt()
    naive_x = (z - z.mean(1, keepdim=True)) / deviation
    draws = np.random.default_rng([3, DPE_STREAM, 0])
    size = min((groups[fit] == group).sum() for group in range(4))
    earlier = []
    for member in range(3):
        subset = np.concatenate(
            [draws.permutation(np.flatnonzero(groups[fit] == group))[:size] for group in range(4)]
        )
        p = torch.from_numpy(draws.normal(0, 0.01, (2, 5)).astype(np.float32)).requires_grad_()
        a = torch.ones((), requires_grad=True)
        speed, best, kept = [torch.zeros(2, 5), torch.zeros(())], -1.0, None
        for _ in range(20):  # fewer rows than a batch: a step each
            rows = draws.permutation(subset)
            loss = 0.0
            for row in rows:
                scores = [4 * score(naive_x[row], p[k], a) for k in (0, 1)]
                loss = loss + softplus(scores[1 - labels[row]] - scores[labels[row]]) / len(rows)
            loss = loss + 10 * sum((p[k] ** 2).sum() for k in (0, 1)) / 2
            if earlier:
                s = len(earlier) + 1
                terms = [sum(p[k] @ q[k] for q in earlier) / (4 * s) for k in (0, 1)]
                loss = loss + 20 / (1 + 0.1 * (s - 2)) * abs(sum(terms) / 2)
            gradients = torch.autograd.grad(loss, [p, a])
            speed = [0.9 * v + g for v, g in zip(speed, gradients)]
            p = (p - 1e-3 * speed[0]).detach().requires_grad_()
            a = (a - 1e-3 * speed[1]).detach().requires_grad_()
            with torch.no_grad():
                guesses = [[score(naive_x[row], p[k], a) for k in (0, 1)] for row in select]
            worst = data.worst_group(np.array(guesses), 0, select)
            if worst >= best:
                best, kept = worst, (p.detach(), a.detach())
        earlier.append(kept[0])
        ours = ensemble.prototypes[0, member], ensemble.scale[0, member]
        torch.testing.assert_close(ours, kept, atol=1e-5, rtol=1e-3)


def score(row, prototype, scale):
    """Return minus the distance of the directions, times |scale|."""
    difference = row / row.norm() - prototype / prototype.norm()
    return -abs(scale) * difference.norm()
