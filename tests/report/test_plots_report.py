"""Figures of the report: every mark is a row's number, and what is not known is not drawn."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from src.report.plots import grid_heatmaps
from src.report.plots_counts import MOST_INTERVALS, number_of_tasks
from src.report.plots_curves import (
    MOST_PANELS,
    settings_of,
    weights_by_step,
    worst_group_by_epoch,
)
from src.report.plots_grid import setting_grid
from src.report.plots_marks import METHOD_COLOURS
from src.report.plots_results import plot_report
from src.report.plots_tasks import family_contrasts, stl_against_mtl
from src.report.rows import pairings
from tests.report_example import (
    BROWS,
    LIPS,
    PAIR,
    example_grid,
    example_report,
    write_runs,
)


@pytest.fixture
def rows():
    return pairings(example_report(), "test", "best-group")


def marks(axis) -> list[tuple[float, str, bool]]:
    """Value, colour and whether hollow, of each mark of a forest plot from the top."""
    drawn = [line for line in axis.lines if line.get_marker() in ("o", "s", "D")]
    found = [
        (float(y), round(float(x), 2), to_hex(line.get_color()), line.get_markerfacecolor())
        for line in drawn
        for x, y in zip(line.get_xdata(), line.get_ydata())
    ]
    return [(x, colour, face == "white") for _, x, colour, face in sorted(found)]


def bars(axis) -> list[list[float]]:
    """Both ends of each interval, from the top."""
    found = [segment for bar in axis.collections for segment in bar.get_segments()]
    found = [segment for segment in found if len(segment) and not np.isnan(segment).any()]
    found.sort(key=lambda segment: segment[0, 1])
    return [segment[:, 0].round(2).tolist() for segment in found]


def test_each_task_shows_its_accuracy_alone_and_together_and_their_difference(rows):
    accuracy, difference = stl_against_mtl(rows[0], "worst_group").axes
    erm, suby = METHOD_COLOURS["erm"], METHOD_COLOURS["suby"]
    assert marks(accuracy)[:4] == [  # means of the two seeds' worst groups
        (42.0, erm, True),
        (48.0, erm, False),
        (63.0, suby, True),
        (61.0, suby, False),
    ]
    assert marks(difference) == [
        (6.0, erm, False),
        (-2.0, suby, False),
        (10.0, erm, False),
        (5.0, suby, False),
    ]
    names = [text.get_text() for text in accuracy.get_yticklabels()]
    assert names == [
        "Big Lips : Chubby\nwith Bushy Eyebrows : Blond Hair",
        "Bushy Eyebrows : Blond Hair\nwith Big Lips : Chubby",
    ]


def test_error_bars_end_where_the_intervals_do(rows):
    accuracy, difference = stl_against_mtl(rows[0], "worst_group").axes
    assert bars(accuracy)[:2] == [[34.0, 50.0], [40.0, 56.0]]
    assert bars(difference)[0] == [-4.0, 16.0]


def test_a_worst_group_that_does_not_exist_is_not_drawn(rows):
    pairs, _ = rows
    pairs[0].row["worst_group"] |= {"mean": None, "low": None, "high": None}
    pairs[0].difference["worst_group"] |= {"difference": None, "low": None, "high": None}
    accuracy, difference = stl_against_mtl(pairs, "worst_group").axes
    assert 0.0 not in [value for value, *_ in marks(accuracy)]
    assert len(marks(accuracy)) == 8 - 1
    assert len(marks(difference)) == 4 - 1


def test_without_a_task_trained_in_both_ways_there_is_no_figure(rows):
    pairs = [pair for pair in rows[0] if pair.row["method"] == "jtt"]
    assert stl_against_mtl(pairs, "average") is None
    assert stl_against_mtl([], "average") is None


def test_a_family_shows_the_mean_of_its_differences_without_an_interval(rows):
    families = {"strong": [PAIR], "weak": [PAIR], "similar": [PAIR]}
    (axis,) = family_contrasts(rows[0], families, "worst_group").axes
    names = [text.get_text().split("\n") for text in axis.get_yticklabels()]
    assert names[0] == ["strong +4.8", "mean of 4 results"]  # of 6, -2, 10 and 5
    assert [name for name, _ in names].count("Big Lips : Chubby") == 2
    assert len(names) == 2 * 3
    assert marks(axis)[0][0] == 4.75
    assert len(bars(axis)) == 8


def test_panels_keep_the_names_of_their_own_tasks(rows):
    """Panels that shared an axis would all show the names of the last one."""
    families = {"strong": [PAIR], "weak": [PAIR], "disjoint": [PAIR], "nondisjoint": [PAIR]}
    disjoint, strong = family_contrasts(rows[0], families, "worst_group").axes
    first = [axis.get_yticklabels()[0].get_text() for axis in (disjoint, strong)]
    assert [name.split()[0] for name in first] == ["disjoint", "strong"]


def test_what_similar_pairs_are_held_against_is_said(rows):
    families = {"similar": [PAIR], "disjoint": [PAIR]}
    (axis,) = family_contrasts(rows[0], families, "worst_group").axes
    assert axis.get_xlabel().split("\n") == [
        "similar against disjoint: MTL − STL, points",
        "(no family is called dissimilar: disjoint stands in)",
    ]


def test_a_contrast_needs_both_families(rows):
    assert family_contrasts(rows[0], {"strong": [PAIR], "weak": []}, "average") is None


def test_accuracy_stands_over_the_number_of_tasks_with_a_line_through_the_means(rows):
    pairs, alone = rows
    figure = number_of_tasks(pairs, alone, [PAIR], "worst_group")
    lips, brows = figure.axes
    assert [axis.get_title(loc="left") for axis in (lips, brows)] == [
        "Big Lips : Chubby",
        "Bushy Eyebrows : Blond Hair",
    ]
    curve = next(
        line
        for line in lips.lines
        if to_hex(line.get_color()) == METHOD_COLOURS["suby"] and len(line.get_xdata()) == 2
    )
    assert curve.get_xdata().tolist() == [1, 2]
    np.testing.assert_allclose(curve.get_ydata(), [63, 61])
    assert len(bars(lips)) == len(marks(lips))
    assert number_of_tasks(pairs, [], [PAIR], "worst_group") is None


def test_many_networks_side_by_side_have_no_intervals(rows):
    pairs, alone = rows
    lips, _ = number_of_tasks(pairs * 4, alone, [PAIR], "worst_group").axes
    single = [mark for mark in marks(lips) if mark[2]]
    assert len(marks(lips)) > len(single) + MOST_INTERVALS and len(bars(lips)) == len(single)


@pytest.fixture
def trained(tmp_path):
    """The example with its runs' files."""
    report = example_report(str(tmp_path / "logs"))
    write_runs(report)
    return report


