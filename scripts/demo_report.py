"""What the demo leaves behind: one table, summary.json, summary.csv and three pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

from src.data.celeba import load_annotations
from src.data.groupings import parse_grouping
from src.data.layout import ImageFiles
from src.data.pixels import open_image
from src.evaluation.logits import load_logits
from src.evaluation.metrics import wilson
from src.evaluation.results import read_evaluation
from src.evaluation.table import interval, percent
from src.io import write_atomic, write_json
from src.report.plots_groups import (
    Accuracies,
    face_sheet,
    group_bars,
    learning_curves,
    save_figure,
)
from src.runs.folder import Run

GROUPING = parse_grouping("Blond_Hair:Male")
GROUPS = ("non-blond women", "non-blond men", "blond women", "blond men")  # by group id
FACES_PER_GROUP = 12
FACE = 89  # pixels: the central 178x178, as the network sees it, halved
STAND_IN = (
    "Drawn faces with CelebA's attributes: they show the mechanism and say nothing of CelebA."
)


@dataclass(frozen=True)
class Outcome:
    """A tested method: its run, the test figures, and validation's (E epochs, G groups)."""

    method: str
    run: Run
    test: dict[str, Any]  # of the grouping, see src/evaluation/metrics.py summarise
    epoch: int
    curve: Accuracies


def write_report(out: Path, runs: Mapping[str, Run], root: Path, rule: str) -> None:
    """Print the table and fill the folder `out`.

    Args:
        runs: by method, ERM first; root: the drawn data set.
    """
    outcomes = [load_outcome(method, run, rule) for method, run in runs.items()]
    rows = [summary_row(outcome) for outcome in outcomes]
    about = {"split": "test", "checkpoint": f"{rule}, on the validation split", "data": str(root)}
    write_json(out / "summary.json", {**about, "grouping": GROUPING.name, "methods": rows})
    write_atomic(out / "summary.csv", flat(rows).to_csv(index=False))
    save_figure(draw_accuracies(outcomes), out / "accuracy_per_group.png")
    save_figure(draw_curves(outcomes), out / "learning_curves.png")
    save_figure(draw_mistakes(outcomes[0], root), out / "erm_mistakes.png")
    print_table(rows, rule)
    print("\n".join(["pictures and numbers:", *(f"  {path}" for path in sorted(out.glob("*.*")))]))


def load_outcome(method: str, run: Run, rule: str) -> Outcome:
    test = read_evaluation(run.stats("test", rule))
    stats = [read_evaluation(run.epoch_stats(epoch)) for epoch in sorted(run.history()["epochs"])]
    curve = accuracies([figures[GROUPING.name]["groups"] for figures in stats])
    return Outcome(method, run, test[GROUPING.name], int(test["checkpoint"]["epoch"]), curve)


def accuracies(rows: Sequence[Sequence[Mapping[str, Any]]]) -> Accuracies:
    """Percent (rows, G) of lists of groups; NaN for a group without examples."""
    parts = [
        100 * np.array([[group[key] for group in row] for row in rows], dtype=float)
        for key in ("acc", "low", "high")
    ]
    return Accuracies(*parts)


# ------------------------------------------------------------------------- numbers


def summary_row(outcome: Outcome) -> dict[str, Any]:
    """One method for summary.json; accuracies and their limits are fractions."""
    groups = outcome.test["groups"]
    correct, total = (sum(group[key] for group in groups) for key in ("correct", "total"))
    low, high = wilson(correct, total)
    worst = outcome.test["worst_group"]
    return {
        "method": outcome.method,
        "run": str(outcome.run.path),
        "epoch": outcome.epoch,
        "average": {"acc": outcome.test["avg_acc"], "low": low, "high": high, "n": total},
        "worst_group": {**worst, "name": GROUPS[worst["id"]], "n": groups[worst["id"]]["total"]},
        "groups": [{**group, "name": name} for group, name in zip(groups, GROUPS)],
    }


