"""Show the epoch that each selection rule chooses, and its validation score.

python -m scripts.find_best_ckpt --log_dir RUN                    print a table of all rules
python -m scripts.find_best_ckpt --log_dir RUN --rule best-group  print the path of a checkpoint
"""

import argparse

from scripts.status import print_table
from src.evaluation.table import percent
from src.io import UserError, exit_on_user_error, expand


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log_dir", type=expand, required=True, help="run folder")
    parser.add_argument("--rule", help="best-avg, best-group, ..., last, an epoch; print its path")
    args = parser.parse_args(argv)
    with exit_on_user_error():
        from src.api import open_run
        from src.runs.selection import find_best_ckpt

        run = open_run(args.log_dir)
        if args.rule is not None:
            print(run.checkpoint(find_best_ckpt(run, args.rule)))
            return
        if not run.val_stats.exists():
            raise UserError(f"{run.path} has no validated epoch yet, so no rule has chosen one")
        history = run.history()
        rows = [
            (rule, str(epoch), percent(history["epochs"][epoch][rule]))
            for rule, epoch in history["selected"].items()
        ]
        print_table([("rule", "epoch", "validation %"), *rows])
        print(f"validated epochs: {len(history['epochs'])}; ties go to the earliest epoch")


if __name__ == "__main__":
    main()
