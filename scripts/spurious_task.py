"""The matrix job of one run: one pass of test.py, then the pairs of each of its tasks.

python -m scripts.spurious_task --log_dir RUN --json_dir outputs/spurious_eval

run_create_spurious_matrix starts one for each model. Tasks that are finished are skipped.
"""

import argparse
import contextlib
import json
import os
from pathlib import Path

import numpy as np

import test
from src.api import open_evaluator, open_run
from src.data.groupings import ATTRIBUTES, COLUMN
from src.evaluation.logits import Logits
from src.evaluation.predict import RunEvaluator
from src.io import UserError, exit_on_user_error
from src.spurious.delta import count_pairs
from src.spurious.plots import plot_task
from src.spurious.results import Labels, TaskResult, is_finished, write_labels, write_task


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log_dir", required=True, help="run folder of a trained model")
    parser.add_argument("--json_dir", type=Path, default=Path("outputs/spurious_eval"))
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument("--ckpt_num", default="best-avg")
    parser.add_argument("--root", help="folder of the data set, where it has moved since training")
    parser.add_argument("--device", help="auto, cpu or cuda")
    parser.add_argument("--batch_size", type=int, help="of this pass; changes no result")
    args = parser.parse_args(argv)
    with exit_on_user_error():
        evaluate_run(args)


def evaluate_run(args: argparse.Namespace) -> None:
    """Evaluate all tasks of a run on all their pairs and write them."""
    run = open_run(args.log_dir)
    evaluator = open_evaluator(run, args.root, args.device, args.batch_size)
    call_test(args, evaluator.tasks)
    logits = evaluator.logits(args.ckpt_num, args.split)  # those that test.py saved
    labels = collect_labels(evaluator, logits)
    write_labels(args.json_dir, labels)

    columns = [COLUMN[task] for task in logits.tasks]
    truth = labels.attributes[:, columns]  # (N, T)
    right = (logits.values > 0) == (truth == 1)  # (N, T)
    correct, total = count_pairs(right, truth, labels.attributes)  # (T, 40, 4)
    for number, task in enumerate(logits.tasks):
        if is_finished(args.json_dir, task, args.split, logits.source.checkpoint):
            continue
        result = TaskResult(
            task,
            str(run.path),
            {"name": args.ckpt_num, "epoch": logits.source.epoch, "hash": logits.source.checkpoint},
            logits.source.split,
            logits.source.rows,
            correct[number],
            total[number],
            right[:, number],
        )
        plot_task(args.json_dir / task, result)
        write_task(args.json_dir, result)
        print(f"{args.json_dir / task}: {len(ATTRIBUTES) - 1} pairs", flush=True)


def call_test(args: argparse.Namespace, tasks: tuple[str, ...]) -> None:
    """Call test.py once, with every other attribute of every task; its tables go nowhere."""
    groupings = [f"{task}:{name}" for task in tasks for name in ATTRIBUTES if name != task]
    call = ["--log_dir", str(args.log_dir), "--ckpt_num", args.ckpt_num, "--split", args.split]
    for option in ("root", "device", "batch_size"):
        if getattr(args, option) is not None:
            call += [f"--{option}", str(getattr(args, option))]
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        test.main([*call, "--groupings", json.dumps(groupings)])


def collect_labels(evaluator: RunEvaluator, logits: Logits) -> Labels:
    """The labels of the evaluated split, and how often attributes go together in training."""
    rows = evaluator.rows(logits.source.split)
    train = evaluator.rows("train").codes.astype(np.float32)  # (N, 40); exact up to 2^24
    if not len(rows):
        raise UserError(f"the {logits.source.split} split of {evaluator.dataset.root} is empty")
    return Labels(
        split=logits.source.split,
        data=logits.source.rows,
        root=str(evaluator.dataset.root),
        names=rows.names,
        attributes=rows.codes.astype(np.uint8),
        joint=(train.T @ train).round().astype(np.int64),
        num_train=len(train),
    )


if __name__ == "__main__":
    main()
