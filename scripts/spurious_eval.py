"""From the matrix folder to the list of spurious pairs, clusters, pictures and the explorer page.

python -m scripts.spurious_eval --json_dir outputs/spurious_eval --out_dir outputs/svd \\
    --gamma 0.9 --k 10
"""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from src.io import UserError, exit_on_user_error, write_json
from src.spurious.clusters import find_clusters, svd_features
from src.spurious.delta import knee
from src.spurious.explorer import write_explorer
from src.spurious.matrix import (
    build_matrix,
    describe_clusters,
    phi_rank_correlation,
    resample_clusters,
    table_rows,
)
from src.spurious.pairs import write_table
from src.spurious.plots_matrix import plot_all
from src.spurious.results import read_labels, read_tasks
from src.spurious.thumbnails import choose_thumbnails


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json_dir", type=Path, default=Path("outputs/spurious_eval"))
    parser.add_argument("--out_dir", type=Path, default=Path("outputs/svd"))
    parser.add_argument("--gamma", type=float, default=0.9, help="share of variance to keep")
    parser.add_argument("--k", type=int, default=10, help="number of clusters")
    parser.add_argument("--resamples", type=int, default=200, help="to see how stable clusters are")
    parser.add_argument(
        "--thumbnails",
        type=int,
        default=0,
        metavar="N",
        help="show N example faces of each group on the page; such a page holds images of the "
        "data set: do not pass it on (default: none)",
    )
    parser.add_argument("--root", type=Path, help="the data set's folder, for the thumbnails")
    args = parser.parse_args(argv)
    with exit_on_user_error():
        for name, least in (("resamples", 1), ("thumbnails", 0)):
            if getattr(args, name) < least:
                raise UserError(f"--{name} {getattr(args, name)}: at least {least}")
        evaluate(args)


def evaluate(args: argparse.Namespace) -> None:
    labels, results = read_labels(args.json_dir), read_tasks(args.json_dir)
    matrix = build_matrix(results, labels)
    clusters = find_clusters(matrix.filled, matrix.columns, args.k, args.gamma)
    together = resample_clusters(
        results,
        labels,
        args.k,
        args.gamma,
        args.resamples,
        progress=lambda rounds: tqdm(rounds, desc="resampling", leave=False),
    )
    deltas = matrix.delta[~np.isnan(matrix.delta)]
    threshold = knee(deltas)
    called = np.nan_to_num(matrix.q, nan=1.0) <= 0.05
    summary = {
        "split": labels.split,
        "tasks": len(matrix.tasks),
        "pairs": len(deltas),
        "tested": int(matrix.tested.sum()),
        "q_at_most_0.05": int(called.sum()),
        "threshold": threshold,
        "above_threshold": None if threshold is None else int((deltas > threshold).sum()),
        "rank_correlation_of_phi_and_delta": phi_rank_correlation(matrix),
        "gamma": args.gamma,
        "k": args.k,
        "d_attributes": svd_features(matrix.filled, args.gamma).d,
        "d_tasks": svd_features(matrix.filled.T, args.gamma).d,
        "resamples": args.resamples,
        "clusters": describe_clusters(matrix, clusters, together),
    }
    rows = table_rows(matrix, labels.split)
    write_table(args.out_dir / "spurious_correlations.csv", rows)
    write_json(args.out_dir / "clusters.json", summary)
    plot_all(args.out_dir, matrix, clusters, together, args.gamma, threshold)
    thumbnails = None
    if args.thumbnails:
        thumbnails = choose_thumbnails(results, labels, args.thumbnails, args.root)
    page = args.json_dir / "index.html"
    write_explorer(page, matrix, labels, results, clusters, summary, thumbnails)
    print_summary(summary, rows, args.out_dir, page)


def print_summary(summary: dict, rows: list[dict], out_dir: Path, page: Path) -> None:
    """The counts and the ten strongest pairs, and where the rest is."""
    print(
        f"{summary['tasks']} tasks, {summary['pairs']} pairs with a delta on {summary['split']}, "
        f"{summary['tested']} tested, {summary['q_at_most_0.05']} with q <= 0.05"
    )
    if summary["threshold"] is not None:
        print(
            f"suggested threshold: delta {summary['threshold']:.1f} "
            f"({summary['above_threshold']} pairs above it)"
        )
    tested = sorted((row for row in rows if row["tested"]), key=lambda row: -row["delta"])
    for row in tested[:10]:
        print(f"  {row['delta']:6.1f} +- {row['se']:4.1f}  {row['task']}:{row['attribute']}")
    print(f"table, clusters and pictures: {out_dir}; the explorer: {page}")


if __name__ == "__main__":
    main()
