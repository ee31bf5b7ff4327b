"""Evaluate every trained task on its groups with all attributes: a job per model.

python -m scripts.run_create_spurious_matrix --meta_log_dir ./logs/spurious_id \\
    --json_dir ./outputs/spurious_eval --mode sbatch

Each job makes at most one inference pass. --shared takes the one network with all tasks in place of
one network per task, and writes to outputs/spurious_eval_shared.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.job_manager import Job, JobManager, add_job_arguments, split_overrides
from scripts.jobs.states import find_runs
from src.api import open_run
from src.config.saved import read_config
from src.data.celeba import ATTRIBUTES
from src.evaluation.results import read_evaluation
from src.io import UserError, exit_on_user_error, expand
from src.runs.folder import Run
from src.runs.selection import find_best_ckpt
from src.spurious.results import is_finished


def main(argv: list[str] | None = None) -> int:
    # `resolve`: what the job flags call --log_dir are the runs to evaluate.
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        conflict_handler="resolve",
    )
    add_job_arguments(parser)
    parser.epilog = "Arguments after -- go to every job, e.g. -- --root data/celeba --device cpu"
    parser.add_argument(
        *("--meta_log_dir", "--log_dir"),
        dest="log_dir",
        type=expand,
        default=Path("./logs/spurious_id"),
        help="folder of the trained models",
    )
    parser.add_argument("--json_dir", type=expand, help="default ./outputs/spurious_eval")
    parser.add_argument("--shared", action="store_true", help="the network with all tasks")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument("--ckpt_num", default="best-avg", help="an epoch, last, best-avg, ...")
    parser.add_argument("--tasks", nargs="+", help="default: all that have a trained model")
    parser.add_argument("--attributes", nargs="+", help="default: all binary columns")
    parser.add_argument(
        "--figures",
        choices=("paper", "all"),
        default="paper",
        help="all: heatmaps of each task (accuracy, size, delta); paper: none here",
    )
    ours, more = split_overrides(argv)
    args = parser.parse_args(ours)
    if args.json_dir is None:
        args.json_dir = Path("./outputs/spurious_eval" + ("_shared" if args.shared else ""))
    with exit_on_user_error():
        if args.split == "test":
            print("a matrix of the test split is for reporting only: training refuses its table")
        jobs = [
            make_job(run, tasks, args, more)
            for run, tasks in find_models(args.log_dir, args.shared, args.tasks)
            if not is_evaluated(run, tasks, args)
        ]
        return JobManager(args).run(jobs)


def find_models(
    folder: Path, shared: bool, wanted: Sequence[str] | None = None
) -> list[tuple[Run, tuple[str, ...]]]:
    """Return the finished runs to evaluate, with their wanted tasks; print tasks without a run.

    Raises:
        UserError: a task has two finished models, or there is no model at all.
    """
    models: dict[str, Run] = {}
    waiting: dict[str, str] = {}
    for run in find_runs([folder]):
        if not run.config.exists():
            continue
        groupings = read_config(run.config)["dataset"]["groupings"]
        tasks = [text.partition(":")[0] for text in groupings]
        if (len(tasks) > 1) != shared:
            continue
        state = run.status()["state"]
        for task in tasks:
            if task not in (wanted or tasks):
                continue
            if state != "done":
                waiting[task] = f"{task} ({state})"
            elif task in models:
                raise UserError(
                    f"two models of {task}: {models[task].path} and {run.path}; name the folder of "
                    "one set with --meta_log_dir"
                )
            else:
                models[task] = run
    if not models:
        kind = "of several tasks" if shared else "of a single task"
        raise UserError(
            f"{folder} holds no finished run {kind}: train with python -m "
            f"scripts.run_spurious_train{' --shared' if shared else ''} --mode shell"
        )
    of_celeba = ATTRIBUTES if models.keys() & set(ATTRIBUTES) else ()
    expected = wanted or dict.fromkeys([*of_celeba, *waiting])
    missing = [waiting.get(task, task) for task in expected if task not in models]
    if missing:
        print(f"no trained model, left out: {', '.join(missing)}", file=sys.stderr)
    place = {name: number for number, name in enumerate(ATTRIBUTES)}
    by_run: dict[Path, tuple[Run, list[str]]] = {}
    for task in sorted(models, key=lambda name: place.get(name, -1)):
        by_run.setdefault(models[task].path, (models[task], []))[1].append(task)
    return [(run, tuple(tasks)) for run, tasks in by_run.values()]


def make_job(
    run: Run, tasks: tuple[str, ...], args: argparse.Namespace, more: Sequence[str]
) -> Job:
    """Return the job of one model; a status left by an older model or split is reset."""
    folder = args.json_dir / ("shared" if args.shared else tasks[0])
    state = Run(folder)
    if args.mode != "debug" and state.status()["state"] == "done":
        state.set_status(state="new")
    argv = ["python", "-m", "scripts.spurious_task", "--log_dir", str(run.path)]
    argv += ["--json_dir", str(args.json_dir), "--split", args.split, "--ckpt_num", args.ckpt_num]
    if args.tasks and args.shared:
        argv += ["--tasks", *tasks]
    if args.attributes:
        argv += ["--attributes", *args.attributes]
    if args.figures == "all":
        argv += ["--figures", "all"]
    return Job(folder.name, [*argv, *more], folder)


def is_evaluated(run: Run, tasks: tuple[str, ...], args: argparse.Namespace) -> bool:
    """Return whether the pairs of all tasks are written, for this checkpoint and split."""
    if args.rerun == "all" or args.figures == "all":
        return False
    run = open_run(run.path)  # of JTT, its second stage
    epoch = find_best_ckpt(run, args.ckpt_num)
    if not isinstance(epoch, int):
        return False
    known = read_evaluation(run.epoch_stats(epoch))["checkpoint"]["hash"]
    return all(is_finished(args.json_dir, t, args.split, known, args.attributes) for t in tasks)


if __name__ == "__main__":
    sys.exit(main())
