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

from src.api import open_run
from src.data.groupings import Grouping
from src.evaluation.evaluator import RunEvaluator
from src.evaluation.logits import log_losses, predictions
from src.evaluation.metrics import wilson
from src.evaluation.plots import group_bars, learning_curves, mistakes_sheet
from src.evaluation.results import evaluate, read_evaluation
from src.evaluation.table import interval, percent
from src.figures import save_figure
from src.io import UserError, exit_on_user_error, expand, write_json

IMAGES_PER_GROUP = 12
DRAWN = "Drawn faces: they show the mechanism and say nothing about CelebA. "


@dataclass(frozen=True)
class Outcome:
    """A run's evaluator, and its figures (see `metrics.summarise`) on test and after each epoch."""

    evaluator: RunEvaluator
    test: dict[str, Any]
    history: list[dict[str, Any]]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN")
    parser.add_argument("--out", type=expand, default=Path("outputs/demo"))
    args = parser.parse_args(argv)
    with exit_on_user_error():
        pairs = [text.partition("=")[::2] for text in args.runs]
        outcomes = {method: load_outcome(method, folder) for method, folder in pairs}
        groupings = [outcome.evaluator.groupings for outcome in outcomes.values()]
        grouping = groupings[0][0]
        if any(of != [grouping] for of in groupings):
            raise UserError("the runs have different groupings: compare runs of one grouping")
        rows = [summary_row(*pair) for pair in outcomes.items()]
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
    evaluator = RunEvaluator(run)
    grouping = evaluator.groupings[0]
    logits = evaluator.logits("last", "test")
    test = evaluate(logits, [grouping], evaluator.rows("test"))[grouping.name]
    epochs = [read_evaluation(run.epoch_stats(e)) for e in sorted(run.history()["epochs"])]
    return Outcome(evaluator, test, [epoch[grouping.name] for epoch in epochs])


def summary_row(method: str, outcome: Outcome) -> dict[str, Any]:
    """Return one method of summary.json; accuracies and their limits are fractions."""
    groups, worst = outcome.test["groups"], outcome.test["worst_group"]
    correct, total = (sum(group[key] for group in groups) for key in ("correct", "total"))
    low, high = wilson(correct, total)
    average = {"acc": outcome.test["avg_acc"], "low": low, "high": high, "total": total}
    of_worst = {key: groups[worst["id"]][key] for key in ("name", "total")}
    row = {"method": method, "run": str(outcome.evaluator.run.path), "average": average}
    return row | {"worst_group": worst | of_worst, "groups": groups}


def spell(figures: dict[str, Any]) -> str:
    """Format `44.4 (30.8-58.9) Blond_Hair=1 Male=1, n = 72`, in percent."""
    text = f"{percent(figures['acc'])} ({interval(figures)})"
    return f"{text} {figures['name']}, n = {figures['total']:,}" if "name" in figures else text


def draw(outcomes: dict[str, Outcome], grouping: Grouping, out: Path) -> None:
    first = next(iter(outcomes.values()))
    note = DRAWN if "synthetic" in str(first.evaluator.dataset.root) else ""
    worst = first.test["worst_group"]["id"]
    scores = ", ".join(
        f"{method} {percent(outcome.test['groups'][worst]['acc'], 0)} %"
        for method, outcome in outcomes.items()
    )
    title = f"{grouping.group_names[worst]} classified correctly: {scores}"
    tests = {method: outcome.test for method, outcome in outcomes.items()}
    small = f"{note}Test split, last epoch, 95 % Wilson intervals."
    save_figure(group_bars(title, tests, small), out / "accuracy_per_group.png")
    histories = {method: outcome.history for method, outcome in outcomes.items()}
    small = f"{note}Validation split, 95 % Wilson intervals; ringed: the epoch that is tested."
    figure = learning_curves("Accuracy while training", histories, small)
    save_figure(figure, out / "learning_curves.png")
    draw_mistakes(*next(iter(outcomes.items())), grouping, note, out)


def draw_mistakes(method: str, outcome: Outcome, grouping: Grouping, note: str, out: Path) -> None:
    """Draw some images of each group, by the probability that the network gives them."""
    evaluator, rng = outcome.evaluator, np.random.default_rng(0)
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
    groups = outcome.test["groups"]
    sheet = mistakes_sheet(
        f"Mistakes of {method}",
        [f"{g['name']}: {g['total'] - g['correct']:,} of {g['total']:,} wrong" for g in groups],
        [images.read(of) for of in shown],
        [wrong[of] for of in shown],
        [[f"{100 / (1 + np.exp(-logits[k])):.0f} %" for k in of] for of in shown],
        f"{note}A random sample of each group of the test split, by the probability of {what}; "
        f"red: mistakes.",
    )
    save_figure(sheet, out / f"{method.lower()}_mistakes.png")


if __name__ == "__main__":
    sys.exit(main())
