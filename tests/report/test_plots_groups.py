from itertools import pairwise

import matplotlib.colors
import numpy as np
import pytest
from matplotlib.patches import Rectangle

from src.report.plots_groups import (
    COLOURS,
    INK,
    WRONG,
    Accuracies,
    face_sheet,
    group_bars,
    learning_curves,
    save_figure,
)

GROUPS = ("light", "dark")


def bars(value=((90.0, 40.0), (80.0, 70.0))):
    value = np.array(value)
    accuracies = Accuracies(value, value - 5, value + 2)
    return group_bars("title", ["ERM", "RWG"], GROUPS, [1200, 34], accuracies, [88.5, 79.0])


def texts(axis):
    return [text.get_text() for text in axis.texts]


def test_a_bar_per_group_has_the_height_of_its_accuracy_and_the_colour_of_its_group():
    for axis, heights in zip(bars().axes, ([90, 40], [80, 70])):
        assert [bar.get_height() for bar in axis.containers[0]] == heights
        colours = [matplotlib.colors.to_hex(bar.get_facecolor()) for bar in axis.containers[0]]
        assert colours == list(COLOURS[:2])


def test_error_bars_end_at_the_limits_of_the_intervals():
    _, _, (lines,) = bars().axes[0].containers[1].lines
    ends = [segment[:, 1].tolist() for segment in lines.get_segments()]
    assert ends == [[85, 92], [35, 42]]


def test_a_panel_says_its_average_and_the_legend_the_size_of_each_group():
    figure = bars()
    assert [axis.get_title() for axis in figure.axes] == [
        "ERM: 88.5 % on average",
        "RWG: 79.0 % on average",
    ]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["light (n = 1,200)", "dark (n = 34)"]


def test_the_worst_group_of_a_method_is_printed_bold():
    weights = [text.get_fontweight() for text in bars().axes[0].texts]
    assert weights == ["normal", "bold"]


def test_a_group_without_examples_is_named_so_and_has_no_bar():
    axis = bars(((90.0, np.nan), (80.0, 70.0))).axes[0]
    assert texts(axis) == ["90", "none"]


def curves(epochs):
    value = np.linspace(50, 90, 2 * epochs).reshape(epochs, 2)
    curve = Accuracies(value, value - 3, value + 3)
    return value, learning_curves("title", ["ERM"], GROUPS, [curve], [2])


def test_a_curve_goes_through_the_accuracy_after_each_epoch_counted_from_one():
    value, figure = curves(epochs=3)
    long = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 3]
    assert [line.get_xdata().tolist() for line in long] == [[1, 2, 3], [1, 2, 3]]
    np.testing.assert_array_equal([line.get_ydata() for line in long], value.T)


def test_the_chosen_epoch_is_ringed_in_every_group():
    value, figure = curves(epochs=3)
    rings = [line for line in figure.axes[0].lines if line.get_markeredgecolor() == INK]
    assert [(ring.get_xdata()[0], ring.get_ydata()[0]) for ring in rings] == [
        (2, value[1, 0]),
        (2, value[1, 1]),
    ]


@pytest.mark.parametrize(
    "epochs, ticks",
    [(2, [1, 2]), (4, [1, 2, 3, 4]), (16, [1, 4, 7, 10, 13, 16]), (7, [1, 3, 5, 7])],
)
def test_epochs_are_ticked_at_whole_numbers_at_most_six(epochs, ticks):
    assert curves(epochs)[1].axes[0].get_xticks().tolist() == ticks


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
    return face_sheet(
        "title", ["light, 1 wrong", "dark"], faces, wrong, [["1 %", "99 %", "2 %"], []]
    )


def test_exactly_the_mistakes_have_a_frame():
    (framed,) = frames(sheet())
    assert texts(framed) == ["99 %", "✕"]


def test_an_empty_group_leaves_its_row_empty_but_named():
    figure = sheet()
    assert len(figure.axes) == 3
    assert any("dark" in text.get_text() for text in figure.texts)


def test_faces_lie_inside_of_the_figure_and_beside_each_other():
    boxes = [axis.get_position() for axis in sheet().axes]
    assert all(box.x0 >= 0 and box.x1 <= 1 and box.y0 >= 0 and box.y1 <= 1 for box in boxes)
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


@pytest.mark.parametrize("draw", [bars, lambda: curves(3)[1], sheet])
def test_the_same_figure_is_the_same_bytes(draw, tmp_path):
    for name in ("first.png", "second.png"):
        save_figure(draw(), tmp_path / name)
    first = (tmp_path / "first.png").read_bytes()
    assert first.startswith(b"\x89PNG") and first == (tmp_path / "second.png").read_bytes()
