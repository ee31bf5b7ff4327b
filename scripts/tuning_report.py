"""Report a hyperparameter grid: a table, a heatmap and the winner."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from scripts.experiments import Experiment
from scripts.jobs.job import Job
from src.io import UserError
from src.runs.folder import Run

# The rules that select an epoch of each run, and the figure that is averaged over runs.
RULES = {"best-avg": "average accuracy", "best-group": "worst-group accuracy"}
SETTING = ["weight decay", "lr", "batch"]


def report(experiment: Experiment, jobs: Sequence[Job], folder: Path) -> None:
    """Print the table and the winners, and write heatmap.png into `folder`."""
    wanted = len(experiment.runs) * len(experiment.seeds)
    table = collect(experiment, jobs, wanted)
    done = table["runs"].sum()
    print(f"validation, mean over {wanted} runs each; {done} of {len(jobs)} runs are done\n")
    shown = table.rename(columns={"best-avg": "average %", "best-group": "worst %"})
    print(shown.to_string(index=False, na_rep="-", float_format="{:g}".format))
    print()
    complete = table.dropna()
    missing = len(table) - len(complete)
    for rule, figure in RULES.items():
        if complete.empty:
            print(f"winner by {figure}: no setting has all its runs yet")
            continue
        best = complete.loc[complete[rule].idxmax()]  # of equal ones the first
        values = f"lr {best['lr']:g}, weight decay {best['weight decay']:g}"
        line = f"winner by {figure}: {values}, batch {best['batch']:g} ({best[rule]:.2f} %)"
        print(line + (f"; {missing} settings are not complete yet" if missing else ""))
    if len(complete):
        plot(table, folder / "heatmap.png")
        print(f"\n{folder / 'heatmap.png'}")


def collect(experiment: Experiment, jobs: Sequence[Job], wanted: int) -> pd.DataFrame:
    """Return a line per setting with the number of finished runs, and means in percent.

    A mean is NaN while one of the `wanted` runs is missing, as tasks differ in difficulty.

    Args:
        jobs: those of `grids.train_jobs`, settings slowest.
    """
    lines = []
    for place, setting in enumerate(experiment.settings):
        found = []
        for job in jobs[place * wanted : (place + 1) * wanted]:
            run = Run(job.run_dir)
            if run.status()["state"] == "done":
                history = run.history()
                if missing := RULES.keys() - history["selected"].keys():
                    raise UserError(f"{run.path} has no {missing.pop()}: it has no group labels")
                found.append([history["epochs"][history["selected"][r]][r] for r in RULES])
        means = 100 * np.mean(found, axis=0) if len(found) == wanted else [np.nan] * len(RULES)
        values = setting.weight_decay, setting.lr, setting.batch_size
        lines.append([*values, len(found), *means])
    return pd.DataFrame(lines, columns=[*SETTING, "runs", *RULES])


def plot(table: pd.DataFrame, path: Path) -> None:
    """Draw weight decay x lr, a panel per batch size and rule."""
    import seaborn
    from matplotlib.figure import Figure

    from src.figures import save_figure

    batches = table.groupby("batch")
    figure = Figure(figsize=(8, 0.4 + 2.6 * len(batches)), layout="constrained")
    for axes, (batch, same) in zip(figure.subplots(len(batches), 2, squeeze=False), batches):
        for axis, (rule, name) in zip(axes, RULES.items()):
            grid = same.pivot(index="weight decay", columns="lr", values=rule)
            seaborn.heatmap(grid, annot=True, fmt=".1f", cmap="viridis", ax=axis, cbar=False)
            axis.set_title(f"{name} %, batch {batch}", fontsize="medium", loc="left")
    save_figure(figure, path)
