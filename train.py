"""Train a network by any method.

python train.py exp=erm|rwy|rwg|suby|subg|jtt|... exp.optimizer.lr=0.0001 ...
python train.py --resume RUN
python train.py --list
python train.py --help
"""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from src.api import open_run
from src.config.compose import launch, load_saved_config
from src.config.dataset import dataset_options
from src.config.saved import is_first_edition, read_yaml, save_config
from src.config.schema import Config, group_options
from src.data.groupings import Grouping, absent_classes, parse_groupings
from src.data.table import BINARY
from src.io import UserError, exit_on_user_error, expand, write_json
from src.methods.options import STAGED
from src.runs.folder import Run
from src.runs.selection import default_rule

if TYPE_CHECKING:
    import torch
    from torch import nn

    from src.data.dataset import Dataset
    from src.methods.found_groups import GroupLabels
    from src.objective.batch import TrainTables
    from src.sampling.epochs import IndexPlan
    from src.training.distributed import Ranks
    from src.training.method import Method


def main(config: Config) -> None:
    """Train the run of a configuration, or continue it, unless it is done."""
    processes, run = int(os.environ.get("WORLD_SIZE", 1)), Run(config.train.log_dir)
    staged = config.method in STAGED and config.stage is None
    done = run.status()["state"] == "done"
    if max(processes, config.train.num_devices) > 1 and config.objective.gradient == "torchjd":
        raise UserError(
            "objective.gradient=torchjd needs the Jacobian of the whole batch, and each process "
            "has that of its slice: use exp.train.num_devices=1, or one of our own solvers, such "
            "as upgrad"
        )
    if config.train.num_devices > 1 and processes == 1 and not staged and not done:
        from src.training.distributed import start_processes

        start_processes(config.train.num_devices, own_command())
        return
    if processes > 1 and staged:
        raise UserError(
            f"exp={config.name} trains in several stages, each of which starts its own processes: "
            f"use python train.py exp.train.num_devices={processes}, without torchrun"
        )
    if int(os.environ.get("RANK", 0)):
        # Rank 0 prints, keeps the folder and its status; the others only compute.
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            if not done:
                train(config, run)
        return
    is_new = not run.path.exists()
    with run.claim():
        save_config(config, run.config)
        done = run.status()["state"] == "done"
        if not done and is_first_edition(read_yaml(run.config)):
            raise UserError(
                f"{run.path} is a run of the first edition, which cannot be resumed: choose "
                f"another exp.train.log_dir, or delete that folder"
            )
        if done:
            print(f"{run.path} is done already", flush=True)
        else:
            print(f"{run.path}", flush=True)
            for note in config.notes():
                print(f"note: {note}", flush=True)
            try:
                train(config, run)
            except Exception as error:
                if is_new and not run.metrics.exists():
                    remove_unused_folder(run)
                else:
                    with suppress(UserError, OSError):  # the first error is the one to show
                        run.set_status(state="failed", error=str(error) or type(error).__name__)
                raise
    rule = default_rule(open_run(run.path))
    command = ["python", "test.py", "--log_dir", str(run.path), "--ckpt_num", rule]
    print(f"evaluate it: {shlex.join([*command, '--split', 'test'])}")


def own_command() -> list[str]:
    """Return the program and arguments of this run, also if it is one of a sweep by Hydra."""
    from hydra.core.hydra_config import HydraConfig

    if HydraConfig.initialized():
        return [sys.argv[0], *HydraConfig.get().overrides.task]
    return sys.argv


def remove_unused_folder(run: Run) -> None:
    """Delete the folder of a run that failed before its first step, if nothing else is in it."""
    with suppress(OSError):
        for name in (run.config, run.status_file, run.provenance, run.classes_file):
            name.unlink(missing_ok=True)
        for lock in run.path.glob(".*lock"):
            lock.unlink()
        run.path.rmdir()


def train(config: Config, run: Run) -> None:
    # Imported here so that mistakes on the command line are reported before torch is loaded.
    from src.data.dataset import open_dataset

    data = config.dataset
    dataset = open_dataset(**dataset_options(data), workers=config.dataloader.num_workers)
    groupings = parse_groupings(data.groupings, training=True, columns=dataset.columns)
    if not int(os.environ.get("RANK", 0)):
        write_classes(run, groupings)
    if config.method not in STAGED or config.stage is not None:
        train_network(config, run, dataset, groupings)
    else:
        from src.methods.registry import GRAPHS
        from src.methods.stages import Stages, run_graph
        from src.runs.provenance import record_data

        record_data(run, dataset)
        stages = Stages(config, run, dataset, groupings)
        run_graph(GRAPHS[config.method](stages), run)


def write_classes(run: Run, groupings: list[Grouping]) -> None:
    """Write the class names of a table's columns, so that the run can be used without the data."""
    classes = {c: names for g in groupings for c, names in zip(g.columns, g.classes)}
    if any(names != BINARY for names in classes.values()):
        write_json(run.classes_file, classes)


