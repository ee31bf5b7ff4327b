"""CRT and ReWeightCRT (Kang et al. 2020, as in SubpopBench): a new head on the features of train.

The head starts at random and is trained with the optimizer and steps of stage 2, on group-balanced
draws (CRT) or with weights of inverse group size (ReWeightCRT); with classes in the place of groups
where train has no group labels. Features come from the network in eval mode, without augmentation:
SubpopBench leaves batch norm in training mode, so that its statistics keep moving. The epoch with
the best worst group on validation is kept.
"""

import numpy as np
import torch
from torch import Tensor

from src.config.compose import stage_config
from src.config.schema import Config
from src.methods.heads import Head, HeadData, fit_each_task
from src.methods.options import CrtOptions
from src.methods.stages import Node, Stages
from src.objective.example import level_weights
from src.objective.options import LevelWeights
from src.sampling.epochs import IndexPlan, Schedule
from src.training.step import build_optimizer, learning_rate


def graph(stages: Stages) -> Node:
    """Return CRT's graph: an ERM network, its features, the head."""
    config = stage_config(stages.config, "stage_2")
    first = stages.train("stage_1")
    return stages.head(first, lambda data, own: fit(data, own, config), ("train", "val"))


def fit(data: HeadData, options: CrtOptions, config: Config) -> Head:
    """Fit one head per task, with the optimizer and steps of `config`."""
    generator = torch.Generator().manual_seed(data.seed)
    return fit_each_task(
        data, lambda task: fit_task(data, task, options, config, generator), "epoch"
    )


def fit_task(
    data: HeadData, task: int, options: CrtOptions, config: Config, generator: torch.Generator
) -> tuple[tuple[Tensor, Tensor], int]:
    """Train the head of a task; return its K rows and the epoch that was kept."""
    table = data.groups("train") if options.balance == "group" else data.labels("train")
    levels, labels = table[:, task], data.labels("train")[:, task]
    rows = np.flatnonzero((levels >= 0) & (labels >= 0))
    counts = np.bincount(levels[rows])
    weights, plan = None, IndexPlan(rows, 1 / counts[levels[rows]])
    if options.kind == "reweight":
        own = level_weights(torch.from_numpy(counts)[None], LevelWeights())[0]
        weights, plan = own[torch.from_numpy(levels.clip(min=0))], IndexPlan(rows)
    x, y = data.features("train"), torch.from_numpy(labels)
    layer = torch.nn.Linear(x.shape[1], data.layout.num_classes[task])
    bound = x.shape[1] ** -0.5
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    optimizer = build_optimizer(config.optimizer, list(layer.parameters()))
    schedule, size = Schedule(((1, plan),)), config.dataloader.batch_size
    planned = schedule.total_steps(config.train.total_epochs, size)
    total = min(planned, config.train.max_steps or planned)
    best, found, kept, step = -1.0, None, 0, 0
    for epoch in range(1, schedule.epoch_of(total, size) + 1):
        for batch in schedule.batches(data.seed, epoch, size)[: total - step]:
            optimizer.param_groups[0]["lr"] = learning_rate(config.optimizer, step, planned)
            step += 1
            positions = torch.from_numpy(batch)
            losses = torch.nn.functional.cross_entropy(
                layer(x[positions]), y[positions], reduction="none"
            )
            if weights is not None:
                losses = weights[positions] * losses
            optimizer.zero_grad()
            losses.mean().backward()
            optimizer.step()
        with torch.no_grad():
            accuracy = data.worst_group(layer(data.features("val")), task)
        if accuracy > best:
            best, kept = accuracy, epoch
            found = (layer.weight.detach().clone(), layer.bias.detach().clone())
    return found, kept
