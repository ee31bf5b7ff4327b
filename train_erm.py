"""Train by ERM, or by any method that differs only in what an epoch sees or how tasks are weighed.

python train_erm.py exp=erm|rwy|rwg|suby|subg exp.optimizer.lr=0.0001 ...
"""

from src.config import launch, train_once
from src.config_schema import Config
from src.data.groupings import parse_groupings
from src.runs import Run, read_metrics


def main(config: Config) -> None:
    train_once(config, train)


def train(config: Config, run: Run) -> None:
    # Imported here so that a mistake on the command line is answered before torch is loaded.
    import torch

    from src import training
    from src.data.dataset import groups_of, labels_of, open_dataset
    from src.jtt import multiplicities_from
    from src.models import build_model
    from src.objectives import LossBalancedTaskWeighting, StaticWeights
    from src.sampling import make_plan
    from src.validation import Validation

    data, loader, settings = config.dataset, config.dataloader, config.train
    device = training.choose_device(settings.device)
    precision = training.choose_precision(settings.precision, device)
    groupings = parse_groupings(data.groupings, training=True)
    tasks = [grouping.task for grouping in groupings]

    dataset = open_dataset(data, loader.num_workers)
    rows = dataset.split("train")
    labels = labels_of(rows, groupings)  # (N, T)
    plan = make_plan(
        labels,
        groups_of(rows, groupings) if data.subgroup_labels else None,
        groupings,
        sampler=loader.sampler,
        subsample_type=data.subsample_type if data.subsample else None,
        multiplicities=multiplicities_from(
            loader.error_set, rows.names, tasks, loader.lambda_up, loader.mtl_join_type
        ),
        seed=config.seed,
    )
    for note in plan.notes:
        print(note, flush=True)

    model = build_model(
        config.model.name, len(tasks), config.model.pretrained, config.model.weights, config.seed
    ).to(device, memory_format=torch.channels_last)
    if data.loss_balanced_task_weighting:
        objective = LossBalancedTaskWeighting(len(tasks), data.lbtw_alpha, device)
    else:
        objective = StaticWeights(data.task_weights or [1.0] * len(tasks), device)

    training.Trainer(
        run,
        model,
        objective,
        plan,
        dataset.images("train", full_frame=data.data_augmentation),
        torch.from_numpy(labels),
        tasks,
        Validation(
            run, dataset, groupings, data.subgroup_labels, loader.eval_batch_size, device, precision
        ),
        training.Settings(
            seed=config.seed,
            lr=config.optimizer.lr,
            weight_decay=config.optimizer.weight_decay,
            momentum=config.optimizer.momentum,
            schedule=config.optimizer.schedule,
            batch_size=loader.batch_size,
            total_epochs=settings.total_epochs,
            max_steps=settings.max_steps,
            device=device,
            precision=precision,
            augment=data.data_augmentation,
            compile=settings.compile,
            log_every_n_steps=settings.log_every_n_steps,
            save_every_minutes=settings.save_every_minutes,
            keep_ckpts=settings.keep_ckpts,
            tensorboard=settings.tensorboard,
        ),
    ).train()
    if data.loss_balanced_task_weighting:
        plot_task_weights(run, tasks)


def plot_task_weights(run: Run, tasks: list[str]) -> None:
    """results/task_weights.png: what LBTW made of the tasks."""
    import numpy as np

    from src.plots import task_weights
    from src.plots_groups import save_figure

    lines = [line for line in read_metrics(run) if "train/loss" in line]
    weights = np.array([[line[f"train/{task}/weight"] for task in tasks] for line in lines])
    figure = task_weights([line["step"] for line in lines], weights, tasks)
    save_figure(figure, run.results / "task_weights.png")


if __name__ == "__main__":
    launch(main)
