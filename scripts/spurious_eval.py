"""From the matrix folder to the list of spurious pairs, clusters, figures and the explorer page.

python -m scripts.spurious_eval --json_dir outputs/spurious_eval --out_dir outputs/svd \\
    --gamma 0.9 --k 10
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from src.api import open_run
from src.evaluation.evaluator import RunEvaluator
from src.io import UserError, exit_on_user_error, expand, write_json
from src.spurious.clusters import find_clusters, svd_features
from src.spurious.delta import knee
from src.spurious.explorer import choose_faces, write_explorer
from src.spurious.matrix import (
    build_matrix,
    describe_clusters,
    phi_rank_correlation,
    resample_clusters,
)
from src.spurious.pairs import write_table
from src.spurious.plots import plot_matrix
from src.spurious.results import MAKE, finished, read_evaluated


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json_dir", type=expand, default="outputs/spurious_eval")
    parser.add_argument("--out_dir", type=expand, default="outputs/svd")
    parser.add_argument("--gamma", type=float, default=0.9, help="share of variance to keep")
    parser.add_argument("--k", type=int, default=10, help="number of clusters")
    parser.add_argument("--tasks", nargs="+", help="default: all finished ones")
    parser.add_argument("--attributes", nargs="+", help="default: all that were evaluated")
    parser.add_argument("--resamples", type=int, default=200, help="of images, for stability")
    parser.add_argument(
        "--figures", choices=("paper", "all"), default="paper", help="all: also clusters"
    )
    parser.add_argument(
        "--thumbnails",
        type=int,
        default=0,
        metavar="N",
        help="show N example images of each group on the page; the page then holds images of the "
        "data set: do not pass it on (default: none)",
    )
    parser.add_argument("--root", type=expand, help="folder of the data set, if it moved")
    args = parser.parse_args(argv)
    with exit_on_user_error():
        for name, least in (("resamples", 1), ("thumbnails", 0)):
            if getattr(args, name) < least:
                raise UserError(f"--{name} {getattr(args, name)}: use at least {least}")
        evaluate(args, args.json_dir, args.out_dir)


def evaluate(args: argparse.Namespace, json_dir: Path, out_dir: Path) -> None:
    """Write the table, the clusters, the figures and the page."""
    summaries = [s for s in finished(json_dir) if s.task in (args.tasks or [s.task])]
    if not summaries:
        of = f" of {', '.join(args.tasks)}" if args.tasks else ""
        raise UserError(f"{json_dir} holds no finished task{of}: {MAKE}")
    opened = RunEvaluator(open_run(summaries[0].run), args.root or summaries[0].moved_to)
    rows, train = opened.rows(summaries[0].split), opened.rows("train")
    evaluated = read_evaluated(summaries, rows, train, args.attributes)
    matrix = build_matrix(evaluated)
    clusters = find_clusters(matrix.filled, matrix.square, args.k, args.gamma)

    def progress(rounds: range) -> Any:
        return tqdm(rounds, desc="resampling", leave=False, disable=None)

    together = resample_clusters(evaluated, args.k, args.gamma, args.resamples, progress=progress)
    deltas = np.array([pair["delta"] for pair in matrix.pairs if pair["delta"] is not None])
    threshold = knee(deltas)
    split = summaries[0].split
    summary = {
        "split": split,
        "tasks": len(matrix.tasks),
        "pairs": len(deltas),
        "tested": sum(pair["tested"] for pair in matrix.pairs),
        "q_at_most_0.05": sum(pair["q"] is not None and pair["q"] <= 0.05 for pair in matrix.pairs),
        "threshold": threshold,
        "above_threshold": None if threshold is None else int((deltas > threshold).sum()),
        "rank_correlation_of_phi_and_delta": phi_rank_correlation(matrix),
        "gamma": args.gamma,
        "k": args.k,
        "d_attributes": svd_features(matrix.filled, args.gamma).shape[1],
        "d_tasks": svd_features(matrix.filled.T, args.gamma).shape[1],
        "resamples": args.resamples,
        "clusters": describe_clusters(matrix, clusters, together),
    }
    faces = choose_faces(evaluated, opened.dataset, args.thumbnails) if args.thumbnails else []
    write_table(out_dir / "spurious_correlations.csv", matrix.pairs, split)
    write_json(out_dir / "clusters.json", summary)
    plot_matrix(out_dir, matrix, clusters, threshold, args.figures == "all")
    page = json_dir / "index.html"
    write_explorer(page, matrix, evaluated, clusters, summary, faces, args.thumbnails)
    print_summary(summary, matrix.pairs)
    print(f"table, clusters and figures: {out_dir}; the explorer: {page}")


def print_summary(summary: dict[str, Any], pairs: list[dict[str, Any]]) -> None:
    """Print the counts and the ten strongest pairs."""
    print(
        f"{summary['tasks']} tasks, {summary['pairs']} pairs with a delta on {summary['split']}, "
        f"{summary['tested']} tested, {summary['q_at_most_0.05']} of these with q <= 0.05"
    )
    if summary["threshold"] is not None:
        print(
            f"suggested threshold (knee of the sorted deltas): {summary['threshold']:.1f}; "
            f"{summary['above_threshold']} pairs above it, significant or not"
        )
    tested = sorted((row for row in pairs if row["tested"]), key=lambda row: -row["delta"])
    for row in tested[:10]:
        print(f"  {row['delta']:6.1f} +- {row['se']:4.1f}  {row['task']}:{row['attribute']}")


if __name__ == "__main__":
    main()
