"""Last-layer methods: worked numbers, and naive second implementations."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from src.methods.afr import example_weights, fit_task
from src.methods.crt import fit_task as fit_crt
from src.methods.dfr import average, balanced, regress
from src.methods.dpe import member_loss
from src.methods.heads import linear_head
from src.methods.options import AfrOptions, CrtOptions, DfrOptions, DpeOptions
from src.methods.self_disagreement import disagreement
from src.models.prototypes import PrototypeEnsemble, score, standardise_rows
from src.objective.logits import LogitLayout
from tests.tiny_training import settings as tiny_settings

ROWS = torch.tensor([[1.0, 2, 3, 6], [2, 0, 1, 1]])
PROTOTYPES = torch.tensor([[0.1, 0, 0, 0.2], [0, 0.1, 0.1, 0]])
EARLIER = [
    torch.tensor([[0.2, 0.1, 0, 0], [0, 0.2, 0, 0]]),
    torch.tensor([[0, 0, 0.1, 0.3], [0.1, 0, 0, 0.1]]),
]


def near(value, digits=4):
    return pytest.approx(value, abs=10**-digits)


def test_afr_weights_by_hand():
    p, y = torch.tensor([0.9, 0.6, 0.2]), torch.tensor([0, 0, 1])
    mu = example_weights(p, y, torch.tensor([1.44, 0.0]))
    assert mu[0].tolist() == near([0.124679, 0.192048, 0.683272], 6)
    assert mu[1].tolist() == near([0.25, 0.25, 0.5], 6)  # gamma 0: classes alone


def test_dpe_standardises_rows_and_scores_by_hand():
    rows = standardise_rows(ROWS)
    assert rows[0].tolist() == near([-1.0690, -0.5345, 0, 1.6036])
    assert rows[1].tolist() == near([1.4142, -1.4142, 0, 0])
    distances = -score(rows, PROTOTYPES, torch.ones(()))
    assert distances[0].tolist() == near([1.0217, 1.5421])
    assert distances[1].tolist() == near([1.1694, 1.7321])


def test_dpe_loss_by_hand():
    options = DpeOptions(entropic_scale=10.0)
    rows, labels = standardise_rows(ROWS), torch.tensor([0, 1])
    member = (PROTOTYPES, torch.ones(()))
    plain = member_loss(rows, labels, member, [], options)
    assert float(plain) == near((0.005480 + 5.6299) / 2 + 10 * 0.035)
    third = member_loss(rows, labels, member, EARLIER, options)
    assert float(third - plain) == pytest.approx(454545.5 * 0.005556, rel=1e-3)


def test_dpe_predicts_with_the_mean_of_probabilities():
    ensemble = PrototypeEnsemble([2], 1, 4)
    ensemble.prototypes[0, 0] = PROTOTYPES
    assert torch.sigmoid(ensemble(ROWS))[:, 0].tolist() == near([0.3728, 0.3629])
    other = PrototypeEnsemble([2], 1, 4)
    other.prototypes[0, 0] = PROTOTYPES.flip(1)
    both = PrototypeEnsemble([2], 2, 4)
    both.prototypes[0] = torch.cat([ensemble.prototypes[0], other.prototypes[0]])
    mean = (torch.sigmoid(ensemble(ROWS)) + torch.sigmoid(other(ROWS))) / 2
    torch.testing.assert_close(torch.sigmoid(both(ROWS)), mean)


def test_disagreement_is_the_mean_of_kl_over_classes():
    early, final = np.array([0.0, 2.0]), np.array([math.log(3), 2.0])
    expected = 0.5 * (0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75))
    assert disagreement(early, final).tolist() == near([expected, 0.0], 6)
    two = np.stack([np.zeros(2), final], 1)
    same = disagreement(np.zeros((2, 2)), two)
    assert same[0] == near(expected, 6)


def test_two_rows_of_a_binary_task_become_their_difference():
    rows = torch.tensor([[1.0, 2], [4, 0]]), torch.tensor([0.5, 2])
    head = linear_head([rows, (torch.eye(3, 2), torch.zeros(3))])
    assert head.weight.tolist() == [[3, -2], [1, 0], [0, 1], [0, 0]]
    assert head.bias.tolist() == [1.5, 0, 0, 0]


def test_balanced_subsets_have_equal_groups_and_no_unknown_rows():
    groups = np.array([0] * 7 + [1] * 3 + [3] * 5 + [-1] * 4)
    drawn = balanced(groups, np.random.default_rng(0))
    assert np.bincount(groups[drawn]).tolist() == [3, 3, 0, 3] and len(set(drawn)) == 9


def test_averaged_heads_fold_the_standardisation_in():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(3, 2, (50, 4)).astype(np.float32))
    mean, deviation = x.mean(0), x.std(0, correction=0)
    heads = [(rng.normal(size=(1, 4)), rng.normal(size=1)) for _ in range(3)]
    weight, bias = average(heads, mean, deviation)
    scaled = ((x - mean) / deviation).double()
    naive = sum(scaled @ torch.from_numpy(w).T + torch.from_numpy(b) for w, b in heads) / 3
    torch.testing.assert_close((x @ weight.T + bias).double(), naive, rtol=1e-4, atol=1e-4)


def test_dfr_minimises_the_l1_logistic_loss():
    """A second implementation: proximal gradient descent on the same objective."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 5))
    y = (x[:, 0] + 0.3 * rng.normal(size=60) > 0).astype(np.int64)
    weight, bias = regress(x, y, 2, 0.3, DfrOptions(max_iter=1000), 0)
    rows = torch.from_numpy(np.c_[x, np.ones(60)])
    signs, w = torch.from_numpy(2.0 * y - 1), torch.zeros(6, dtype=torch.float64)
    for _ in range(20_000):
        slope = -(signs * torch.sigmoid(-signs * (rows @ w))) @ rows * 0.3
        step = w - 0.02 * slope
        w = step.sign() * (step.abs() - 0.02).clamp(min=0)
    np.testing.assert_allclose(np.append(weight[0], bias[0]), w.numpy(), atol=2e-3)


