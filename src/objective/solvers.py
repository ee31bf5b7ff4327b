"""Weights of tasks from the Gramian of their gradients.

A solver takes a Gramian G (T, T) in float64 with G_ts = g_t . g_s, and which tasks are present (T,)
bool; absent tasks have rows of zeros and get weight 0. It returns weights w (T,), for the update
sum_t w_t g_t. All run a fixed number of operations, so no step waits for the device (`imtl_g` and
`aligned_mtl` need an eigendecomposition, which may wait).

Without conflict `pcgrad` returns weights of 1, all others 1/T.
"""

import torch
from torch import Tensor

SMALL = 1e-12  # a Gramian with a smaller trace counts as 0
# Share of the trace below which an eigenvalue is rounding noise of float32 gradients.
RANK = 1e-7


def normalise(gramian: Tensor) -> Tensor:
    """Divide a Gramian by its trace."""
    return gramian / gramian.diagonal().sum().clamp(min=SMALL)


def uniform(present: Tensor) -> Tensor:
    """Return 1 / number of present tasks, 0 for absent ones; (T,) float64."""
    return present.double() / present.sum().clamp(min=1)


def upgrad(gramian: Tensor, present: Tensor) -> Tensor:
    """UPGrad (Quinton and Rey 2024): project each gradient on the cone of no conflict, and sum.

    Task t solves min v.Gv with v >= e_t / T. A primal-dual active-set iteration solves all tasks at
    once, and sweeps over single coordinates refine it.
    """
    size = len(gramian)
    eye = torch.eye(size, dtype=gramian.dtype, device=gramian.device)
    h = normalise(gramian) + 1e-4 * eye  # TorchJD's regularisation
    low = torch.diag(uniform(present))  # (T, T), a row per task
    bound = torch.ones_like(low, dtype=torch.bool)  # whether v = low
    for _ in range(20):
        system = torch.where(bound[:, :, None], eye, h)  # (T, T, T)
        v = torch.linalg.solve_ex(system, torch.where(bound, low, 0.0))[0]
        slope = torch.where(bound, v @ h, 0.0)
        bound = slope + (low - v) > 0
    v = torch.maximum(v, low)
    for _ in range(10):
        for task in range(size):
            v[:, task] = torch.maximum(low[:, task], v[:, task] - (v @ h[task]) / h[task, task])
    return v.sum(0) * present


def pcgrad(gramian: Tensor, present: Tensor, orders: Tensor) -> Tensor:
    """PCGrad (Yu et al. 2020): remove from each gradient what conflicts with each other one.

    Args:
        orders: (T, T) int64, a permutation of the other tasks for each task.
    """
    size = len(gramian)
    v = torch.diag(present.to(gramian))  # (T, T), a row per task
    rows = torch.arange(size, device=gramian.device)
    norms = gramian.diagonal().clamp(min=SMALL * gramian.diagonal().sum().clamp(min=SMALL))
    for place in range(size):
        other = orders[:, place]  # (T,)
        conflict = ((v @ gramian)[rows, other]).clamp(max=0) * (other != rows)
        v[rows, other] -= conflict / norms[other]
    return v.sum(0)


def mgda(gramian: Tensor, present: Tensor) -> Tensor:
    """MGDA (Desideri 2012; Sener and Koltun 2018): the convex combination of smallest norm.

    100 Frank-Wolfe steps with exact line search.
    """
    h, w = normalise(gramian), uniform(present)
    eye = torch.eye(len(h), dtype=h.dtype, device=h.device)
    for _ in range(100):
        slope = h @ w
        vertex = eye[torch.where(present, slope, torch.inf).argmin()]
        direction = vertex - w
        curvature = direction @ h @ direction
        step = (-(direction @ slope) / curvature.clamp(min=SMALL)).clamp(0, 1)
        w = w + step * direction
    return w


def cagrad(gramian: Tensor, present: Tensor, c: float) -> Tensor:
    """CAGrad (Liu et al. 2021): the best worst-case progress within c |g0| of the mean g0.

    Approximate: 200 projected gradient steps for the convex problem over the simplex.
    """
    h, mean = normalise(gramian), uniform(present)
    radius = c * (mean @ h @ mean).clamp(min=0).sqrt()
    linear = h @ mean
    p, ahead = mean, mean
    for step in range(200):
        norm = (ahead @ h @ ahead).clamp(min=SMALL).sqrt()
        slope = linear + radius * (h @ ahead) / norm
        rate = 1 / (1e-3 + radius / norm)  # the trace, 1, bounds the largest eigenvalue
        new = onto_simplex(ahead - rate * slope, present)
        ahead, p = new + step / (step + 3) * (new - p), new
    norm = (p @ h @ p).clamp(min=SMALL).sqrt()
    return mean + radius / norm * p


def onto_simplex(point: Tensor, present: Tensor) -> Tensor:
    """Return the nearest point (T,) with entries >= 0 that sum to 1, and 0 for absent tasks."""
    point = torch.where(present, point, -torch.inf)
    ordered = point.sort(descending=True).values
    counts = torch.arange(1, len(point) + 1, device=point.device)
    thresholds = (ordered.cumsum(0) - 1) / counts
    inside = ordered > thresholds  # -inf is never inside
    threshold = torch.where(inside, thresholds, -torch.inf).amax()
    return torch.where(present, (point - threshold).clamp(min=0), 0.0)


def imtl_g(gramian: Tensor, present: Tensor) -> Tensor:
    """IMTL-G (Liu et al. 2021): equal projections on all gradients; weights may be negative."""
    h = normalise(gramian)
    values, vectors = torch.linalg.eigh(h)
    inverted = torch.where(values > RANK, 1 / values.clamp(min=SMALL), 0.0)
    w = vectors @ (inverted * (vectors.T @ h.diagonal().clamp(min=0).sqrt()))
    total = w.sum()
    return torch.where(total.abs() > SMALL, w / total, uniform(present)) * present


def aligned_mtl(gramian: Tensor, present: Tensor) -> Tensor:
    """Aligned-MTL (Senushkin et al. 2023): rescale the principal components to the smallest one."""
    values, vectors = torch.linalg.eigh(normalise(gramian))
    kept = values > RANK
    smallest = torch.where(kept, values, torch.inf).amin()
    scale = torch.where(kept, (smallest / values.clamp(min=SMALL)).sqrt(), 0.0)
    return vectors @ (scale * (vectors.T @ uniform(present))) * present
