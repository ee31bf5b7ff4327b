"""Tune learning rate, weight decay and batch size: on five tasks that stand for all, or on a pair.

python -m scripts.run_hparam_grid_search --opt erm            60 commands
python -m scripts.run_hparam_grid_search --opt erm --mode shell --report

The runs lie in ./logs/erm_tune. --report shows the validation figures of what is trained so far,
averaged over the tasks (and seeds, with --opt mtl_...), and the winner; with --mode shell after the
runs.
"""

import argparse
import sys

from scripts.grids import find_experiment, train_jobs
from scripts.job_manager import JobManager, add_job_arguments, split_overrides
from scripts.tuning_report import report
from src.io import UserError, exit_on_user_error

GRIDS = ("erm_tune", "suby_tune", "mtl_erm_tune", "mtl_suby_tune")
OPTS = {"erm": "erm_tune", "suby": "suby_tune"} | {name: name for name in GRIDS}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--opt", choices=OPTS, default="erm", help="the grid; mtl: two tasks at once"
    )
    parser.add_argument("--report", action="store_true", help="the results instead of commands")
    add_job_arguments(parser)
    ours, overrides = split_overrides(argv)
    args = parser.parse_args(ours)
    with exit_on_user_error():
        if args.report and args.mode == "sbatch":
            raise UserError("--report with --mode sbatch: give it again once the runs are done")
        name = OPTS[args.opt]
        experiment = find_experiment(name)
        manager = JobManager(args)
        jobs = train_jobs(name, experiment, args.log_dir, overrides)
        code = manager.run(jobs) if args.mode != "debug" or not args.report else 0
        if args.report:
            report(experiment, jobs, args.log_dir / name)
        return code


if __name__ == "__main__":
    sys.exit(main())
