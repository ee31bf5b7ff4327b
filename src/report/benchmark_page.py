"""Write a benchmark as one page, a CSV, a LaTeX table and a JSON."""

import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from src.evaluation.table import interval, percent
from src.figures import FAINT, INK, clean_axes
from src.io import write_atomic, write_json
from src.pages import FOLDER, data_url, write_page
from src.report.text import gap, latex_text, published, short_name

Entry = Mapping[str, Any]
RULE_NAMES = {
    "best-group": "worst group",
    "best-avg": "average",
    "best-class": "worst class",
    "last": "last epoch",
}
FRONT, OTHER = "#0072b2", "#8a8a8a"


def write_benchmark(result: Mapping[str, Any], out_dir: Path) -> None:
    """Write index.html, benchmark.csv, benchmark.tex and benchmark.json."""
    entries, about = result["methods"], result["about"]
    main = main_table(entries)
    write_json(out_dir / "benchmark.json", result)
    write_atomic(out_dir / "benchmark.csv", csv_table(entries).to_csv(index=False))
    columns = ["method", "needs", "seeds", "average %", "worst group %", "best in", "rank (90 %)"]
    short = [tuple(columns), *main[columns].astype(str).itertuples(index=False, name=None)]
    write_atomic(out_dir / "benchmark.tex", latex_text(short, caption(result)))
    smallest = min(filter(None, about["sizes"].values()))
    missing = f"Without finished runs: {', '.join(about['missing'])}." if about["missing"] else ""
    body = Template((FOLDER / "benchmark.html").read_text()).substitute(
        caption=escape(caption(result)),
        sizes=escape(", ".join(f"{name}: {size:,}" for name, size in about["sizes"].items())),
        smallest=f"{smallest:,}",
        margin=f"{196 * (0.8 * 0.2 / smallest) ** 0.5:.0f}",
        missing=escape(missing),
        main=html(main),
        rules=html(rules_table(entries)),
        settings=html(settings_table(entries)),
        scatter=image(scatter(entries)),
        forest=image(forest(entries)),
    )
    write_page(out_dir / "index.html", "Benchmark", ["document"], body=body)


def caption(result: Mapping[str, Any]) -> str:
    about, seeds = result["about"], [len(entry["seeds"]) for entry in result["methods"]]
    count = f"{min(seeds)}" if min(seeds) == max(seeds) else f"{min(seeds)} to {max(seeds)}"
    rule = RULE_NAMES[about["rule"]]
    return (
        f"{about['grouping']}, {about['split']} split; settings and epochs chosen by the {rule} of "
        f"validation; {count} fresh seeds; percent, 95 % intervals"
    )


def html(table: pd.DataFrame) -> str:
    return f'<div class="scroll">{table.to_html(index=False, border=0)}</div>'


def both(figures: Mapping[str, Any]) -> str:
    return f"{percent(figures['mean'])} ({interval(figures)})"


def main_table(entries: Sequence[Entry]) -> pd.DataFrame:
    """Return the ranking as text."""
    rows = []
    for entry in entries:
        rank, cost = entry["rank"], entry["relative_cost"]
        worst = [found["worst_group"] for found in entry["search"]]
        rows.append(
            {
                "method": entry["method"],
                "needs": entry["needs"],
                "seeds": len(entry["seeds"]),
                "average %": both(entry["average"]),
                "worst group %": both(entry["worst_group"]),
                "best in": f"{percent(rank['best'], 0)} %",
                "rank (90 %)": f"{rank['rank']:.0f} ({rank['low']:.0f}-{rank['high']:.0f})",
                "minus ERM": difference(entry["minus_erm"]),
                "minus best": difference(entry["minus_best"]),
                "images": times(cost["images"]),
                "seconds": times(cost["seconds"]),
                "over settings %": f"{percent(min(worst))} to {percent(max(worst))}",
                "published": published(entry["reference"]),
            }
        )
    return pd.DataFrame(rows)


def difference(figures: Mapping[str, Any] | None) -> str:
    return "-" if figures is None else gap(figures["worst_group"])


