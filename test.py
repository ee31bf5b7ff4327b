"""Evaluate a trained network: accuracy of every group with intervals, the worst one marked.

python test.py --log_dir RUN --ckpt_num best-group --groupings '["Blond_Hair:Male"]' --split test
"""

import argparse
import json

from src.io import UserError, at_least, exit_on_user_error, expand, write_json


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--log_dir", type=expand, required=True, help="run folder, such as logs/erm/..."
    )
    parser.add_argument(
        "--ckpt_num",
        default="best-avg",
        help="an epoch, last, best-avg, best-group, best-worst, ...",
    )
    parser.add_argument(
        "--groupings",
        nargs="+",
        help="of the run's tasks, as a JSON list or one by one; default: those of its training",
    )
    parser.add_argument("--split", default="test", help="train, val, test, or one of the table")
    parser.add_argument(
        "--logit_adjustment",
        type=at_least(0, float),
        metavar="TAU",
        help="lower logits by TAU x log priors",
    )
    parser.add_argument(
        "--adjust_by",
        default="class",
        choices=("class", "group"),
        help="the priors: of classes, or of classes among equal attributes, which are needed then",
    )
    parser.add_argument("--features", action="store_true", help="also save the features")
    parser.add_argument("--save_json", type=expand, help="write the result to this file, too")
    parser.add_argument("--root", type=expand, help="folder of the data set, if it has moved")
    parser.add_argument("--device", help="auto, cpu or cuda")
    parser.add_argument("--batch_size", type=at_least(1), help="of the pass; changes no result")
    args = parser.parse_args(argv)

    with exit_on_user_error():
        names = read_list(args.groupings) if args.groupings else None
        # Imported here so that a mistake above is reported before torch is loaded.
        from src.api import open_run
        from src.evaluation.evaluator import RunEvaluator
        from src.evaluation.table import print_evaluation

        evaluator = RunEvaluator(open_run(args.log_dir), args.root, args.device, args.batch_size)
        if args.features:
            evaluator.features(args.ckpt_num, args.split)
        tau = args.logit_adjustment
        adjustment = None if tau is None else (tau, args.adjust_by)
        result = evaluator.evaluate(args.ckpt_num, args.split, names, adjustment)
        print_evaluation(result)
        if args.save_json:
            write_json(args.save_json, result)


def read_list(pieces: list[str]) -> list[str]:
    """Read a JSON list, or return the entries themselves."""
    text = " ".join(pieces)
    if not text.lstrip().startswith("["):
        return pieces
    try:
        entries = json.loads(text)
    except ValueError as error:
        raise UserError(
            f"--groupings {text}: not a JSON list ({error}); write '[\"A:B\"]' or A:B"
        ) from error
    if not all(isinstance(entry, str) for entry in entries):
        raise UserError(f"--groupings {text}: use a list of texts")
    return entries


if __name__ == "__main__":
    main()
