"""Does a network lean on an attribute, in its features or in its last layer?

python -m scripts.probe_features --log_dir RUN

Fits linear probes for the task and for the attribute on the features of validation, and a last
layer on equally large groups; all are measured on test. Features are saved in the run folder, so
that a second call takes seconds. Writes results/<split>_probes_<checkpoint>.json, which
report_results shows.
"""

import argparse
from typing import TYPE_CHECKING

from src.io import exit_on_user_error, expand, write_json

if TYPE_CHECKING:
    from src.runs.probes import Probes


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--log_dir", type=expand, required=True, help="run folder, such as logs/erm/..."
    )
    parser.add_argument("--ckpt_num", help="an epoch, last, or a rule; default best-group")
    parser.add_argument("--groupings", nargs="+", help="Task:Attr; default: those of the training")
    parser.add_argument("--fit", default="val", help="split to fit on")
    parser.add_argument("--split", default="test", help="split to measure on")
    parser.add_argument("--root", type=expand, help="folder of the data set, if it has moved")
    parser.add_argument("--device", help="auto, cpu or cuda")
    args = parser.parse_args(argv)
    with exit_on_user_error():
        from src.api import load_run
        from src.evaluation.logits import predictions
        from src.io import UserError
        from src.runs.probes import ProbeFile
        from src.spurious.probes import probe

        if args.fit == args.split:
            raise UserError("--fit and --split are the same split: probes need rows they never saw")
        run = load_run(args.log_dir, args.ckpt_num, args.root, args.device)
        evaluator = run.evaluator
        groupings = evaluator.read_groupings(args.groupings)
        splits = args.fit, args.split
        features = tuple(run.features(split) for split in splits)
        rows = tuple(evaluator.rows(split) for split in splits)
        logits = evaluator.logits(run.checkpoint, args.split)
        probes = []
        for grouping in groupings:
            own = predictions(logits.of_task(grouping.task))
            probes.append(probe(grouping, features, rows, own))
            show(probes[-1], args.fit, args.split)
        tag = evaluator.tag(args.split) or evaluator.tag(args.fit)
        found = ProbeFile(
            epoch=run.epoch,
            fit=args.fit,
            measured=args.split,
            other_data=bool(tag),
            probes=probes,
        )
        path = evaluator.run.probes(args.split, f"{run.checkpoint}{tag}")
        write_json(path, found.model_dump())
        print(path)


def show(probes: "Probes", fit: str, split: str) -> None:
    """Print the figures in percent, and the verdict."""
    from src.evaluation.table import percent

    size = f"{probes.group_size:,} per group"
    print(f"{probes.grouping}: fitted on {fit} ({size}), measured on {split}")
    for name, head in ("own", probes.own), ("balanced", probes.balanced):
        interval = f"{percent(head.low)}-{percent(head.high)}"
        worst = f"{percent(head.worst)} % ({interval}) of {head.worst_group}"
        print(f"{name} last layer: average {percent(head.average)} %, worst group {worst}")
    for column, accuracy in probes.accuracies.items():
        print(f"linear probe of {column}: {percent(accuracy)} % (mean over classes)")
    print(f"{probes.verdict} (p = {probes.p_value:.2g})\n")


if __name__ == "__main__":
    main()
