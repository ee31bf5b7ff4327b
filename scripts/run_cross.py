"""Train and report all pairs of a method and a task weighting.

python -m scripts.run_cross --methods erm,rwg,group_dro --weightings static,uw,famo,upgrad \\
    --family mtl_stl --mode shell

Each pair is trained on the task lists of the family, each method also on each task alone, all at
the same settings. Writes cross.csv and cross.html, and beside them the report of all runs, to
--out_dir. The same command resumes interrupted runs, and reports what is done.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts import report_results
from scripts.experiments import FAMILIES, MTL_ERM, SEEDS, single
from scripts.grids import setting_values, train_job
from scripts.job_manager import Job, JobManager, add_job_arguments, split_overrides
from scripts.run_hparam_grid_train import seed_list
from scripts.status import print_table
from src.config.overrides import CONFIG_DIR
from src.io import UserError, did_you_mean, exit_on_user_error, expand, read_json, write_atomic
from src.objective.options import ACROSS, GRADIENT
from src.runs.folder import Run


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        conflict_handler="resolve",
    )
    add_job_arguments(parser)
    group = parser.add_argument_group("experiment")
    group.add_argument("--methods", default="erm,rwg,group_weights,group_dro", metavar="A,B")
    group.add_argument("--weightings", default="static,uw,famo,upgrad", metavar="A,B")
    group.add_argument("--family", choices=FAMILIES, default="mtl_stl", help="task lists")
    group.add_argument("--tasks", metavar="T1:A1,T2:A2", help="one task list, instead of a family")
    group.add_argument("--seeds", type=seed_list, default=SEEDS, metavar="0,1,2")
    group.add_argument("--split", default="test", choices=("val", "test"))
    group.add_argument("--rule", default="best-group", help="of the printed table")
    group.add_argument("--out_dir", type=expand, default=Path("outputs/cross"))
    group.add_argument("--device", help="auto, cpu or cuda; for the evaluation")
    ours, overrides = split_overrides(argv)
    args = parser.parse_args(ours)
    with exit_on_user_error():
        jobs = cross_jobs(args, overrides)
        code = JobManager(args).run(jobs)
        done = [job.run_dir for job in jobs if Run(job.run_dir).status()["state"] == "done"]
        if args.mode == "debug" or not done:
            return code
        return report(done, args) or code


def cross_jobs(args: argparse.Namespace, overrides: Sequence[str] = ()) -> list[Job]:
    """Return the jobs: per method each task alone, then all tasks with each weighting.

    Raises:
        UserError: an unknown name.
    """
    lists = (tuple(args.tasks.split(",")),) if args.tasks else FAMILIES[args.family]
    known = sorted(path.stem for path in (CONFIG_DIR / "exp").glob("*.yaml"))
    methods = names(args.methods, "--methods", known)
    weightings = names(args.weightings, "--weightings", (*ACROSS, *GRADIENT))
    setting = setting_values(MTL_ERM["group"]["static_equal"])
    jobs = []
    for method in methods:
        runs = [(tasks, "static") for tasks in single(lists)]
        for weighting in weightings:
            runs += [(tasks, weighting) for tasks in lists]
        jobs += [
            train_job(
                f"cross/{method}",
                *(method, tasks, setting | weighting_values(weighting), seed),
                *(args.log_dir, overrides),
            )
            for tasks, weighting in dict.fromkeys(runs)
            for seed in args.seeds
        ]
    return jobs


def names(text: str, flag: str, known: Sequence[str]) -> list[str]:
    """Split a list of names, each once."""
    chosen = list(dict.fromkeys(text.split(",")))
    unknown = [name for name in chosen if name not in known]
    if unknown:
        name = unknown[0]
        raise UserError(f"{flag} {name}: there is no such name{did_you_mean(name, known)}")
    return chosen


def weighting_values(weighting: str) -> dict[str, Any]:
    """Return a weighting as configuration keys and values."""
    if weighting == "static":
        return {}
    layer = "gradient" if weighting in GRADIENT else "across"
    return {f"exp.objective.{layer}": weighting}


def report(folders: Sequence[Path], args: argparse.Namespace) -> int:
    """Write the report of finished runs, and the cross; print the latter."""
    from src.report.cross import cross_table, shown, write_cross_page

    command = ["--log_dirs", *map(str, folders), "--split", args.split, "--no_figures"]
    command += ["--out_dir", str(args.out_dir), *(["--device", args.device] if args.device else [])]
    code = report_results.main(command)
    table = cross_table(read_json(args.out_dir / "report.json", dict[str, Any]))
    if table.empty:
        print("no pair of a method and a weighting is finished")
        return code
    write_atomic(args.out_dir / "cross.csv", table.to_csv(index=False))
    write_cross_page(args.out_dir / "cross.html", table, "index.html")
    for tasks, lines in table[table["rule"] == args.rule].groupby("tasks", sort=False):
        text = shown(lines)
        print(f"\n{tasks}; epochs by {args.rule}, {args.split} split\n")
        print_table([tuple(text.columns), *text.astype(str).itertuples(index=False, name=None)])
    print(f"\n{args.out_dir / 'cross.html'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
