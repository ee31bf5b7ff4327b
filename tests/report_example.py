"""A report by hand: three methods, a pair of tasks alone and together, two seeds; and its runs."""

import json
from pathlib import Path
from typing import Any

from src.report.rows import positions

LIPS, BROWS = "Big_Lips:Chubby", "Bushy_Eyebrows:Blond_Hair"
PAIR = [LIPS, BROWS]
SIZES = {LIPS: (12000, 700, 6500, 180), BROWS: (14000, 2500, 3300, 40)}
# Group accuracies of each seed on test under best-group, in percent: method, several tasks?, task.
ACCURACIES = {
    ("erm", False, LIPS): ((88, 92, 45, 40), (88, 91, 47, 44)),
    ("erm", False, BROWS): ((96, 98, 62, 20), (96, 98, 60, 30)),
    ("erm", True, LIPS): ((86, 90, 50, 46), (86, 90, 52, 50)),
    ("erm", True, BROWS): ((95, 97, 66, 40), (95, 97, 64, 30)),
    ("suby", False, LIPS): ((70, 76, 71, 62), (70, 75, 70, 64)),
    ("suby", False, BROWS): ((84, 90, 82, 65), (84, 90, 81, 60)),
    ("suby", True, LIPS): ((68, 74, 70, 60), (68, 73, 71, 62)),
    ("suby", True, BROWS): ((82, 88, 80, 70), (82, 89, 80, 65)),
    ("jtt", True, LIPS): ((64, 70, 68, 66), (65, 70, 67, 63)),
    ("jtt", True, BROWS): ((78, 85, 79, 75), (78, 86, 80, 70)),
}
RULES = {"best-group": 0.0, "best-avg": -0.06, "best-worst": 0.01}  # what a worst group gains
EPOCHS = {"best-group": [2, 3], "best-avg": [4, 4], "best-worst": [3, 3]}


def example_report(parent: str = "logs") -> dict[str, Any]:
    """The report; its runs lie, or would, in `parent`."""
    methods = [(method, several) for method, several, grouping in ACCURACIES if grouping == LIPS]
    runs = [
        run
        for method, several in methods
        for groupings in ([PAIR] if several else [[LIPS], [BROWS]])
        for run in _runs(parent, method, groupings)
    ]
    runs.append({**runs[-1], "run": f"{parent}/jtt/late-seed2", "seed": 2, "state": "failed"})
    runs[-1] |= {"step": 120, "epochs": 1, "selected": {}}
    rows = [
        _row(split, rule, gain, method, several, grouping, parent)
        for split in ("val", "test")
        for rule, gain in RULES.items()
        for method, several, grouping in ACCURACIES
        if several or rule != "best-worst"  # with one task that is best-group
    ]
    for row in rows:
        row["difference"] = _difference(row)
    return {"runs": runs, "rows": rows}


def _name(parent: str, method: str, groupings: list[str], seed: int) -> str:
    return (
        f"{parent}/{method}/{'_'.join(g.replace(':', '-') for g in groupings)}/lr0.0001-seed{seed}"
    )


def _settings(method: str, several: bool) -> dict[str, Any]:
    return {"lr": 0.0001, "weight_decay": 0.01 if several else 0.1, "batch_size": 32, "epochs": 4}


def _runs(parent: str, method: str, groupings: list[str]) -> list[dict[str, Any]]:
    several = len(groupings) > 1
    return [
        {
            "run": _name(parent, method, groupings, seed),
            "method": method,
            "weighting": "dynamic" if method == "erm" and several else "static_equal",
            "tasks": [name.partition(":")[0] for name in groupings],
            "groupings": groupings,
            "seed": seed,
            "settings": _settings(method, several),
            "state": "done",
            "has_validation": True,
            "probes": [],
            "repeats": None,
            "step": 400,
            "epochs": 4,
            "selected": {
                rule: epochs[seed]
                for rule, epochs in EPOCHS.items()
                if several or rule != "best-worst"
            },
        }
        for seed in (0, 1)
    ]


def figure(values: list[float], margin: float) -> dict[str, Any]:
    """Mean and std over seeds of fractions, and an interval of the mean +- margin."""
    mean = sum(values) / len(values)
    many = len(values) > 1
    std = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5 if many else None
    low, high = max(0.0, mean - margin), min(1.0, mean + margin)
    return {
        "mean": mean,
        "std": std,
        "n": len(values),
        "low": low,
        "high": high,
        "values": values,
    }


