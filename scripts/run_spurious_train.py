"""Train a network for each of the 40 attributes, to find what each depends on.

python -m scripts.run_spurious_train --mode sbatch
python -m scripts.run_spurious_train --lr 0.0001 --wd 0.1 --batch_size 128 --epochs 25

The runs are in ./logs/spurious_id. --shared trains one network with all tasks.
"""

import argparse
import sys

from scripts.experiments import IDENTIFICATION, Experiment, Setting
from scripts.grids import train_jobs
from scripts.job_manager import JobManager, add_job_arguments, split_overrides
from src.data.celeba import ATTRIBUTES
from src.io import exit_on_user_error


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lr", type=float, default=IDENTIFICATION.lr)
    parser.add_argument("--wd", type=float, default=IDENTIFICATION.weight_decay)
    parser.add_argument("--batch_size", type=int, default=IDENTIFICATION.batch_size)
    parser.add_argument("--epochs", type=int, default=IDENTIFICATION.epochs)
    parser.add_argument("--tasks", nargs="+", default=ATTRIBUTES, help="default: CelebA's 40")
    parser.add_argument("--shared", action="store_true", help="one network for all tasks")
    add_job_arguments(parser, log_dir="./logs/spurious_id")
    ours, overrides = split_overrides(argv)
    args = parser.parse_args(ours)
    with exit_on_user_error():
        tasks = tuple(args.tasks)
        runs = (tasks,) if args.shared else tuple((task,) for task in tasks)
        setting = Setting(args.wd, args.lr, args.batch_size, args.epochs)
        experiment = Experiment("erm", runs, (setting,))
        jobs = train_jobs(args.log_dir.name, experiment, args.log_dir.parent, overrides)
        return JobManager.from_args(args).run(jobs)


if __name__ == "__main__":
    sys.exit(main())
