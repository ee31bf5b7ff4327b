"""Train a network for each attribute, to find what each depends on.

python -m scripts.run_spurious_train --mode sbatch
python -m scripts.run_spurious_train --lr 0.0001 --wd 0.1 --batch_size 128 --epochs 25

The runs are in ./logs/spurious_id. --shared trains one network with all tasks. For a table of your
own: python -m scripts.run_spurious_train --mode shell -- exp/dataset=table exp.dataset.root=DIR
"""

import argparse
import sys

from scripts.experiments import IDENTIFICATION, Experiment, Setting
from scripts.grids import train_jobs
from scripts.job_manager import JobManager, add_job_arguments, split_overrides
from src.config.compose import load_config
from src.config.dataset import dataset_options
from src.data.celeba import ATTRIBUTES
from src.data.dataset import open_dataset
from src.io import exit_on_user_error
from src.spurious.delta import binary_columns


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lr", type=float, default=IDENTIFICATION.lr)
    parser.add_argument("--wd", type=float, default=IDENTIFICATION.weight_decay)
    parser.add_argument("--batch_size", type=int, default=IDENTIFICATION.batch_size)
    parser.add_argument("--epochs", type=int, default=IDENTIFICATION.epochs)
    parser.add_argument("--tasks", nargs="+", help="default: all binary columns; CelebA has 40")
    parser.add_argument("--shared", action="store_true", help="one network for all tasks")
    add_job_arguments(parser, log_dir="./logs/spurious_id")
    ours, overrides = split_overrides(argv)
    args = parser.parse_args(ours)
    with exit_on_user_error():
        tasks = tuple(args.tasks or binary_tasks(overrides))
        runs = (tasks,) if args.shared else tuple((task,) for task in tasks)
        setting = Setting(args.wd, args.lr, args.batch_size, args.epochs)
        experiment = Experiment("erm", runs, (setting,))
        jobs = train_jobs(args.log_dir.name, experiment, args.log_dir.parent, overrides)
        return JobManager(args).run(jobs)


def binary_tasks(overrides: list[str]) -> tuple[str, ...]:
    """Return the binary columns of the data set that the overrides choose."""
    options = load_config(["exp=erm", *overrides]).dataset
    if options.name in ("celeba", "synthetic"):
        return ATTRIBUTES  # known without the data
    return binary_columns(open_dataset(**dataset_options(options), workers=0).table)


if __name__ == "__main__":
    sys.exit(main())
