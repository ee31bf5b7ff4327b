"""Train by ERM, or by any method that differs only in what an epoch sees or how tasks are weighed.

python train_erm.py exp=erm|rwy|rwg|suby|subg exp.optimizer.lr=0.0001 ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from src.config.compose import launch, train_once
from src.config.schema import Config, dataset_options
from src.data.groupings import Grouping, parse_groupings
from src.runs.folder import Run
from src.training.metrics_log import read_metrics

if TYPE_CHECKING:
    from src.data.table import Table
    from src.sampling.plans import IndexPlan


def main(config: Config) -> None:
    train_once(config, train)


def train(config: Config, run: Run) -> None:
    # Imported here so that a mistake on the command line is answered before torch is loaded.
    import torch

    from src.data.dataset import labels_of, open_dataset
    from src.models.build import build_model, check_resolution
    from src.objective.across import build_objective
    from src.training.devices import choose_device, choose_precision, explain_out_of_memory
    from src.training.loop import Settings, Trainer
    from src.training.validation import Validation

    data, loader = config.dataset, config.dataloader
    device = choose_device(config.train.device)
    precision = choose_precision(config.train.precision, device)
    groupings = parse_groupings(data.groupings, training=True)
    tasks = [grouping.task for grouping in groupings]
    dataset = open_dataset(**dataset_options(data), workers=loader.num_workers)
    rows = dataset.split("train")

    plan = index_plan(config, rows, groupings)
    for note in plan.notes:
        print(note, flush=True)
    network = config.model
    model = build_model(network.name, len(tasks), network.pretrained, network.weights, config.seed)
    model.to(device, memory_format=torch.channels_last)
    with explain_out_of_memory():
        check_resolution(model, network.name, data.target_resolution)
    lbtw_alpha = data.lbtw_alpha if data.loss_balanced_task_weighting else None
    validation = Validation(
        run, dataset, groupings, data.subgroup_labels, loader.eval_batch_size, device, precision
    )
    settings = vars(config.optimizer) | vars(config.train)
    settings |= {"device": device, "precision": precision}
    settings |= {"batch_size": loader.batch_size, "device_cache": loader.device_cache}
    del settings["log_dir"]
    Trainer(
        run,
        model,
        build_objective(len(tasks), data.task_weights, lbtw_alpha, device),
        plan,
        dataset.images("train", full_frame=data.data_augmentation),
        torch.from_numpy(labels_of(rows, groupings)),
        tasks,
        validation,
        Settings(seed=config.seed, augment=data.data_augmentation, **settings),
        finish=lambda: None if lbtw_alpha is None else plot_task_weights(run, tasks),
    ).train()


def index_plan(config: Config, rows: Table, groupings: list[Grouping]) -> IndexPlan:
    """Which train examples an epoch sees: the whole difference between the methods."""
    from src.data.dataset import groups_of, labels_of
    from src.methods.jtt import multiplicities_from
    from src.sampling.plans import make_plan

    data, loader = config.dataset, config.dataloader
    tasks = [grouping.task for grouping in groupings]
    return make_plan(
        labels_of(rows, groupings),
        groups_of(rows, groupings) if data.subgroup_labels else None,
        groupings,
        sampler=loader.sampler,
        subsample_type=data.subsample_type if data.subsample else None,
        multiplicities=multiplicities_from(
            loader.error_set, rows.names, tasks, loader.lambda_up, loader.mtl_join_type
        ),
        seed=config.seed,
    )


def plot_task_weights(run: Run, tasks: list[str]) -> None:
    """results/task_weights.png: what LBTW made of the tasks."""
    import numpy as np

    from src.report.plots import task_weights
    from src.report.plots_groups import save_figure

    keys = [f"train/{task}/weight" for task in tasks]
    # A line that a disk or an editor spoilt is no reason to lose the picture of all others.
    lines = [line for line in read_metrics(run) if {type(line.get(key)) for key in keys} == {float}]
    weights = np.array([[line[key] for key in keys] for line in lines]).reshape(-1, len(tasks))
    figure = task_weights([line["step"] for line in lines], weights, tasks)
    save_figure(figure, run.results / "task_weights.png")


if __name__ == "__main__":
    launch(main)
