import os
import subprocess
import sys
from pathlib import Path

import matplotlib.colors
import numpy as np
import pytest
from matplotlib.patches import Rectangle

from src.evaluation.plots import (
    COLOURS,
    WRONG,
    group_bars,
    learning_curves,
    mistakes_sheet,
)
from src.figures import INK, save_figure

ROOT = Path(__file__).parents[2]


def evaluation(*accuracies, totals=(1200, 34)):
    groups = [
        {"name": name, "total": total, "acc": acc}
        | {"low": acc and acc - 0.05, "high": acc and acc + 0.02}
        for name, total, acc in zip(("light", "dark"), totals, accuracies)
    ]
    return {"groups": groups, "avg_acc": 0.885}


def bars(*erm):
    results = {"ERM": evaluation(*(erm or (0.9, 0.4))), "RWG": evaluation(0.8, 0.7)}
    return group_bars("title", results)


def texts(axis):
    return [text.get_text() for text in axis.texts]


def test_bars_have_the_height_and_colour_of_their_group():
    for axis, heights in zip(bars().axes, ([90, 40], [80, 70])):
        assert [bar.get_height() for bar in axis.containers[0]] == pytest.approx(heights)
        colours = [matplotlib.colors.to_hex(bar.get_facecolor()) for bar in axis.containers[0]]
        assert colours == list(COLOURS[:2])


def test_error_bars_end_at_the_interval_limits():
    _, _, (lines,) = bars().axes[0].containers[1].lines
    ends = [segment[:, 1] for segment in lines.get_segments()]
    np.testing.assert_allclose(ends, [[85, 92], [35, 42]])


def test_an_empty_group_has_no_bar():
    axis = bars(0.9, None).axes[0]
    assert texts(axis) == ["90", "none"]


def curves(epochs):
    value = np.linspace(50, 90, 2 * epochs).reshape(epochs, 2)
    return value, learning_curves("title", {"ERM": [evaluation(*row / 100) for row in value]})


def test_curves_start_at_epoch_1_and_the_last_is_ringed():
    value, figure = curves(epochs=3)
    lines = figure.axes[0].lines
    long = [line for line in lines if len(line.get_xdata()) == 3]
    assert [line.get_xdata().tolist() for line in long] == [[1, 2, 3], [1, 2, 3]]
    np.testing.assert_allclose([line.get_ydata() for line in long], value.T)
    rings = [line for line in lines if line.get_markeredgecolor() == INK]
    found = [(ring.get_xdata()[0], ring.get_ydata()[0]) for ring in rings]
    np.testing.assert_allclose(found, [(3, value[2, 0]), (3, value[2, 1])])


def frames(figure):
    red = matplotlib.colors.to_rgba(WRONG)
    return [
        axis
        for axis in figure.axes
        if any(isinstance(p, Rectangle) and p.get_edgecolor() == red for p in axis.patches)
    ]


def sheet():
    faces = [np.zeros((3, 8, 8, 3), np.uint8), np.zeros((0, 8, 8, 3), np.uint8)]
    wrong = [np.array([False, True, False]), np.array([], bool)]
    return mistakes_sheet(
        "title", ["light, 1 wrong", "dark"], faces, wrong, [["1 %", "99 %", "2 %"], []]
    )


def test_exactly_the_mistakes_have_a_frame():
    (framed,) = frames(sheet())
    assert texts(framed) == ["99 %"]


@pytest.mark.parametrize("kind", ["png", "pdf"])
@pytest.mark.parametrize("draw", [bars, lambda: curves(3)[1], sheet])
def test_equal_figures_give_equal_bytes(draw, kind, tmp_path):
    for name in "ab":
        save_figure(draw(), tmp_path / f"{name}.{kind}")
    first, second = ((tmp_path / f"{name}.{kind}").read_bytes() for name in "ab")
    assert first == second and first.startswith({"png": b"\x89PNG", "pdf": b"%PDF"}[kind])


def test_figures_do_not_depend_on_the_backend(tmp_path):
    """Every shell inside Jupyter names a backend that other environments may lack."""
    code = (
        "from pathlib import Path; from src.figures import framed_figure, save_figure\n"
        f"save_figure(framed_figure('a title', 3, 3), Path({str(tmp_path / 'weights.png')!r}))\n"
    )
    backend = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | backend, cwd=ROOT)
    assert (tmp_path / "weights.png").exists()