def flat(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The rows as a table: a line per method."""
    lines = []
    for row in rows:
        line = {key: row[key] for key in ("method", "run", "epoch")}
        for part in ("average", "worst_group"):
            line |= {f"{part}_{key}": value for key, value in row[part].items() if key != "id"}
        for group in row["groups"]:
            line |= {f"g{group['id']}_{key}": group[key] for key in ("acc", "low", "high")}
        lines.append(line)
    return pd.DataFrame(lines)


def print_table(rows: Sequence[dict[str, Any]], rule: str) -> None:
    size = rows[0]["average"]["n"]
    table = Table(
        title=f"{GROUPING.name}, test split (n = {size:,}), percent with 95 % intervals",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for column in ("method", "average", "", "worst group", "", "which", "n"):
        table.add_column(column, justify="left" if column in ("method", "which") else "right")
    for row in rows:
        average, worst = row["average"], row["worst_group"]
        table.add_row(
            row["method"],
            percent(average["acc"]),
            interval(average),
            percent(worst["acc"]),
            interval(worst),
            worst["name"],
            str(worst["n"]),
        )
    console = Console()
    console.print()
    console.print(table)
    console.print(
        f"Epochs were chosen by worst-group accuracy on the validation split ({rule}). {STAND_IN}",
        highlight=False,
    )


# ------------------------------------------------------------------------- pictures


def draw_accuracies(outcomes: Sequence[Outcome]) -> Figure:
    groups = [outcome.test["groups"] for outcome in outcomes]
    worst = outcomes[0].test["worst_group"]["id"]
    values = accuracies(groups)  # (M, G)
    return group_bars(
        f"{GROUPS[worst].capitalize()} classified correctly: "
        + scores(outcomes, values.value[:, worst]),
        [outcome.method for outcome in outcomes],
        GROUPS,
        [group["total"] for group in groups[0]],
        values,
        [100 * outcome.test["avg_acc"] for outcome in outcomes],
        note=f"Test split, 95 % Wilson intervals. {STAND_IN}",
    )


def draw_curves(outcomes: Sequence[Outcome]) -> Figure:
    worst = outcomes[0].test["worst_group"]["id"]
    chosen = [outcome.curve.value[outcome.epoch - 1, worst] for outcome in outcomes]
    return learning_curves(
        f"{GROUPS[worst].capitalize()} while learning: when chosen, {scores(outcomes, chosen)}",
        [outcome.method for outcome in outcomes],
        GROUPS,
        [outcome.curve for outcome in outcomes],
        [outcome.epoch for outcome in outcomes],
        note="Validation split, 95 % Wilson intervals; ringed: the chosen epoch, the one with the "
        f"best worst group. {STAND_IN}",
    )


def scores(outcomes: Sequence[Outcome], percents: Sequence[float]) -> str:
    """`ERM 32 %, RWG 92 %`; `-` where a group is empty."""
    shown = ["-" if np.isnan(value) else f"{value:.0f} %" for value in percents]
    return ", ".join(f"{outcome.method} {text}" for outcome, text in zip(outcomes, shown))


def draw_mistakes(outcome: Outcome, root: Path) -> Figure:
    """Faces of each group of the test split, drawn at random, with the method's mistakes marked."""
    rows = load_annotations(root).of_split("test")
    values = load_logits(outcome.run.logits("test", outcome.epoch)).of_task(GROUPING.task)  # (N,)
    blond = rows.column(GROUPING.task) != 0
    wrong = (values > 0) != blond
    chosen = choose_faces(GROUPING.group_ids(rows), values)
    images = ImageFiles(root)
    counts = [
        f"{name}, {figures['total'] - figures['correct']:,} of {figures['total']:,} wrong"
        for name, figures in zip(GROUPS, outcome.test["groups"])
    ]
    return face_sheet(
        f"Where {outcome.method} fails: {counts[outcome.test['worst_group']['id']]}",
        counts,
        [read_faces(images, rows, places) for places in chosen],
        [wrong[places] for places in chosen],
        [[f"{100 / (1 + np.exp(-values[k])):.0f} % blond" for k in places] for places in chosen],
        note=f"{FACES_PER_GROUP} faces per group, drawn at random from the test split, with the "
        f"network's probability of blond hair; red: its mistakes. {STAND_IN}",
    )


def choose_faces(groups: np.ndarray, values: np.ndarray) -> list[np.ndarray]:
    """Per group a random sample of its rows, in the order of their logits `values` (N,)."""
    rng = np.random.default_rng(0)
    chosen = []
    for group in range(GROUPING.num_groups):
        members = np.flatnonzero(groups == group)
        sample = rng.choice(members, min(FACES_PER_GROUP, len(members)), replace=False)
        chosen.append(sample[np.argsort(values[sample], kind="stable")])
    return chosen


def read_faces(images: ImageFiles, rows: Any, places: np.ndarray) -> np.ndarray:
    """The central squares of some rows' images, uint8 (K, FACE, FACE, 3)."""
    faces = np.empty((len(places), FACE, FACE, 3), np.uint8)
    for face, place in zip(faces, places):
        with open_image(images.read(rows.names[place])) as image:
            face[:] = image.convert("RGB").crop((0, 20, 178, 198)).resize((FACE, FACE))
    return faces
