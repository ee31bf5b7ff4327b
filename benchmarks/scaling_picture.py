"""The picture of how cost grows: seconds and memory against size."""

from pathlib import Path

import numpy as np

PANELS = {
    "examples": ("annotations", "annotations, warm", "images read"),
    "tasks, groups": ("tasks evaluated", "tasks balanced", "groups evaluated"),
    "pairs": ("pairs evaluated",),
}
# What is measured, its name, and the smallest value that is told from nothing.
ROWS = (("seconds", "CPU seconds", 1e-3), ("memory", "GB more", 1e-3))


def draw(lines: list[dict], path: Path) -> None:
    """Seconds and memory against size, on logarithmic axes that a row of panels shares."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        2, 3, figsize=(11, 6.4), layout="constrained", sharex="col", sharey="row"
    )
    for row, (key, unit, least) in zip(axes, ROWS):
        row[0].set_ylabel(unit)
        for axis, (title, cases) in zip(row, PANELS.items()):
            axis.loglog()
            axis.grid(alpha=0.25)
            axis.spines[["top", "right"]].set_visible(False)
            for case, colour, mark in zip(cases, ("#2a7f62", "#c0392b", "#2c5d9b"), "osD"):
                some = [line for line in lines if line["case"] == case]
                sizes = [line["size"] for line in some]
                values = [max(line[key], least) for line in some]
                axis.plot(sizes, values, marker=mark, ms=5, color=colour, label=case)
            if axis in axes[0]:
                axis.set_title(title, loc="left", fontsize="medium")
                axis.legend(frameon=False, fontsize="small", loc="upper left")
            else:
                axis.set_xlabel(f"number of {title.replace(',', ' or')}")
    for axis in axes.flat:
        _show_proportion(axis)
    axes[1, 0].text(
        0.02, 0.98, "grey: in proportion; under 1 MB drawn as 1 MB", va="top", fontsize="small",
        transform=axes[1, 0].transAxes, color="#555555",
    )  # fmt: skip
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _show_proportion(axis) -> None:
    """Grey lines of what grows as its size does."""
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    for start in np.arange(np.floor(np.log10(bottom)) - 4, np.log10(top), 2):
        heights = 10**start * np.array([left, right]) / left
        axis.plot([left, right], heights, color="#cccccc", lw=0.8, zorder=0)
    axis.set_xlim(left, right)
    axis.set_ylim(bottom, top)
