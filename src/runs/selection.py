"""Which epoch is best, by what rule, and which checkpoint a name stands for."""

from typing import Any

from src.evaluation.logits import evaluations, read_report
from src.io import UserError, write_json
from src.runs.folder import Run, is_epoch


def scores(stats: dict[str, Any], by_group: bool) -> dict[str, float]:
    """What each selection rule maximises, from one epoch's validation figures.

    Args:
        stats: grouping name to its evaluation (see `metrics.summarise`), one grouping per task.
        by_group: whether groups exist; without, the rules that need them are absent.

    best-avg: mean over tasks of average accuracy; best-group: mean over tasks of worst-group
    accuracy; for several tasks also best-worst (the minimum) and one rule per task.
    """
    average = {name.partition(":")[0]: figures["avg_acc"] for name, figures in stats.items()}
    rules = {"best-avg": sum(average.values()) / len(average)}
    several = len(stats) > 1
    if several:
        rules |= {f"best-avg-{task}": value for task, value in average.items()}
    if by_group:
        worst = {
            name.partition(":")[0]: figures["worst_group"]["acc"] for name, figures in stats.items()
        }
        rules["best-group"] = sum(worst.values()) / len(worst)
        if several:
            rules["best-worst"] = min(worst.values())
            rules |= {f"best-group-{task}": value for task, value in worst.items()}
    return rules


def record_validation(run: Run, epoch: int, rules: dict[str, float]) -> dict[str, Any]:
    """Add an epoch to val_stats.json and choose anew; of equal epochs the first stays chosen.

    Epochs after `epoch` are dropped: they belong to a past that is being repeated. Earlier ones
    that it does not tell of (it was deleted) come from their own files.
    """
    known = run.history()["epochs"] if run.val_stats.exists() else {}
    epochs = {e: values for e, values in known.items() if e < epoch}
    for e in range(1, epoch):
        if e not in epochs and run.epoch_stats(e).exists():
            stats = evaluations(read_report(run.epoch_stats(e)))
            epochs[e] = scores(stats, by_group="best-group" in rules)
    epochs = dict(sorted(epochs.items())) | {epoch: rules}
    selected = {rule: max(epochs, key=lambda e: (epochs[e][rule], -e)) for rule in rules}
    history = {"epochs": epochs, "selected": selected}
    write_json(run.val_stats, history)
    return history


def find_best_ckpt(run: Run, rule: str) -> int | str:
    """The epoch that a name stands for: a number, `last`, or a rule such as best-group.

    Raises:
        UserError: no such checkpoint or rule; the message lists what there is.
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
                f"{', '.join(map(str, kept)) or 'none'}); "
                f"train with exp.train.keep_ckpts=all to keep every epoch"
            )
        return int(rule)
    if not run.val_stats.exists():
        raise UserError(f"{run.path} has no validated epoch yet, so nothing is {rule[:80]}")
    selected = run.history()["selected"]
    if rule not in selected:
        allowed = ", ".join(["a number", "last", "best", *selected])
        raise UserError(f"checkpoint '{rule[:80]}' of {run.path}: use {allowed}")
    return selected[rule]