def times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2g}x"


def rules_table(entries: Sequence[Entry]) -> pd.DataFrame:
    """Return test accuracies by the rule that chose setting and epoch."""
    rows = []
    for entry in entries:
        row = {"method": entry["method"]}
        for rule, found in entry["rules"].items():
            seeds = len(entry["seeds"])
            few = f" ({found['seeds']} seed)" if found["seeds"] < seeds else ""
            row[RULE_NAMES[rule]] = f"{percent(found['worst_group'])} / {percent(found['average'])}"
            row[RULE_NAMES[rule]] += f", setting {found['setting']}{few}"
        rows.append(row)
    return pd.DataFrame(rows)


def settings_table(entries: Sequence[Entry]) -> pd.DataFrame:
    """Return the drawn settings and their test accuracies, one seed each."""
    return pd.DataFrame(
        {
            "method": entry["method"],
            "setting": found["setting"],
            "values": values_text(found["values"]),
            "average %": percent(found["average"]),
            "worst group %": percent(found["worst_group"]),
            "chosen": "yes" if found["setting"] == entry["setting"] else "",
        }
        for entry in entries
        for found in entry["search"]
    )


def csv_table(entries: Sequence[Entry]) -> pd.DataFrame:
    """Return the figures as fractions, a column for each number of benchmark.json."""
    table = pd.json_normalize(list(entries), sep="_")
    return table[[name for name in table if not table[name].map(type).eq(list).any()]]


def values_text(values: Mapping[str, Any]) -> str:
    """Format the values of a setting: `lr 0.01, wd 0.001`."""
    return ", ".join(
        f"{short_name(key)} {value if isinstance(value, str) else json.dumps(value)}"
        for key, value in values.items()
        if not key.endswith("stage_1.run")
    )


def scatter(entries: Sequence[Entry]) -> Figure:
    """Draw average against worst group; methods on the Pareto front are blue."""
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.subplots()
    clean_axes(axes, "both")
    for place, entry in enumerate(entries, start=1):
        x, y = 100 * entry["average"]["mean"], 100 * entry["worst_group"]["mean"]
        colour = FRONT if entry["pareto"] else OTHER
        axes.plot(x, y, "o", color=colour, ms=6)
        text = f"{place} {entry['method']}" if entry["pareto"] else str(place)
        axes.annotate(text, (x, y), (4, 4), textcoords="offset points", color=INK, fontsize=8)
    front = sorted((e["average"]["mean"], e["worst_group"]["mean"]) for e in entries if e["pareto"])
    averages, worst = (100 * np.array(of) for of in zip(*front))
    axes.step(averages, worst, color=FRONT, lw=1, where="pre")
    axes.set(xlabel="average accuracy, %", ylabel="worst-group accuracy, %")
    return figure


def forest(entries: Sequence[Entry]) -> Figure:
    """Draw each method's worst group with its interval, and the drawn settings as small dots."""
    figure = Figure(figsize=(6.4, 0.9 + 0.26 * len(entries)), layout="constrained")
    axes = figure.subplots()
    clean_axes(axes, "both")
    for place, entry in enumerate(entries):
        worst = entry["worst_group"]
        axes.plot([100 * worst["low"], 100 * worst["high"]], [place] * 2, color=FRONT, lw=2)
        axes.plot(100 * worst["mean"], place, "o", color=FRONT, ms=6)
        found = [100 * one["worst_group"] for one in entry["search"]]
        axes.plot(found, [place + 0.28] * len(found), "o", color=FAINT, ms=3)
    names = [f"{place} {entry['method']}" for place, entry in enumerate(entries, start=1)]
    axes.set_yticks(range(len(entries)), names)
    axes.set(xlabel="worst-group accuracy, %", ylim=(len(entries) - 0.4, -0.6))
    return figure


def image(figure: Figure) -> str:
    """Return a figure as an <img>."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=130)
    return f'<img src="{data_url(stream.getvalue(), "image/png")}" alt="">'
