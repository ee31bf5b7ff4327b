"""Compare a few runs on one grouping: a table, accuracy per group, learning curves, mistakes.

python -m scripts.demo_report --out outputs/demo ERM=logs/demo/ERM RWG=logs/demo/RWG ...

The runs are evaluated on the test split at their last epoch, and share data and grouping. The sheet
of mistakes is that of the first run.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.api import open_evaluator, open_run
from src.data.groupings import Grouping
from src.evaluation.evaluator import RunEvaluator
from src.evaluation.logits import log_losses, predictions
from src.evaluation.metrics import wilson
from src.evaluation.plots import (
    Accuracies,
    group_bars,
    learning_curves,
    mistakes_sheet,
    save_figure,
)
from src.evaluation.results import evaluate, read_evaluation
from src.evaluation.table import interval, percent
from src.io import UserError, exit_on_user_error, expand, write_json

IMAGES_PER_GROUP = 12
DRAWN = "Drawn faces: they show the mechanism and say nothing about CelebA. "


@dataclass(frozen=True)
class Outcome:
    """A run's evaluator, its test figures (see `metrics.summarise`) and its validation curve."""

    method: str
    evaluator: RunEvaluator
    test: dict[str, Any]
    curve: Accuracies  # (E, G)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN")
    parser.add_argument("--out", type=expand, default=Path("outputs/demo"))
    args = parser.parse_args(argv)
    with exit_on_user_error():
        outcomes = [load_outcome(*text.partition("=")[::2]) for text in args.runs]
        grouping = outcomes[0].evaluator.groupings[0]
        if any(outcome.evaluator.groupings != [grouping] for outcome in outcomes):
            raise UserError("the runs have different groupings: compare runs of one grouping")
        rows = [summary_row(outcome) for outcome in outcomes]
        about = {"split": "test", "epoch": "last", "grouping": grouping.name}
        write_json(args.out / "summary.json", {**about, "methods": rows})
        draw(outcomes, grouping, args.out)
        shown = [(row["method"], *map(spell, (row["average"], row["worst_group"]))) for row in rows]
        table = pd.DataFrame(shown, columns=["method", "average", "worst group"])
        print(f"\n{grouping.name}, test split, last epoch; percent with 95 % intervals")
        print(table.to_string(index=False, justify="left"))
        print(f"\nfigures and numbers: {args.out}")


def load_outcome(method: str, folder: str) -> Outcome:
    if not folder:
        raise UserError(f"{method}: give runs as NAME=RUN, such as ERM=logs/demo/ERM")
    run = open_run(folder)
    evaluator = open_evaluator(run)
    grouping = evaluator.groupings[0]
    logits = evaluator.logits("last", "test")
    test = evaluate(logits, [grouping], evaluator.rows("test"))[grouping.name]
    epochs = [read_evaluation(run.epoch_stats(e)) for e in sorted(run.history()["epochs"])]
    curve = Accuracies.of_groups([epoch[grouping.name]["groups"] for epoch in epochs])
    return Outcome(method, evaluator, test, curve)


def summary_row(outcome: Outcome) -> dict[str, Any]:
    """Return one method of summary.json; accuracies and their limits are fractions."""
    groups, worst = outcome.test["groups"], outcome.test["worst_group"]
    correct, total = (sum(group[key] for group in groups) for key in ("correct", "total"))
    low, high = wilson(correct, total)
    average = {"acc": outcome.test["avg_acc"], "low": low, "high": high, "total": total}
    of_worst = {key: groups[worst["id"]][key] for key in ("name", "total")}
    run = str(outcome.evaluator.run.path)
    row = {"method": outcome.method, "run": run, "average": average}
    return row | {"worst_group": worst | of_worst, "groups": groups}


def spell(figures: dict[str, Any]) -> str:
    """Format `44.4 (30.8-58.9) Blond_Hair=1 Male=1, n = 72`, in percent."""
    text = f"{percent(figures['acc'])} ({interval(figures)})"
    return f"{text} {figures['name']}, n = {figures['total']:,}" if "name" in figures else text


def draw(outcomes: list[Outcome], grouping: Grouping, out: Path) -> None:
    methods, first = [outcome.method for outcome in outcomes], outcomes[0]
    names, groups = grouping.group_names, first.test["groups"]
    note = DRAWN if "synthetic" in str(first.evaluator.dataset.root) else ""
    values = Accuracies.of_groups([outcome.test["groups"] for outcome in outcomes])
    worst = first.test["worst_group"]["id"]
    scores = ", ".join(f"{m} {v:.0f} %" for m, v in zip(methods, values.value[:, worst]))
    averages = [100 * outcome.test["avg_acc"] for outcome in outcomes]
    sizes = [group["total"] for group in groups]
    title = f"{names[worst]} classified correctly: {scores}"
    small = f"{note}Test split, last epoch, 95 % Wilson intervals."
    bars = group_bars(title, methods, names, sizes, values, averages, small)
    save_figure(bars, out / "accuracy_per_group.png")

    curves = [outcome.curve for outcome in outcomes]
    lasts = [len(curve.value) for curve in curves]
    small = f"{note}Validation split, 95 % Wilson intervals; ringed: the epoch that is tested."
    figure = learning_curves("Accuracy while training", methods, names, curves, lasts, small)
    save_figure(figure, out / "learning_curves.png")

    evaluator, rng = first.evaluator, np.random.default_rng(0)
    rows, images = evaluator.rows("test"), evaluator.dataset.images("test")
    logits = evaluator.logits("last", "test").of_task(grouping.task)  # (N,)
    labels, ids = grouping.labels(rows), grouping.group_ids(rows)
    wrong, what = predictions(logits) != labels, f"{grouping.task}=1"
    if logits.ndim == 2:  # (N, K); with the loss -log p, the log odds of p are -log(1/p - 1)
        losses = log_losses(logits, labels.clip(min=0))
        logits, what = -np.log(np.expm1(losses.clip(1e-12))), "the true class"
    members = (np.flatnonzero(ids == group) for group in range(grouping.num_groups))
    shown = [rng.choice(of, min(IMAGES_PER_GROUP, len(of)), replace=False) for of in members]
    shown = [of[np.argsort(logits[of], kind="stable")] for of in shown]
    sheet = mistakes_sheet(
        f"Mistakes of {first.method}",
        [f"{g['name']}: {g['total'] - g['correct']:,} of {g['total']:,} wrong" for g in groups],
        [images.read(of) for of in shown],
        [wrong[of] for of in shown],
        [[f"{100 / (1 + np.exp(-logits[k])):.0f} %" for k in of] for of in shown],
        f"{note}A random sample of each group of the test split, by the probability of {what}; "
        f"red: mistakes.",
    )
    save_figure(sheet, out / f"{first.method.lower()}_mistakes.png")


if __name__ == "__main__":
    sys.exit(main())
