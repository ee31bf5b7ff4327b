"""Train an experiment: one method on the task lists of a family, every seed.

python -m scripts.run_hparam_grid_train --list
python -m scripts.run_hparam_grid_train --opt mtl_erm_disjoint --mtl_weighting dynamic --mode sbatch

The runs are in ./logs/OPT. The same command again resumes interrupted runs.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scripts.experiments import (
    EXPERIMENTS,
    FAMILIES,
    MTL_ERM_EXPERIMENTS,
    STL_MATCHED,
    WEIGHTINGS,
    single,
)
from scripts.grids import find_experiment, read_delta, train_jobs, weighting_values
from scripts.job_manager import Job, JobManager, add_job_arguments, split_overrides
from src.data.groupings import parse_grouping
from src.io import UserError, exit_on_user_error, expand


def main(argv: list[str] | None = None) -> int:
    # `resolve`: --log_dir has a second name here.
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        conflict_handler="resolve",
    )
    add_job_arguments(parser)
    add_experiment_arguments(parser)
    parser.add_argument("--list", action="store_true", help="list every OPT and its number of runs")
    ours, overrides = split_overrides(argv)
    args = parser.parse_args(ours)
    with exit_on_user_error():
        if args.list:
            print_experiments()
            return 0
        manager = JobManager(args)
        return manager.run(experiment_jobs(args, overrides))


def add_experiment_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that select runs, for training and evaluation."""
    group = parser.add_argument_group("experiment")
    group.add_argument("--opt", metavar="OPT", help="the experiment; run_hparam_grid_train --list")
    group.add_argument(
        "--family", choices=FAMILIES, help=f"with --opt {STL_MATCHED}: only these groupings"
    )
    group.add_argument(
        "--mtl_weighting",
        choices=WEIGHTINGS,
        default="static_equal",
        help="of the tasks: all 1, softmax of delta/100 from the spurious matrix, or LBTW",
    )
    group.add_argument(
        "--checkpoint_metric_type",
        choices=("avg", "group"),
        default="group",
        help="what will choose the checkpoint; ERM on several tasks was tuned for each",
    )
    group.add_argument(
        "--seeds", type=seed_list, metavar="0,1,2", help="default: those of the experiment"
    )
    group.add_argument(
        "--json_dir",
        type=expand,
        default=Path("outputs/spurious_eval"),
        help="the spurious matrix, for static_delta",
    )
    group.add_argument(
        "--log_root",
        "--log_dir",
        dest="log_dir",
        type=expand,
        default=Path("logs"),
        help="parent of the experiment's folder",
    )


def seed_list(text: str) -> tuple[int, ...]:
    """Parse `0,1,2` into numbers, each once."""
    try:
        seeds = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        seeds = (-1,)
    if min(seeds) < 0:
        raise argparse.ArgumentTypeError(f"'{text}': write numbers from 0 on, such as 0,1,2")
    return seeds


def experiment_jobs(args: argparse.Namespace, overrides: Sequence[str] = ()) -> list[Job]:
    """Return the training jobs that the flags of `add_experiment_arguments` select.

    Training starts them; evaluation reads their folders.
    """
    if args.opt is None:
        raise UserError("--opt is missing: python -m scripts.run_hparam_grid_train --list")
    experiment = find_experiment(args.opt, args.mtl_weighting, args.checkpoint_metric_type)
    matched = args.opt == STL_MATCHED
    if args.family is not None:
        if not matched:
            raise UserError(f"--family is for --opt {STL_MATCHED}; leave it out")
        experiment = replace(experiment, runs=single(FAMILIES[args.family]))
    if args.seeds is not None:
        experiment = replace(experiment, seeds=args.seeds)
    # The baseline only takes over the settings that were tuned for the weighting.
    weighting = "static_equal" if matched else args.mtl_weighting
    if weighting != "static_equal" and any(len(tasks) == 1 for tasks in experiment.runs):
        raise UserError(
            f"--opt {args.opt} trains one task at a time, there is nothing to weigh: leave out "
            f"--mtl_weighting {weighting}"
        )
    more = {}
    for tasks in experiment.runs:
        groupings = map(parse_grouping, tasks if weighting == "static_delta" else ())
        deltas = [read_delta(grouping, args.json_dir) for grouping in groupings]
        more[tasks] = weighting_values(weighting, deltas)
    return train_jobs(args.opt, experiment, args.log_dir, overrides, more)


def print_experiments() -> None:
    """Print every OPT, its method and its number of runs (for one --mtl_weighting)."""
    line = "{:<27} {:<7} {:>10} {:>9} {:>6} {:>5}"
    print(line.format("opt", "method", "task lists", "settings", "seeds", "runs"))
    for name in [*EXPERIMENTS, STL_MATCHED, *MTL_ERM_EXPERIMENTS]:
        experiment = find_experiment(name)
        counts = [len(getattr(experiment, part)) for part in ("runs", "settings", "seeds")]
        print(line.format(name, experiment.method, *counts, counts[0] * counts[1] * counts[2]))
    print(
        f"\n{STL_MATCHED}: the single-task baseline of the mtl_erm experiments: their groupings "
        f"alone,\nwith exactly their lr, weight decay, batch size and epochs; --family NAME takes "
        f"those of one family"
    )


if __name__ == "__main__":
    sys.exit(main())
