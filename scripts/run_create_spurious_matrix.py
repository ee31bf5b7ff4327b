"""Evaluate every trained attribute on its groups with all others: a job per model.

python -m scripts.run_create_spurious_matrix --meta_log_dir ./logs/spurious_id \\
    --json_dir ./outputs/spurious_eval --mode sbatch

Each job makes one inference pass and writes into the folder of its task. --shared takes the one
network with 40 tasks in place of 40 networks (outputs/spurious_eval_shared).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.job_manager import Job, JobManager, add_job_arguments, split_overrides
from scripts.jobs.states import find_runs
from src.config.saved import read_config
from src.data.groupings import ATTRIBUTES, parse_groupings
from src.io import UserError, exit_on_user_error
from src.json_shapes import misfit
from src.runs.folder import Run
from src.spurious.results import is_finished


def main(argv: list[str] | None = None) -> int:
    # `resolve`: the runs that the job flags call --log_dir are what is evaluated here.
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        conflict_handler="resolve",
    )
    add_job_arguments(parser)
    parser.epilog = "Arguments after -- go to every job, e.g. -- --root data/celeba --device cpu"
    parser.add_argument(
        "--meta_log_dir",
        "--log_dir",
        dest="log_dir",
        type=Path,
        default=Path("./logs/spurious_id"),
        help="where the trained models lie",
    )
    parser.add_argument("--json_dir", type=Path, help="default ./outputs/spurious_eval")
    parser.add_argument("--shared", action="store_true", help="the network with all tasks")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument("--ckpt_num", default="best-avg", help="an epoch, last, best-avg, ...")
    ours, more = split_overrides(argv)
    args = parser.parse_args(ours)
    if args.json_dir is None:
        args.json_dir = Path("./outputs/spurious_eval" + ("_shared" if args.shared else ""))
    with exit_on_user_error():
        if args.split == "test":
            print("a matrix of the test split is for reporting only: no training script takes it")
        jobs = [
            make_job(run, tasks, args, more)
            for run, tasks in find_models(args.log_dir, args.shared)
            if not is_evaluated(run, tasks, args)
        ]
        return JobManager.from_args(args).run(jobs)


def find_models(folder: Path, shared: bool) -> list[tuple[Run, tuple[str, ...]]]:
    """The finished runs to evaluate, in the order of their tasks; what lacks one is named.

    Raises:
        UserError: a task has two finished models, or there is no model at all.
    """
    models: dict[tuple[str, ...], Run] = {}
    waiting: dict[str, str] = {}
    for run in find_runs([folder]):
        if not run.config.exists():
            continue
        config = read_config(run.config)
        found = misfit(config, {"dataset": {"groupings": [str]}})
        if found:
            raise UserError(f"{run.config} is no run's configuration ({found}): leave it out")
        try:
            groupings = parse_groupings(config["dataset"]["groupings"])
        except UserError as error:
            raise UserError(f"{run.config}: {error}") from error
        tasks = tuple(grouping.task for grouping in groupings)
        if (len(tasks) > 1) != shared:
            continue
        state = run.status()["state"]
        if state != "done":
            waiting |= {task: f"{task} ({state})" for task in tasks}
        elif any(set(tasks) & set(other) for other in models):
            twice = next(other for other in models if set(tasks) & set(other))
            raise UserError(
                f"two models of {', '.join(sorted(set(tasks) & set(twice)))}: {models[twice].path} "
                f"and {run.path}; name the folder of one set with --meta_log_dir"
            )
        else:
            models[tasks] = run
    trained = {task for tasks in models for task in tasks}
    missing = [waiting.get(task, task) for task in ATTRIBUTES if task not in trained]
    if not models:
        kind = "of several tasks" if shared else "of a single task"
        raise UserError(
            f"{folder} holds no finished run {kind}: train with python -m "
            f"scripts.run_spurious_train{' --shared' if shared else ''} --mode shell"
        )
    if missing:
        print(f"no trained model, left out: {', '.join(missing)}", file=sys.stderr)
    order = sorted(models, key=lambda tasks: ATTRIBUTES.index(tasks[0]))
    return [(models[tasks], tasks) for tasks in order]


def make_job(
    run: Run, tasks: tuple[str, ...], args: argparse.Namespace, more: Sequence[str]
) -> Job:
    """The job of one model; what its folder says of an older model or split is forgotten."""
    folder = args.json_dir / (tasks[0] if len(tasks) == 1 else "shared")
    state = Run(folder)
    if args.mode != "debug" and state.status()["state"] == "done":
        state.set_status(state="new")
    argv = ["python", "-m", "scripts.spurious_task", "--log_dir", str(run.path)]
    argv += ["--json_dir", str(args.json_dir), "--split", args.split, "--ckpt_num", args.ckpt_num]
    return Job(folder.name, [*argv, *more], folder)


def is_evaluated(run: Run, tasks: tuple[str, ...], args: argparse.Namespace) -> bool:
    """Are the pairs of all the run's tasks written, of this checkpoint and split?"""
    if args.rerun == "all":
        return False
    from src.api import open_run
    from src.evaluation.results import read_evaluation
    from src.runs.selection import find_best_ckpt

    run = open_run(run.path)  # of JTT, its second stage
    epoch = find_best_ckpt(run, args.ckpt_num)
    if not isinstance(epoch, int):
        return False
    known = read_evaluation(run.epoch_stats(epoch))["checkpoint"]["hash"]
    return all(is_finished(args.json_dir, task, args.split, known) for task in tasks)


if __name__ == "__main__":
    sys.exit(main())
