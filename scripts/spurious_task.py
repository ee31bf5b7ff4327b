"""Evaluate one run on the groups of its tasks with all attributes: a job of the matrix.

python -m scripts.spurious_task --log_dir RUN --json_dir outputs/spurious_eval

run_create_spurious_matrix starts one for each model. Finished tasks are skipped.
"""

import argparse
from pathlib import Path

from src.api import open_run
from src.evaluation.evaluator import RunEvaluator
from src.io import exit_on_user_error, expand
from src.runs.selection import find_best_ckpt
from src.spurious.delta import binary_columns
from src.spurious.results import (
    Checkpoint,
    Summary,
    evaluate_pairs,
    is_finished,
    is_right,
    refuse_other_data,
    write_task,
)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--log_dir", type=expand, required=True, help="run folder of a trained model"
    )
    parser.add_argument("--json_dir", type=expand, default="outputs/spurious_eval")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument("--ckpt_num", default="best-avg")
    parser.add_argument("--tasks", nargs="+", help="only these of the run's tasks")
    parser.add_argument("--attributes", nargs="+", help="default: all binary columns")
    parser.add_argument("--figures", choices=("none", "paper", "all"), default="none")
    parser.add_argument(
        "--root", type=expand, help="folder of the data set, if it moved since training"
    )
    parser.add_argument("--device", help="auto, cpu or cuda")
    parser.add_argument("--batch_size", type=int, help="of this pass; changes no result")
    args = parser.parse_args(argv)
    with exit_on_user_error():
        evaluate_run(args, args.json_dir)


def evaluate_run(args: argparse.Namespace, folder: Path) -> None:
    """Evaluate the tasks of a run on all their pairs and write the results."""
    run = open_run(args.log_dir)
    evaluator = RunEvaluator(run, args.root, args.device, args.batch_size)
    rows = evaluator.rows(args.split)
    tasks = [task for task in evaluator.tasks if task in (args.tasks or evaluator.tasks)]
    binary_columns(rows, tasks)
    attributes = binary_columns(rows, args.attributes)
    logits = evaluator.logits(args.ckpt_num, args.split)  # saved ones, else one pass
    source, epoch = logits.source, find_best_ckpt(run, args.ckpt_num)
    root = str(evaluator.dataset.root)
    refuse_other_data(folder, args.split, source.rows, root)
    right = is_right(logits, rows, tasks)  # (N, T)
    for column, task in enumerate(tasks):
        pairs = evaluate_pairs(rows, right[:, [column]], [task], attributes)
        if args.figures == "all":
            from src.spurious.plots import plot_task

            plot_task(folder / task / "groups.png", pairs, args.split)
        if is_finished(folder, task, args.split, source.checkpoint, attributes):
            continue
        summary = Summary(
            task=task,
            run=str(run.path),
            checkpoint=Checkpoint(name=args.ckpt_num, epoch=source.epoch, hash=source.checkpoint),
            split=args.split,
            data=source.rows,
            root=root,
            moved_to=None if args.root is None else str(args.root),
            logits=str(run.logits(args.split, f"{epoch}{evaluator.tag(args.split)}")),
            attributes=list(attributes),
        )
        write_task(folder, summary, pairs)
        print(f"{folder / task}: {len(pairs)} pairs", flush=True)


if __name__ == "__main__":
    main()