def test_worst_groups_by_epoch_have_a_line_a_seed_and_a_ring_at_the_chosen_epoch(trained):
    settings, left = settings_of(trained, [PAIR], "best-group", dynamic=False)
    assert left == 0 and [len(setting.seeds) for setting in settings] == [2, 2, 2]
    axis = worst_group_by_epoch(settings).axes[0]
    assert axis.get_title(loc="left").split("\n")[0] == "ERM, dynamic"
    lines = [line for line in axis.lines if len(line.get_xdata()) > 1]
    assert len(lines) == 2 * 2  # seeds x tasks
    np.testing.assert_allclose(lines[0].get_ydata(), [40, 50, 60, 67])
    rings = [line for line in axis.lines if line.get_markerfacecolor() == "white"]
    points = [(*line.get_xdata(), *line.get_ydata()) for line in rings]
    np.testing.assert_allclose(points, [(2, 50), (2, 45), (3, 60), (3, 55)])  # seeds 0 and 1


def test_only_weights_that_move_are_drawn(trained):
    settings, _ = settings_of(trained, [PAIR], "best-group", dynamic=True)
    (axis,) = weights_by_step(settings).axes
    curve = next(line for line in axis.lines if len(line.get_xdata()) == 20)
    assert curve.get_xdata()[-1] == 400 and curve.get_ydata()[-1] == pytest.approx(0.9)
    still, _ = settings_of({**trained, "runs": trained["runs"][:2]}, [[LIPS]], "best-group", False)
    assert len(still) == 1 and weights_by_step(still) is None
    assert weights_by_step([]) is None


