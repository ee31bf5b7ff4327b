"""Evaluate the runs of an experiment, each at the checkpoint that validation chooses.

python -m scripts.run_hparam_grid_eval --opt mtl_erm_disjoint --split test \\
    --checkpoint_metric_type group --mtl_checkpoint_type best-worst

Takes the flags of run_hparam_grid_train, also those after --, and evaluates the finished runs one
after another on this machine. Writes results/{split}_stats_{checkpoint}.json in each run folder and
lists the runs that are not done. With --mode debug, the commands are printed instead. To evaluate
on a node of a cluster, start this command there with srun.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.job_manager import Job, add_job_arguments, split_overrides
from scripts.jobs.states import count_states, slurm_jobs, status_of
from scripts.run_hparam_grid_train import add_experiment_arguments, experiment_jobs
from scripts.status import print_table
from src.config.saved import read_config
from src.evaluation.results import task_figures
from src.evaluation.table import interval, percent
from src.io import UserError, at_least, exit_on_user_error, expand
from src.runs.folder import Run

CHECKPOINT_TYPES = ("average", "best-worst", "per-task")
COLUMNS = ("checkpoint", "epoch", "grouping", "average %", "worst %", "95 % interval", "group", "n")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        conflict_handler="resolve",
    )
    add_job_arguments(parser)
    parser.set_defaults(mode="shell")
    parser.epilog = "Arguments after -- are those that training got: they are part of a run's name"
    add_experiment_arguments(parser)
    parser.add_argument("--split", default="test", choices=("train", "val", "test"))
    parser.add_argument(
        "--mtl_checkpoint_type",
        choices=CHECKPOINT_TYPES,
        default="average",
        help="one checkpoint for all tasks by their mean or their worst, or one for each task",
    )
    parser.add_argument("--root", type=expand, help="folder of the data set, if it has moved")
    parser.add_argument("--device", help="auto, cpu or cuda")
    parser.add_argument("--batch_size", type=at_least(1), help="of a pass; changes no result")
    ours, overrides = split_overrides(argv)
    args = parser.parse_args(ours)
    with exit_on_user_error():
        checkpoint_names(args.checkpoint_metric_type, args.mtl_checkpoint_type, ())
        jobs = experiment_jobs(args, overrides)[: args.limit]
        if args.mode == "sbatch":
            raise UserError(
                "--mode sbatch: evaluation runs on this machine; to run it on a node, put "
                "`srun --gpus 1` before this command and use --mode shell"
            )
        return evaluate_all(jobs, args)


def checkpoint_names(metric: str, kind: str, tasks: Sequence[str]) -> dict[str, Sequence[str]]:
    """Return the checkpoints that the flags select, each with the tasks that it is used for.

    Args:
        metric: avg or group, the figure that chooses.
        kind: average (its mean over the tasks), best-worst (the minimum over the tasks, group
            only) or per-task (a checkpoint for each task, by that task alone).
        tasks: of the run; for a single one, all kinds are the same.
    """
    if (metric, kind) == ("avg", "best-worst"):
        raise UserError(
            "--mtl_checkpoint_type best-worst goes by worst-group accuracy: use it with "
            "--checkpoint_metric_type group; avg goes with average and per-task"
        )
    if kind == "average" or len(tasks) == 1:
        return {f"best-{metric}": tasks}
    if kind == "best-worst":
        return {"best-worst": tasks}
    return {f"best-{metric}-{task}": (task,) for task in tasks}


def evaluate_all(jobs: Sequence[Job], args: argparse.Namespace) -> int:
    """Evaluate finished runs and list the others; return 1 if an evaluation failed, else 0."""
    alive = slurm_jobs()
    states = [status_of(Run(job.run_dir), alive)["state"] for job in jobs]
    done = [job.run_dir for job, state in zip(jobs, states) if state == "done"]
    if args.mode == "debug":
        for folder in done:
            print_commands(folder, args)
        return 0
    code = 0
    for folder in done:
        try:
            rows = evaluate_run(folder, args)
        except UserError as error:
            print(f"error: {folder}: {error}", file=sys.stderr)
            code = 1
            continue
        print(folder)
        print_table([COLUMNS, *rows])
        print(flush=True)
    print(f"{len(jobs)} runs: {count_states(states)}", flush=True)
    rest = [(state, str(job.run_dir)) for job, state in zip(jobs, states) if state != "done"]
    if rest:
        print("not evaluated, as they are not done:")
        print_table([("state", "run"), *rest])
    return code


def print_commands(folder: Path, args: argparse.Namespace) -> None:
    """Print the calls of test.py that evaluate a run in the same way."""
    from src.api import open_run

    config = read_config(open_run(folder).config)
    tasks = [name.partition(":")[0] for name in config["dataset"]["groupings"]]
    for name in checkpoint_names(args.checkpoint_metric_type, args.mtl_checkpoint_type, tasks):
        command = ["python", "test.py", "--log_dir", folder, "--ckpt_num", name]
        command += ["--split", args.split]
        for option in ("root", "device", "batch_size"):
            if getattr(args, option) is not None:
                command += [f"--{option}", getattr(args, option)]
        print(shlex.join(map(str, command)))


def evaluate_run(folder: Path, args: argparse.Namespace) -> list[tuple[str, ...]]:
    """Evaluate a run at each checkpoint that the flags select; return its rows of the table."""
    from src.api import open_run
    from src.evaluation.evaluator import RunEvaluator

    evaluator = RunEvaluator(open_run(folder), args.root, args.device, args.batch_size)
    names = checkpoint_names(args.checkpoint_metric_type, args.mtl_checkpoint_type, evaluator.tasks)
    rows = []
    for checkpoint, tasks in names.items():
        result = evaluator.evaluate(checkpoint, args.split)
        rows += [
            figures_row(result, grouping, figures)
            for grouping, figures in task_figures(result).items()
            if grouping.partition(":")[0] in tasks
        ]
    return rows


def figures_row(result: dict[str, Any], grouping: str, figures: dict[str, Any]) -> tuple[str, ...]:
    """Return a line of the table, in the order of COLUMNS."""
    checkpoint, worst = result["checkpoint"], figures["worst_group"]
    group = figures["groups"][worst["id"]] if worst else None
    return (
        checkpoint["name"],
        str(checkpoint["epoch"]),
        grouping,
        percent(figures["avg_acc"]),
        percent(worst and worst["acc"]),
        interval(worst),
        group["name"] if group else "-",
        f"{group['total']:,}" if group else "0",
    )


if __name__ == "__main__":
    sys.exit(main())
