"""Which epoch is best, by which rule, and which checkpoint a name stands for."""

from typing import Any

from src.evaluation.results import read_evaluation, task_figures
from src.io import UserError, write_json
from src.runs.folder import Run, is_epoch


def scores(figures: dict[str, Any], by_group: bool) -> dict[str, float | None]:
    """Return what each selection rule maximises, from one epoch's validation figures.

    best-avg: mean over tasks of average accuracy; best-group: mean over tasks of worst-group
    accuracy; for several tasks also best-worst (the minimum) and one rule per task. Without groups
    the last three are replaced by best-class: mean over tasks of worst-class accuracy.

    Args:
        figures: grouping name to figures (see `metrics.summarise`), one grouping per task.
        by_group: whether there are groups; without, the rules that need them are left out.

    Returns:
        None for each rule if no example was held out (the last fit used all of validation).
    """
    average = {name.partition(":")[0]: values["avg_acc"] for name, values in figures.items()}
    several = len(figures) > 1
    if None in average.values():
        names = ["best-avg", "best-group" if by_group else "best-class"]
        names += ["best-worst"] * (by_group and several)
        return dict.fromkeys(names)
    rules = {"best-avg": sum(average.values()) / len(average)}
    if several:
        rules |= {f"best-avg-{task}": value for task, value in average.items()}
    if any(values["worst_group"] is None for values in figures.values()):
        return rules  # no example of known group
    worst = {
        name.partition(":")[0]: values["worst_group"]["acc"] for name, values in figures.items()
    }
    if not by_group:
        rules["best-class"] = sum(worst.values()) / len(worst)
    else:
        rules["best-group"] = sum(worst.values()) / len(worst)
        if several:
            rules["best-worst"] = min(worst.values())
            rules |= {f"best-group-{task}": value for task, value in worst.items()}
    return rules


def record_validation(run: Run, epoch: int, rules: dict[str, float]) -> dict[str, Any]:
    """Add an epoch to val_stats.json and select again; of equal epochs the first stays selected.

    Epochs after `epoch` are dropped: those epochs are being retrained. Earlier ones that are
    missing (the file was deleted) are read from their own files.
    """
    known = run.history()["epochs"] if run.val_stats.exists() else {}
    epochs = {e: values for e, values in known.items() if e < epoch}
    for e in range(1, epoch):
        if e not in epochs and run.epoch_stats(e).exists():
            figures = task_figures(read_evaluation(run.epoch_stats(e)))
            epochs[e] = scores(figures, by_group="best-group" in rules)
    epochs = dict(sorted(epochs.items())) | {epoch: rules}
    selected = {rule: max(epochs, key=lambda e: (epochs[e].get(rule) or 0.0, -e)) for rule in rules}
    history = {"epochs": epochs, "selected": selected}
    write_json(run.val_stats, history)
    return history


def default_rule(run: Run) -> str:
    """Return the rule by which a run is judged: its worst groups, else classes, else average."""
    selected = run.history()["selected"] if run.val_stats.exists() else {}
    rules = [rule for rule in ("best-group", "best-class") if rule in selected]
    return [*rules, "best-avg"][0]


def find_best_ckpt(run: Run, rule: str) -> int | str:
    """Return the epoch that a name stands for: a number, `last`, or a rule such as best-group.

    Raises:
        UserError: there is no such checkpoint or rule; the message lists what there is.
    """
    rule = "best-avg" if rule == "best" else str(rule)
    if rule == "last":
        done = run.status()["state"] == "done" and run.saved_epochs()
        return max(run.saved_epochs()) if done else "last"
    if is_epoch(rule):
        kept = run.saved_epochs()
        if int(rule) not in kept:
            raise UserError(
                f"{run.path}: the checkpoint of epoch {rule} is not kept (there are: "
                f"{', '.join(map(str, kept)) or 'none'}); train with "
                f"exp.train.keep_ckpts=[{rule}] or all to keep it"
            )
        return int(rule)
    if not run.val_stats.exists():
        raise UserError(f"{run.path} has no validated epoch yet, so there is no {rule}")
    selected = run.history()["selected"]
    if rule not in selected:
        allowed = ", ".join(["a number", "last", "best", *selected])
        raise UserError(f"checkpoint '{rule}' of {run.path}: use {allowed}")
    return selected[rule]