def test_an_epoch_that_was_not_logged_is_a_gap(trained):
    (setting, *_), _ = settings_of(trained, [PAIR], "best-group", dynamic=False)
    for curves, _ in setting.seeds:
        curves["worst_group"]["Big_Lips"][1] = None
    (axis,) = worst_group_by_epoch([setting]).axes
    np.testing.assert_allclose(axis.lines[0].get_ydata(), [40, np.nan, 60, 67])


def test_settings_that_have_no_panel_are_counted(trained):
    runs = [{**trained["runs"][0], "settings": {"lr": at}} for at in range(MOST_PANELS + 3)]
    settings, left = settings_of({"runs": runs}, [[LIPS]], "best-group", dynamic=False)
    assert (len(settings), left) == (MOST_PANELS, 3)


def test_a_grid_is_a_heatmap_of_learning_rate_and_weight_decay():
    rows = [row for row in example_grid()["rows"] if row["split"] == "test"]
    axis = setting_grid(rows, "worst_group").axes[0]
    assert axis.get_title(loc="left").split("\n") == [
        "worst-group accuracy, %",
        "ERM, equal, batch 32",
        "Big Lips : Chubby",
        "Bushy Eyebrows : Blond Hair",
    ]
    assert [text.get_text() for text in axis.get_xticklabels()] == ["1e-05", "0.0001", "0.001"]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["0.001", "0.01"]
    # Of the two tasks 40 and 60 at the first place, 1 more a learning rate, 5 more a weight decay.
    shown = [text.get_text() for text in axis.texts]
    assert shown == ["50.0", "51.0", "52.0", "55.0", "56.0", "-"]
    assert axis.patches[0].get_xy() == (0.5, 0.5)  # 56.0
    assert setting_grid(rows[:1], "worst_group") is None


def test_grids_of_two_networks_are_two_heatmaps():
    rows = [row for row in example_grid()["rows"] if row["split"] == "test"]
    both = [
        row | {"settings": row["settings"] | {"network": network}}
        for network in ("resnet18", "resnet50")
        for row in rows
    ]
    titles = [axis.get_title(loc="left") for axis in setting_grid(both, "worst_group").axes]
    assert [title.split("\n")[1] for title in titles] == [
        "ERM, equal, batch 32, network resnet18",
        "ERM, equal, batch 32, network resnet50",
    ]


def test_heatmaps_go_on_below_after_four():
    figure = grid_heatmaps({str(at): np.ones((2, 2)) for at in range(6)}, "ab", "cd", "y", "x")
    assert len(figure.axes) == 6
    tops = [round(axis.get_position().y1, 2) for axis in figure.axes]
    assert len(set(tops[:4])) == len(set(tops[4:])) == 1 and tops[4] < tops[0]


def test_every_figure_that_has_rows_is_written_twice_the_same(trained, tmp_path):
    families = {"disjoint": [PAIR], "strong": [[LIPS, "Male"]], "ablate_disjoint": [PAIR]}
    first, second = (
        plot_report(tmp_path / name, trained, families, "test", "best-group") for name in "ab"
    )
    names = [
        f"{name}_{measure}.png"
        for measure in ("average", "worst_group")
        for name in ("compare_disjoint", "compare_ablate_disjoint", "tasks_ablate_disjoint")
    ]
    of_training = [
        f"{kind}_{name}.png"
        for name in ("disjoint", "ablate_disjoint")
        for kind in ("epochs", "weights")
    ]
    assert [path.name for path in first] == names + of_training
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_figure_of_an_earlier_report_goes_where_this_one_has_no_rows_for_it(tmp_path):
    families = {"pair": [PAIR]}
    assert plot_report(tmp_path, example_report(), families, "test", "best-group")
    nothing = {"runs": [], "rows": [], "comparisons": []}
    plot_report(tmp_path, nothing, families, "test", "best-group")
    assert list(tmp_path.iterdir()) == []


def test_rows_pair_at_a_rule_that_one_task_does_not_know():
    pairs, alone = pairings(example_report(), "val", "best-worst")
    assert {row["rule"] for row in alone} == {"best-group"}
    assert {row["grouping"] for row in alone} == {LIPS, BROWS}
    assert all(pair.alone for pair in pairs if pair.row["method"] != "jtt")
