"""Weights of tasks from Gramians: worked numbers, TorchJD's weightings, and properties."""

from contextlib import suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.objective.solvers import aligned_mtl, cagrad, imtl_g, mgda, pcgrad, upgrad

G = torch.tensor([[2, -1, 0.5], [-1, 1, 0.2], [0.5, 0.2, 3]], dtype=torch.float64)
ORDERS = torch.arange(3).expand(3, 3)
SOLVERS = {
    "upgrad": upgrad,
    "pcgrad": lambda g, present: pcgrad(g, present, torch.arange(len(g)).expand(len(g), len(g))),
    "mgda": mgda,
    "cagrad": lambda g, present: cagrad(g, present, 0.5),
    "imtl_g": imtl_g,
    "aligned_mtl": aligned_mtl,
}
WORKED = {
    "upgrad": [0.5, 0.6665, 0.3333],
    "pcgrad": [1.5, 2, 1],
    "mgda": [0.3912, 0.5869, 0.0219],
    "cagrad": [0.5466, 0.8699, 0.3333],
    "imtl_g": [0.4191, 0.5918, -0.0109],
    "aligned_mtl": [0.2491, 0.3348, 0.0607],
}


def solve(name: str, gramian: torch.Tensor, present=None) -> torch.Tensor:
    present = torch.ones(len(gramian), dtype=torch.bool) if present is None else present
    return SOLVERS[name](gramian, present)


def random_gramian(seed: int, tasks: int, rank: int, spread: float = 0.0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    rows = torch.randn(tasks, rank, generator=rng, dtype=torch.float64)
    rows *= 10 ** torch.linspace(-spread, spread, tasks, dtype=torch.float64)[:, None]
    return rows @ rows.T


@pytest.mark.parametrize("name", WORKED)
def test_worked_weights(name):
    assert solve(name, G).tolist() == pytest.approx(WORKED[name], abs=5e-5)


@pytest.mark.parametrize("name", SOLVERS)
def test_orthogonal_gradients_of_equal_size_weigh_the_same(name):
    weights = solve(name, torch.eye(4, dtype=torch.float64))
    expected = {"pcgrad": 1.0, "cagrad": 0.25 * 1.5}.get(name, 0.25)
    assert weights.tolist() == pytest.approx([expected] * 4, abs=1e-6)


@pytest.mark.parametrize("name", SOLVERS)
def test_an_absent_task_changes_nothing(name):
    larger = torch.zeros(4, 4, dtype=torch.float64)
    kept = torch.tensor([0, 1, 3])
    larger[kept[:, None], kept] = G
    weights = solve(name, larger, torch.tensor([True, True, False, True]))
    assert weights[2] == 0
    assert weights[kept].tolist() == pytest.approx(WORKED[name], abs=5e-5)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_gramian_of_zeros_gives_finite_weights(name):
    zeros = torch.zeros(3, 3, dtype=torch.float64)
    assert torch.isfinite(solve(name, zeros, torch.zeros(3, dtype=torch.bool))).all()


@pytest.mark.parametrize("rank", ["full", "low"])
@pytest.mark.parametrize("tasks", [2, 3, 4, 10])
def test_solvers_agree_with_torchjd(tasks, rank):
    aggregation = pytest.importorskip("torchjd.aggregation")
    references = {
        "mgda": aggregation.MGDAWeighting(epsilon=1e-9),
        "imtl_g": aggregation.IMTLGWeighting(),
        "aligned_mtl": aggregation.AlignedMTLWeighting(),
    }
    with suppress(ImportError):  # its extra may be missing
        references["upgrad"] = aggregation.UPGradWeighting()
    for seed in range(8):
        gramian = random_gramian(seed, tasks, 20 if rank == "full" else max(1, tasks - 1))
        for name, reference in references.items():
            expected = reference(gramian).tolist()
            assert solve(name, gramian).tolist() == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("tasks", [2, 4, 10])
def test_upgrad_agrees_with_torchjd_on_gradients_of_other_sizes(tasks):
    pytest.importorskip("quadprog")
    reference = pytest.importorskip("torchjd.aggregation").UPGradWeighting()
    for seed in range(8):
        gramian = random_gramian(seed, tasks, 20, spread=1.5)
        expected = reference(gramian).tolist()
        assert solve("upgrad", gramian).tolist() == pytest.approx(expected, rel=1e-4, abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_upgrad_increases_no_loss_of_quadratics(seed, tasks):
    rng = torch.Generator().manual_seed(seed)
    targets = torch.randn(tasks, 8, generator=rng, dtype=torch.float64)
    point = torch.randn(8, generator=rng, dtype=torch.float64)

    def losses(x: torch.Tensor) -> torch.Tensor:
        return ((x - targets) ** 2).sum(1) / 2

    gradients = point - targets  # (T, 8)
    weights = solve("upgrad", gradients @ gradients.T)
    step = 1e-4 * weights @ gradients
    # The regularisation of 1e-4 allows a rise of that order, far below the fall of the mean.
    rise = losses(point - step) - losses(point)
    assert rise.mean() < 0 and rise.max() <= 1e-3 * rise.mean().abs() + 1e-8


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_the_step_of_mgda_lowers_all_losses_or_is_0(seed, tasks):
    gramian = random_gramian(seed, tasks, 8)
    weights = solve("mgda", gramian)
    assert weights.sum().item() == pytest.approx(1) and (weights >= 0).all()
    progress = gramian @ weights  # by each task's gradient
    norm = weights @ gramian @ weights
    assert (progress >= norm - 2e-2 * gramian.trace()).all()