class OneTask:
    """Features, labels and groups in the place of `HeadData`."""

    def __init__(self, seed: int):
        rng = np.random.default_rng(seed)
        self.x = {s: torch.from_numpy(rng.normal(size=(40, 3))).float() for s in ("train", "val")}
        self.y = {s: rng.integers(0, 2, (40, 1)) for s in ("train", "val")}
        self.start = torch.zeros(2, 3), torch.zeros(2)
        self.start[0][1] = torch.tensor([0.5, -0.2, 0.1])

    def features(self, split):
        return self.x[split]

    def labels(self, split):
        return self.y[split]

    def base_rows(self, task):
        return self.start

    def worst_group(self, logits, task, rows=slice(None)):
        return float((np.asarray(logits).argmax(1) == self.y["val"][rows, task]).mean())


def test_afr_takes_the_steps_of_its_equations():
    """A second implementation by autograd, one setting, 20 steps; the last step is the best."""
    data, rows = OneTask(0), np.arange(40)
    scores = iter([0.1, 0.2])
    data.worst_group = lambda *_: next(scores)
    options = AfrOptions(
        gamma_min=1.5, gamma_max=1.5, num_gammas=1, strengths=[0.1], steps=20, evaluate_every=10
    )
    (weight, bias), setting, step = fit_task(data, 0, rows, options)
    assert setting == (1.5, 0.1) and step == 20
    x, y = data.x["train"], torch.from_numpy(data.y["train"][:, 0])
    w, b = (tensor.clone().requires_grad_() for tensor in data.start)
    p = torch.softmax(x @ data.start[0].T + data.start[1], 1)[torch.arange(40), y]
    mu = torch.exp(-1.5 * p) * 40 / one_hot(y).sum(0)[y]
    mu = mu / mu.sum()
    for _ in range(20):
        losses = torch.nn.functional.cross_entropy(x @ w.T + b, y, reduction="none")
        penalty = ((w - data.start[0]) ** 2).sum() + ((b - data.start[1]) ** 2).sum()
        slopes = torch.autograd.grad((mu * losses).sum() + 0.1 * penalty, [w, b])
        norm = math.sqrt(sum(float((slope**2).sum()) for slope in slopes))
        for tensor, slope in zip((w, b), slopes):
            tensor.data -= 0.02 * slope / max(norm, 1)
    torch.testing.assert_close(weight, w.detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(bias, b.detach(), rtol=1e-4, atol=1e-6)


def head_settings(**changes):
    return tiny_settings(**{"batch_size": 40, "weight_decay": 0.01} | changes)


def test_crt_ends_after_max_steps_and_follows_the_schedule():
    data = OneTask(1)
    data.groups, data.layout, data.seed = data.labels, LogitLayout([2]), 0
    scores = iter(range(100))

    def head(**changes) -> torch.Tensor:
        data.worst_group = lambda *_: next(scores)  # the last epoch is the best
        settings = head_settings(**{"batch_size": 20, "total_epochs": 4} | changes)
        generator = torch.Generator().manual_seed(5)
        (weight, _), epoch = fit_crt(data, 0, CrtOptions(), settings, generator)
        return weight, epoch

    weight, epoch = head(max_steps=3)  # two steps an epoch
    assert epoch == 2 and not torch.equal(weight, head(total_epochs=2)[0])
    assert torch.equal(head(max_steps=4)[0], head(total_epochs=2)[0])
    assert not torch.equal(head(schedule="cosine")[0], head()[0])


def test_reweight_crt_takes_the_steps_of_its_equations():
    """A second implementation with one batch an epoch, 20 steps; the last one is the best."""
    data = OneTask(1)
    groups = np.arange(40) % 5 // 2  # 16, 16 and 8 examples
    scores = iter(np.linspace(0.1, 0.9, 20))
    data.worst_group, data.groups = lambda *_: next(scores), lambda split: groups[:, None]
    data.layout, data.seed = LogitLayout([2]), 0
    settings = head_settings(total_epochs=20)
    options, generator = CrtOptions(kind="reweight"), torch.Generator().manual_seed(5)
    (weight, bias), epoch = fit_crt(data, 0, options, settings, generator)
    assert epoch == 20
    generator, bound = torch.Generator().manual_seed(5), 3**-0.5
    w, b = (torch.empty(s).uniform_(-bound, bound, generator=generator) for s in ((2, 3), (2,)))
    x, y = data.x["train"], torch.from_numpy(data.y["train"][:, 0])
    inverse = torch.tensor([1 / 16, 1 / 16, 1 / 8])
    v = (3 * inverse / inverse.sum())[torch.from_numpy(groups)]
    speed = [torch.zeros(2, 3), torch.zeros(2)]
    for _ in range(20):
        residuals = torch.softmax(x @ w.T + b, 1) - one_hot(y, 2)
        slopes = [(v[:, None] * residuals).T @ x / 40, (v[:, None] * residuals).mean(0)]
        slopes = [slope + 0.01 * tensor for slope, tensor in zip(slopes, (w, b))]
        speed = [0.9 * old + slope for old, slope in zip(speed, slopes)]
        w, b = w - 0.1 * speed[0], b - 0.1 * speed[1]
    torch.testing.assert_close(weight, w, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(bias, b, rtol=1e-4, atol=1e-5)
