"""How well the Gramians of docs/several_tasks.md stand for that of all weights.

    python -m benchmarks.adapter_gramian exp.dataset.root=data/celeba ...

Trains a small network. At every second step it compares the tasks' Gramian by the backbone's
weights with those by the adapter and by the features.
"""

import sys
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from src.config.compose import load_config
from src.config.dataset import dataset_options
from src.config.schema import Config
from src.data.batches import iterate_batches
from src.data.dataset import open_dataset
from src.data.groupings import parse_groupings
from src.models.build import build_model
from src.objective.batch import TrainTables
from src.objective.compose import Objective
from src.objective.logits import LogitLayout
from src.objective.options import ObjectiveOptions, SolverOptions
from src.objective.solvers import upgrad
from src.sampling.epochs import epoch_positions, split_batches
from src.sampling.plans import erm, stack_groups, stack_labels

KINDS = ("adapter", "features")
STEPS = 200
SETTINGS = [
    *("exp=erm", "exp/model=resnet18", "exp.model.pretrained=false", "exp.optimizer.lr=0.01"),
    *("exp.dataset.target_resolution=[64,64]", "exp.dataloader.batch_size=128"),
    "exp.dataset.groupings=[Blond_Hair:Male,Wearing_Lipstick:Male,High_Cheekbones:Smiling]",
]


def measure(config: Config) -> Iterator[dict[str, np.ndarray]]:
    """Train; yield the Gramians (T, T) of every second batch, by `full` and KINDS."""
    dataset = open_dataset(**dataset_options(config.dataset), workers=2)
    groupings = parse_groupings(config.dataset.groupings, columns=dataset.columns)
    rows, names = dataset.split("train"), [grouping.task for grouping in groupings]
    labels, groups = (torch.from_numpy(f(rows, groupings)) for f in (stack_labels, stack_groups))
    sizes = [grouping.num_groups for grouping in groupings]
    layout = LogitLayout([grouping.num_classes for grouping in groupings])
    tables = TrainTables(layout, labels, groups, sizes, names)
    model = build_model(**config.model.model_dump(), num_logits=layout.width, seed=0).train()
    layers = {}
    for kind in KINDS:
        solver = SolverOptions(gramian=kind)
        options = ObjectiveOptions(across="static", gradient="upgrad", upgrad=solver)
        layers[kind] = Objective(options, tables, [1.0] * len(names), 0.5).gradient
        layers[kind].watch(model)
    size, plan = config.dataloader.batch_size, erm(len(rows))
    epochs = range(1, 2 + STEPS * size // len(rows))
    batches = [b for e in epochs for b in split_batches(epoch_positions(plan, 0, e), size)]
    optimizer = torch.optim.SGD(model.parameters(), config.optimizer.lr, momentum=0.9)
    stream = iterate_batches(dataset.images("train"), batches[:STEPS])
    for step, (images, positions) in enumerate(stream):
        batch = tables.batch(model(images), positions)
        losses = layout.losses(batch.logits, batch.labels).mean(0)  # (T,)
        if step % 2 == 0:
            residuals = torch.autograd.grad(losses.sum(), batch.logits, retain_graph=True)[0]
            found = {"full": full_gramian(losses, list(model.backbone.parameters()))}
            for kind, layer in layers.items():
                found[kind] = layer.gramian(residuals[..., None]).reshape(found["full"].shape)
            yield {kind: gramian.double().numpy() for kind, gramian in found.items()}
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()


def full_gramian(losses: Tensor, weights: list[Tensor]) -> Tensor:
    """Return the Gramian (T, T) of the losses' gradients by all weights."""
    rows = [torch.autograd.grad(loss, weights, retain_graph=True) for loss in losses]
    jacobian = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]).double()
    return jacobian @ jacobian.T


def cosines(gramians: np.ndarray) -> np.ndarray:
    """Return the cosines of all pairs of tasks, (pairs,), of Gramians (N, T, T)."""
    norms = np.sqrt(np.diagonal(gramians, axis1=1, axis2=2))
    below = np.tril_indices(gramians.shape[1], -1)
    return (gramians / norms[:, :, None] / norms[:, None])[:, below[0], below[1]].ravel()


def summarise(full: np.ndarray, proxy: np.ndarray) -> str:
    """Describe how cosines, signs and UPGrad's updates by a proxy compare with the full ones."""
    a, b = cosines(full), cosines(proxy)
    same = np.mean(np.sign(a) == np.sign(b))
    present = torch.ones(full.shape[1], dtype=torch.bool)
    angles, harm = [], []
    for true, stand_in in zip(full, proxy):
        best, ours = (upgrad(torch.from_numpy(g), present).numpy() for g in (true, stand_in))
        angles.append(best @ true @ ours / np.sqrt((best @ true @ best) * (ours @ true @ ours)))
        harm.append((true @ ours).min() < 0)
    return (
        f"cosines {b.mean():.3f} (all weights {a.mean():.3f}), correlation "
        f"{np.corrcoef(a, b)[0, 1]:.2f}, same sign {same:.1%}; UPGrad's "
        f"update has cosine {np.mean(angles):.4f} (least {np.min(angles):.4f}) with that by all "
        f"weights and harms a task in {np.mean(harm):.0%} of batches"
    )


if __name__ == "__main__":
    records = list(measure(load_config([*SETTINGS, *sys.argv[1:]])))
    gramians = {kind: np.stack([record[kind] for record in records]) for kind in records[0]}
    for kind in KINDS:
        print(f"{kind}: {summarise(gramians['full'], gramians[kind])}")
