"""The objective as a whole: neutral layers, unknown labels, counts, two-phase state."""

import math

import torch

from src.objective.batch import cells, count, look_up
from tests.objective.build import make_objective, make_tables, step, whole_batch

LOG3 = math.log(3)


def test_all_defaults_are_the_sum_of_mean_losses():
    tables = make_tables([[1, 1], [0, 1]])
    objective = make_objective(tables)
    total, logged = objective(whole_batch(tables, [[0.0, LOG3], [0.0, -LOG3]]))
    means = [math.log(2), (math.log(4 / 3) + math.log(4)) / 2]
    torch.testing.assert_close(total, torch.tensor(sum(means)))
    torch.testing.assert_close(logged, torch.tensor([*means, 1.0, 1.0]))
    assert objective.log_names == ["t0/loss", "t1/loss", "t0/weight", "t1/weight"]


def test_an_unlabelled_example_does_not_count_for_its_task():
    tables = make_tables([[1, -1], [0, 1]])
    _, logged = make_objective(tables)(whole_batch(tables, [[0.0, 9.0], [0.0, LOG3]]))
    torch.testing.assert_close(logged[:2], torch.tensor([math.log(2), math.log(4 / 3)]))


def test_a_task_without_a_label_in_the_batch_has_loss_0():
    tables = make_tables([[1, -1], [0, 1]])
    total, _ = make_objective(tables)(tables.batch(torch.tensor([[0.0, 9.0]]), torch.tensor([0])))
    torch.testing.assert_close(total, torch.tensor(math.log(2)))


def test_counts_lookups_and_cells_ignore_unknown_levels():
    levels = torch.tensor([[0, -1], [1, 2], [1, 2]])
    assert count(levels, 3).tolist() == [[1, 2, 0], [0, 0, 2]]
    table = torch.tensor([[5.0, 6.0, 0.0], [7.0, 8.0, 9.0]])
    assert look_up(table, levels).tolist() == [[5.0, 0.0], [6.0, 9.0], [6.0, 9.0]]
    assert cells(levels, 3)[0].tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]


def test_static_weights_scale_the_scalars_of_the_tasks():
    tables = make_tables([[1, 1], [0, 1]])
    batch = whole_batch(tables, [[0.0, LOG3], [0.0, LOG3]])
    total = step(make_objective(tables, [0.25, 0.75]), batch)
    torch.testing.assert_close(total, torch.tensor(0.25 * math.log(2) + 0.75 * math.log(4 / 3)))
