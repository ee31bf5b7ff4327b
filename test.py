"""Measure a trained network: accuracy of every group, with intervals, the worst one marked.

python test.py --log_dir RUN --ckpt_num best-group --groupings '["Blond_Hair:Male"]' --split test
"""

import argparse
import json
from pathlib import Path

from src.data.groupings import parse_groupings
from src.io import UserError, exit_on_user_error, write_json


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--log_dir", required=True, help="run folder, such as logs/erm/...")
    parser.add_argument(
        "--ckpt_num",
        default="best-avg",
        help="an epoch, last, best-avg, best-group, best-worst, ...",
    )
    parser.add_argument(
        "--groupings",
        nargs="+",
        help="of the run's tasks, as a JSON list or one by one; default: those it was trained with",
    )
    parser.add_argument("--split", default="test", choices=("train", "val", "test"))
    parser.add_argument("--save_json", type=Path, help="write the result to this file, too")
    parser.add_argument("--root", help="folder of the data set, where it has moved since training")
    parser.add_argument("--device", help="auto, cpu or cuda")
    parser.add_argument("--batch_size", type=int, help="of this pass; changes no result")
    args = parser.parse_args(argv)

    with exit_on_user_error():
        if args.batch_size is not None and not 1 <= args.batch_size <= 10**9:
            raise UserError(f"--batch_size {args.batch_size}: at least 1, at most 1,000,000,000")
        groupings = parse_groupings(read_list(args.groupings)) if args.groupings else None
        # Imported here so that a mistake above is answered before torch is loaded.
        from src.evaluation.inference import RunEvaluator, open_run
        from src.evaluation.table import print_evaluation

        evaluator = RunEvaluator(open_run(args.log_dir), args.root, args.device, args.batch_size)
        result = evaluator.evaluate(args.ckpt_num, args.split, groupings)
        print_evaluation(result)
        if args.save_json:
            write_json(args.save_json, result)


def read_list(pieces: list[str]) -> list[str]:
    """A JSON list in one piece, or the entries themselves."""
    text = " ".join(pieces)
    if not text.lstrip().startswith("["):
        return pieces
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"--groupings {text[:200]}: no JSON list ({error}); write '[\"A:B\"]' or A:B"
        ) from error
    if not all(isinstance(entry, str) for entry in entries):
        raise UserError(f"--groupings {text[:200]}: a list of texts is expected")
    return entries


if __name__ == "__main__":
    main()
