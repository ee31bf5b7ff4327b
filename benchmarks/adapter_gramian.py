"""How well the Gramians of docs/several_tasks.md stand for that of all weights.

    python -m benchmarks.adapter_gramian --out FILE.json exp.dataset.root=data/celeba ...

Trains a small network, and at every second step compares the cosines between the tasks' gradients
(and between their groups') by the backbone's weights with those of the adapter and the features.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from src.config.compose import load_config
from src.config.schema import Config, dataset_options
from src.data.batches import iterate_batches
from src.data.dataset import open_dataset
from src.data.groupings import parse_groupings
from src.models.build import build_model
from src.objective.batch import Batch, TrainTables, cells
from src.objective.compose import Objective
from src.objective.logits import LogitLayout
from src.objective.options import ObjectiveOptions, SolverOptions
from src.objective.solvers import upgrad
from src.sampling.epochs import epoch_positions, split_batches
from src.sampling.plans import erm, stack_groups, stack_labels

KINDS = ("adapter", "features")
SETTINGS = [
    *("exp=erm", "exp/model=resnet18", "exp.model.pretrained=false", "exp.optimizer.lr=0.01"),
    *("exp.dataset.target_resolution=[64,64]", "exp.dataloader.batch_size=128"),
    "exp.dataset.groupings=[Blond_Hair:Male,Wearing_Lipstick:Male,High_Cheekbones:Smiling]",
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batches", type=int, default=100, help="measured, every second step")
    parser.add_argument("--cells_every", type=int, default=4, help="measured batches")
    parser.add_argument("overrides", nargs="*", help="of the configuration")
    args = parser.parse_args()
    config, records = load_config([*SETTINGS, *args.overrides]), []
    for record in measure(config, args.batches, args.cells_every):
        records.append(record)
        args.out.write_text(json.dumps(records))
    summarise(records)


def measure(config: Config, count: int, cells_every: int) -> Iterator[dict[str, list]]:
    """Train for 2 x `count` steps; yield the Gramians of every second batch by kind."""
    dataset = open_dataset(**dataset_options(config.dataset), workers=2)
    groupings = parse_groupings(config.dataset.groupings, columns=dataset.columns)
    rows = dataset.split("train")
    labels, groups = (torch.from_numpy(f(rows, groupings)) for f in (stack_labels, stack_groups))
    sizes = [grouping.num_groups for grouping in groupings]
    tables = TrainTables(LogitLayout([g.num_classes for g in groupings]), labels, groups, sizes)
    model = build_model(**config.model.model_dump(), num_logits=tables.layout.width, seed=0).train()
    layers = {}
    for kind in KINDS:
        for by_cell in (False, True):
            solver = SolverOptions(gramian=kind, cells=by_cell)
            options = ObjectiveOptions(across="static", gradient="upgrad", upgrad=solver)
            names = [grouping.task for grouping in groupings]
            layer = Objective(options, tables, names, [1.0] * len(names), 0.5).gradient
            layer.watch(model)
            layers[kind, by_cell] = layer
    size, plan = config.dataloader.batch_size, erm(len(rows))
    epochs = range(1, 2 + 2 * count * size // len(rows))
    batches = [b for e in epochs for b in split_batches(epoch_positions(plan, 0, e), size)]
    optimizer = torch.optim.SGD(model.parameters(), config.optimizer.lr, momentum=0.9)
    backbone = list(model.backbone.parameters())
    for step, (images, positions) in enumerate(
        iterate_batches(dataset.images("train"), batches[: 2 * count])
    ):
        batch = tables.batch(model(images), positions)
        losses = tables.layout.losses(batch.logits, batch.labels)  # (B, T)
        if step % 2 == 0:
            cell = losses[..., None] * cells(batch.groups, max(sizes)) / len(losses)  # (B, T, G)
            record = {}
            for by_cell in (False, True) if step % (2 * cells_every) == 0 else (False,):
                parts = cell.sum(0).flatten() if by_cell else losses.mean(0)
                record |= gramians(parts, batch, backbone, layers, by_cell)
            print(f"step {step}, loss {losses.mean():.3f}", flush=True)
            yield record
        optimizer.zero_grad()
        losses.mean(0).sum().backward()
        optimizer.step()


def gramians(
    parts: Tensor, batch: Batch, backbone: list[Tensor], layers: dict, by_cell: bool
) -> dict[str, list]:
    """Return the exact Gramian of losses (K,) by the backbone, and our approximations."""
    jacobian = torch.stack(
        [
            torch.cat([g.flatten() for g in torch.autograd.grad(p, backbone, retain_graph=True)])
            for p in parts
        ]
    ).double()
    name = "cells" if by_cell else "tasks"
    record = {f"{name}/full": (jacobian @ jacobian.T).tolist()}
    (residuals,) = torch.autograd.grad(parts.sum(), batch.logits, retain_graph=True)
    for kind in KINDS:
        layer = layers[kind, by_cell]
        size = layer.size
        members = cells(batch.groups, size) if by_cell else torch.ones(*residuals.shape, 1)
        found = layer.gramian(residuals[..., None] * members)
        record[f"{name}/{kind}"] = found.reshape(len(parts), len(parts)).tolist()
    return record


def cosines(gramian: np.ndarray) -> np.ndarray:
    """Return the cosines of all pairs of present rows, (pairs,); NaN for absent rows."""
    norms = np.sqrt(np.diag(gramian))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (gramian / np.outer(norms, norms))[np.tril_indices(len(gramian), -1)]


def summarise(records: list[dict]) -> None:
    """Print how cosines, signs and UPGrad's updates compare."""
    for level in ("tasks", "cells"):
        full = [
            np.array(record[f"{level}/full"]) for record in records if f"{level}/full" in record
        ]
        true = np.stack([cosines(gramian) for gramian in full])
        print(f"{level}: {len(full)} batches; {np.nanmean(true < 0):.0%} of pairs in conflict")
        for kind in KINDS:
            proxy = [np.array(record[f"{level}/{kind}"]) for record in records
                     if f"{level}/{kind}" in record]  # fmt: skip
            found = np.stack([cosines(gramian) for gramian in proxy])
            known = np.isfinite(true) & np.isfinite(found)
            a, b = true[known], found[known]
            same = np.mean(np.sign(a) == np.sign(b))
            print(
                f"  {kind}: cosines {b.mean():.3f} (all weights {a.mean():.3f}), correlation "
                f"{np.corrcoef(a, b)[0, 1]:.2f}, same sign {same:.1%}"
            )
            if level == "tasks":
                show_updates(full, proxy)


def show_updates(full: list[np.ndarray], proxy: list[np.ndarray]) -> None:
    """Print how UPGrad's update by the proxy compares with that by all weights."""
    angles, harm, plain = [], [], []
    for true, stand_in in zip(full, proxy):
        present = torch.ones(len(true), dtype=torch.bool)
        best = upgrad(torch.from_numpy(true), present).numpy()
        ours = upgrad(torch.from_numpy(stand_in), present).numpy()
        norm = np.sqrt((best @ true @ best) * (ours @ true @ ours))
        angles.append(best @ true @ ours / norm)
        harm.append((true @ ours).min() < 0)
        plain.append(true.sum(1).min() < 0)
    print(
        f"    UPGrad's update has cosine {np.mean(angles):.4f} (least {np.min(angles):.4f}) with "
        f"that by all weights; harms a task in {np.mean(harm):.0%} of batches, the sum in "
        f"{np.mean(plain):.0%}"
    )


if __name__ == "__main__":
    main()