def _row(
    split: str, rule: str, gain: float, method: str, several: bool, grouping: str, parent: str
) -> dict[str, Any]:
    task, attribute = grouping.split(":")
    names = [f"{task}={y} {attribute}={a}" for y in (0, 1) for a in (0, 1)]
    sizes = SIZES[grouping]
    groupings = PAIR if several else [grouping]
    shift = gain + (0.02 if split == "val" else 0.0)
    seeds = []  # accuracies of the groups, a list per seed
    for percents in ACCURACIES[method, several, grouping]:
        shares = [percent / 100 for percent in percents]
        worst = shares.index(min(shares))
        seeds.append([round(s + shift * (at == worst), 4) for at, s in enumerate(shares)])
    worst = [shares.index(min(shares)) for shares in seeds]
    average = [sum(s * n for s, n in zip(shares, sizes)) / sum(sizes) for shares in seeds]
    return {
        "split": split,
        "rule": rule,
        "shown": positions(rule, grouping, not several),
        "difference": None,
        "method": method,
        "weighting": "dynamic" if method == "erm" and several else "static_equal",
        "settings": _settings(method, several),
        "groupings": groupings,
        "grouping": grouping,
        "seeds": [0, 1],
        "runs": [_name(parent, method, groupings, seed) for seed in (0, 1)],
        "epochs": EPOCHS[rule],
        "average": figure(average, 0.012),
        "worst_group": figure([min(shares) for shares in seeds], 0.08)
        | {"groups": [names[at] for at in worst], "totals": [sizes[at] for at in worst]},
        "groups": [
            {"name": name, "total": size, **_without_std(figure(list(values), 0.5 / size**0.5))}
            for name, size, values in zip(names, sizes, zip(*seeds))
        ],
        "interval": "seeds and images",
        "reference": None,
        "has_validation": True,
    }


def _without_std(values: dict[str, Any]) -> dict[str, Any]:
    return {key: values[key] for key in ("mean", "low", "high", "values")}


def _difference(row: dict[str, Any]) -> dict[str, Any] | None:
    key = (row["method"], False, row["grouping"])
    if len(row["groupings"]) == 1 or key not in ACCURACIES:
        return None
    alone = _row(row["split"], "best-group", 0.0, *key, "logs")
    runs = [_name("logs", row["method"], [row["grouping"]], seed) for seed in row["seeds"]]
    found = {"alone": runs, "interval": "seeds and images", "candidates": 1}
    for measure, margin in (("average", 0.02), ("worst_group", 0.1)):
        gap = row[measure]["mean"] - alone[measure]["mean"]
        found[measure] = {"difference": gap, "low": gap - margin, "high": gap + margin, "n": 2}
    return found | {"matched": True, "differs": {}}


def write_runs(report: dict[str, Any]) -> None:
    """config.yaml, metrics.jsonl and status.json of the report's runs: 4 epochs of 100 steps."""
    for run in report["runs"]:
        folder = Path(run["run"])
        folder.mkdir(parents=True)
        text = f"exp:\n  name: {run['method']}\n  seed: {run['seed']}\n  note: <b>&amp;</b>\n"
        (folder / "config.yaml").write_text(text)
        error = "a loss that is not finite at step 120" if run["state"] == "failed" else None
        status = {"state": run["state"], "error": error, "heartbeat": 0}
        (folder / "status.json").write_text(json.dumps(status))
        lines = []
        for step in range(20, run["step"] + 1, 20):
            epoch = (step - 1) // 100 + 1
            dynamic = run["weighting"] == "dynamic"
            line = {"step": step, "epoch": epoch, "train/loss": 70 / (step + 80)}
            for at, task in enumerate(run["tasks"]):
                line[f"train/{task}/weight"] = 1 - 0.1 * (at + 1) * step / 400 if dynamic else 1.0
            lines.append(line)
            if step % 100 == 0:
                valid = {"step": step, "epoch": epoch}
                for at, task in enumerate(run["tasks"]):
                    valid[f"val/{task}/avg_acc"] = 0.9 - 0.1 * at + 0.01 * epoch
                    worst = 0.3 + 0.1 * epoch - 0.03 * (epoch == 4) - 0.05 * at
                    valid[f"val/{task}/worst_group_acc"] = worst
                lines.append(valid)
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