def train_network(config: Config, run: Run, dataset: Dataset, groupings: list[Grouping]) -> None:
    """Train one network: data, plan, network, objective, then the loop."""
    from src.methods.found_groups import GroupLabels
    from src.methods.registry import IN_LOOP
    from src.objective.compose import Objective
    from src.runs.provenance import data_identity, describe_session, record_provenance
    from src.training.devices import choose_device, choose_precision
    from src.training.distributed import Ranks
    from src.training.loop import Trainer
    from src.training.validation import Validation

    data, ranks = config.dataset, Ranks()
    device = choose_device(config.train.device, ranks.local)
    precision = choose_precision(config.train.precision, device)
    for warning in absent_classes(groupings, dataset.split("train"), dataset.table):
        if ranks.first:
            print(warning, flush=True)
    kind, options = IN_LOOP[config.method], getattr(config, config.method or "", None)
    labels = kind.data(GroupLabels(dataset, groupings, **group_options(config)), options)
    dataset = labels.dataset
    images = dataset.images("train", full_frame=data.data_augmentation)

    plan = index_plan(config, labels)
    tables = train_tables(config, labels, groupings, device)
    method = kind(options, tables, config.dataloader.batch_size, data.target_resolution)
    schedule = method.schedule(plan, config.seed)
    for note in schedule.notes:
        print(note, flush=True)
    if len(schedule.positions()) < 2:
        raise UserError("an epoch has fewer than 2 examples, and batch norm cannot train on one")

    model = build_network(config, method, tables.layout.width, ranks, device)
    weights = data.task_weights or [1.0] * len(groupings)
    objective = Objective(config.objective, tables, weights, data.lbtw_alpha)
    validation = Validation(
        *(run, dataset, *labels.split("val"), labels.has_groups("val")),
        *(config.dataloader.eval_batch_size, device, precision, ranks),
    )
    identity = {
        "train": data_identity(dataset.split("train"), images),
        "val": data_identity(dataset.split("val"), validation.images),
    }
    if ranks.first:
        record_provenance(run, identity, describe_session(device, precision, ranks.size))
    Trainer(
        *(run, model, method, objective, schedule, images, validation),
        *(config, device, precision),
        ranks=ranks,
    ).train()


def train_tables(
    config: Config, labels: GroupLabels, groupings: list[Grouping], device: torch.device
) -> TrainTables:
    """Return labels and groups of the train split on the device."""
    import torch

    from src.evaluation.logits import rows_identity
    from src.objective import batch
    from src.objective.logits import LogitLayout
    from src.objective.reference import reference_losses
    from src.sampling.plans import stack_labels

    rows, dro, found = labels.dataset.split("train"), config.objective.dro, labels.found
    if dro.automatic_adjustment and found is not None and "val" not in found.environments:
        raise UserError(
            "objective.dro.automatic_adjustment needs the same groups in validation, but "
            f"{config.dataloader.found_groups} has those of train only: set it to false"
        )
    tables = batch.TrainTables(
        LogitLayout([grouping.num_classes for grouping in groupings]),
        torch.from_numpy(stack_labels(rows, groupings)).to(device),
        torch.from_numpy(labels.groups("train")).to(device),
        [grouping.num_groups for grouping in labels.split("train")[1]],
        [grouping.task for grouping in groupings],
    )
    if config.objective.task == "dro" and dro.reference is not None:
        identity = rows_identity(rows.names, rows.codes)
        tables.reference = reference_losses(dro.reference, tables, identity)
    return tables


def build_network(
    config: Config, method: Method, num_logits: int, ranks: Ranks, device: torch.device
) -> nn.Module:
    """Return what a method trains, on the device, after checking that it takes the images."""
    import torch

    from src.models.build import build_model, check_resolution
    from src.training.devices import explain_out_of_memory
    from src.training.distributed import synchronise_batch_norm

    def build(seed: int) -> nn.Module:
        return build_model(**config.model.model_dump(), num_logits=num_logits, seed=seed)

    model = method.wrap(build(config.seed), lambda: build(config.seed + 1))
    model = synchronise_batch_norm(model, ranks, device)
    model.to(device, memory_format=torch.channels_last)
    if config.dataset.features is None:
        with explain_out_of_memory():
            check_resolution(model, config.model.name, config.dataset.target_resolution)
    return model


def index_plan(config: Config, group_labels: GroupLabels) -> IndexPlan:
    """Return which train examples an epoch sees."""
    from src.evaluation.logits import rows_identity
    from src.methods.jtt import load_error_set, multiplicities
    from src.sampling.plans import make_plan, stack_labels

    rows, groupings = group_labels.split("train")
    data, loader = config.dataset, config.dataloader
    times = None
    if loader.error_set is not None:
        own = group_labels.dataset.split("train")
        identity = rows_identity(own.names, own.codes)
        tasks = [grouping.task for grouping in groupings]
        errors, losses = load_error_set(expand(loader.error_set), rows.names, tasks, identity)
        if not errors.any():
            print(
                f"warning: {loader.error_set} holds no error, so this is plain ERM: lower "
                f"exp.stage_1.train.total_epochs, or raise exp.stage_1.optimizer.weight_decay",
                flush=True,
            )
        times = multiplicities(errors, loader.lambda_up, loader.mtl_join_type, losses)
    return make_plan(
        stack_labels(rows, groupings),
        group_labels.groups("train") if group_labels.has_groups("train") else None,
        groupings,
        sampler=loader.sampler,
        subsample_type=data.subsample_type if data.subsample else None,
        multiplicities=times,
        fraction=loader.train_fraction,
        seed=config.seed,
    )


def resume(folder: str) -> None:
    """Continue the run in a folder."""
    run = Run(expand(folder))
    config = load_saved_config(run.config)
    config.train.log_dir = str(run.path)
    main(config)


def entrypoint() -> None:
    """Train, continue a run (--resume RUN), or list the methods (--list)."""
    if sys.argv[1:2] == ["--resume"] and len(sys.argv) == 3:
        with exit_on_user_error():
            resume(sys.argv[2])
    elif sys.argv[1:] == ["--list"]:
        from src.report.methods import text

        print(text())
    else:
        launch(main)


if __name__ == "__main__":
    entrypoint()
