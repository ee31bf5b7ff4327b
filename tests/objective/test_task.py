"""CVaR and chi-square DRO over examples and groups, IRM and V-REx, by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.objective.groups import CVaRGroups
from src.objective.options import (
    Chi2Options,
    CVaRGroupsOptions,
    CVaROptions,
    IRMOptions,
    ObjectiveOptions,
    RExOptions,
)
from src.objective.penalties import IRM, REx
from src.objective.task import TASK_LAYERS, Chi2
from tests.objective.build import make_tables, whole_batch
from tests.objective.test_groups import COUNTS, LOSSES, step, tables_of


def scalar(name: str, losses: list[float], labels=None, **options) -> float:
    """The scalar of one task whose examples have these losses."""
    tables = make_tables([[0]] * len(losses) if labels is None else labels)
    layer = TASK_LAYERS[name](ObjectiveOptions(**options), tables)
    batch = whole_batch(tables, torch.zeros(len(losses), 1))
    return layer(torch.tensor(losses)[:, None], None, batch).item()


def test_cvar_is_the_mean_of_the_largest_share():
    # k = floor(0.4 * 4) = 1: p = (0, 0, 0.375, 0.625).
    assert scalar("cvar", [1, 2, 3, 4.0], cvar=CVaROptions(alpha=0.4)) == pytest.approx(3.625)
    assert scalar("cvar", [1, 2, 3, 4.0], cvar=CVaROptions(alpha=0.5)) == pytest.approx(3.5)
    assert scalar("cvar", [1, 2, 3, 4.0], cvar=CVaROptions(alpha=1.0)) == pytest.approx(2.5)
    assert scalar("cvar", [1, 2, 3, 4.0], cvar=CVaROptions(alpha=0.01)) == pytest.approx(4.0)


def test_cvar_over_examples_ranks_their_sums_over_tasks():
    tables = make_tables([[0, 0]] * 3)
    layer = TASK_LAYERS["cvar"](
        ObjectiveOptions(cvar=CVaROptions(alpha=1 / 3, unit="example")), tables
    )
    losses = torch.tensor([[5.0, 0.0], [3.0, 3.0], [0.0, 5.5]])
    batch = whole_batch(tables, torch.zeros(3, 2))
    assert layer(losses, None, batch).tolist() == pytest.approx([3.0, 3.0])


def test_chi2_weighs_by_the_excess_over_eta():
    tables = make_tables([[0]] * 4)
    layer = Chi2(ObjectiveOptions(chi2=Chi2Options(rho=0.5)), tables)
    losses = torch.tensor([[1.0], [2.0], [3.0], [4.0]], dtype=torch.float64)
    p = layer.worst_weights(losses, torch.ones(4, 1, dtype=torch.bool))[:, 0]
    assert p.tolist() == pytest.approx([0, 0.044658, 0.333333, 0.622008], abs=1e-6)
    assert scalar("chi2", [1, 2, 3, 4.0]) == pytest.approx(3.577350, abs=1e-5)


def test_chi2_of_equal_or_few_losses_is_uniform_over_the_largest():
    assert scalar("chi2", [2.0] * 8) == pytest.approx(2.0)
    assert scalar("chi2", [1.0, 3.0], chi2=Chi2Options(rho=0.5)) == pytest.approx(3.0)


@given(st.lists(st.floats(0.01, 5), min_size=5, max_size=20), st.floats(0.05, 0.9))
def test_chi2_lies_between_the_mean_and_the_maximum(losses, rho):
    found = scalar("chi2", losses, chi2=Chi2Options(rho=rho))
    assert sum(losses) / len(losses) - 1e-4 <= found <= max(losses) + 1e-4


@pytest.mark.parametrize("name", ["mean", "cvar", "chi2"])
def test_unlabelled_examples_do_not_count(name):
    labels = [[0], [1], [-1], [0], [1], [-1], [0]]
    losses = [0.2, 1.0, 50.0, 0.5, 2.0, 60.0, 0.7]
    known = [loss for loss, (label,) in zip(losses, labels) if label >= 0]
    assert scalar(name, losses, labels) == pytest.approx(scalar(name, known), rel=1e-5)


def test_cvar_over_groups_takes_the_worst_until_alpha_is_full():
    options = ObjectiveOptions(cvar_groups=CVaRGroupsOptions(alpha=0.2))
    layer = CVaRGroups(options, tables_of(COUNTS))
    # Order 3, 2, 1: weights 0.042606, 0.702832 and the rest, 0.254562.
    assert step(layer, LOSSES) == pytest.approx([0.608737], abs=1e-6)
    # Ranks are running means: 0.9 * 2 + 0.1 * 0 keeps group 3 the worst one.
    low = step(layer, [0.2, 0.4, 0.6, 0.0])
    assert low == pytest.approx([0.702832 * 0.6 + 0.254562 * 0.4], abs=1e-6)


# Rows of environments 0 and 1 (men); labels as in the worked numbers.
F, Y = torch.tensor([[2.0], [-1.0], [0.5]]), [1, 1, 0]


def test_irm_of_two_equal_halves_is_the_squared_slope():
    """r f = (-0.238406, 0.731059, 0.311230), of mean 0.267961; its square is 0.071803."""
    labels = [[y] for y in Y for _ in range(2)]
    tables = make_tables(labels, groups=[[2 * y] for (y,) in labels])
    batch = whole_batch(tables, F.repeat_interleave(2, 0))
    layer = IRM(ObjectiveOptions(penalty="irm", irm=IRMOptions(anneal_steps=1)), tables)
    assert layer(torch.zeros(6, 1), batch).item() == pytest.approx(0.071803, abs=1e-6)
    layer.commit(torch.tensor(True))
    assert layer(torch.zeros(6, 1), batch).item() == pytest.approx(7.1803, abs=1e-4)


def test_irm_leaves_out_an_environment_of_one_row():
    labels = [[y] for y in Y for _ in range(2)] + [[1]]
    groups = [[2 * y] for (y,) in labels[:-1]] + [[3]]
    tables = make_tables(labels, groups=groups)
    batch = whole_batch(tables, torch.cat([F.repeat_interleave(2, 0), torch.tensor([[7.0]])]))
    layer = IRM(ObjectiveOptions(penalty="irm"), tables)
    assert layer(torch.zeros(7, 1), batch).item() == pytest.approx(0.071803, abs=1e-6)


def test_irm_equals_the_gradient_of_a_dummy_scale():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (12, 1), generator=generator)
    tables = make_tables(labels.tolist(), groups=(2 * labels).tolist())
    logits = torch.randn(12, 1, generator=generator)
    layer = IRM(ObjectiveOptions(penalty="irm"), tables)
    slopes = []
    for rows in (slice(0, None, 2), slice(1, None, 2)):
        scale = torch.tensor(1.0, requires_grad=True)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            scale * logits[rows], labels[rows].float()
        )
        slopes.append(torch.autograd.grad(loss, scale)[0])
    found = layer(torch.zeros(12, 1), whole_batch(tables, logits))
    torch.testing.assert_close(found, slopes[0] * slopes[1])


def test_rex_is_the_variance_of_the_environments_losses():
    # Means 0.5 and 1.5: mean 1, variance 0.25, times 10.
    tables = make_tables([[0], [1], [0]], groups=[[0], [2], [1]])
    layer = REx(ObjectiveOptions(penalty="rex", rex=RExOptions(anneal_steps=0)), tables)
    losses = torch.tensor([[0.2], [0.8], [1.5]])
    assert layer(losses, whole_batch(tables, torch.zeros(3, 1))).item() == pytest.approx(2.5)
