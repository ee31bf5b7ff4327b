"""Which epoch each rule chooses, and which checkpoint a name stands for."""

import pytest

from src.io import UserError, read_json, write_atomic, write_json
from src.runs.folder import Run
from src.runs.selection import find_best_ckpt, record_validation, scores


def save_epochs(run: Run, *epochs: int | str) -> None:
    """Make files with the names of checkpoints; their content does not matter here."""
    for epoch in epochs:
        write_atomic(run.checkpoint(epoch), b"")


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(tmp_path / "run")


def figures(average: float, worst: float | None) -> dict:
    return {"avg_acc": average, "worst_group": worst if worst is None else {"acc": worst}}


def test_scores_of_two_tasks_are_the_means_the_minimum_and_each_tasks_own():
    stats = {"Young:Male": figures(0.9, 0.6), "Bald:Male": figures(0.7, 0.2)}
    assert scores(stats, by_group=True) == pytest.approx(
        {
            "best-avg": 0.8,
            "best-group": 0.4,
            "best-worst": 0.2,
            "best-avg-Young": 0.9,
            "best-avg-Bald": 0.7,
            "best-group-Young": 0.6,
            "best-group-Bald": 0.2,
        }
    )


def test_scores_of_one_task_have_two_rules():
    stats = {"Young:Male": figures(0.9, 0.6)}
    assert scores(stats, by_group=True) == {"best-avg": 0.9, "best-group": 0.6}
    assert scores(stats, by_group=False) == {"best-avg": 0.9, "best-class": 0.6}


def test_each_rule_chooses_its_epoch_and_of_equals_the_first(run):
    accuracies = [(0.7, 0.1), (0.9, 0.3), (0.9, 0.5), (0.8, 0.5)]
    for epoch, (average, worst) in enumerate(accuracies, start=1):
        history = record_validation(run, epoch, {"best-avg": average, "best-group": worst})
    assert history["selected"] == {"best-avg": 2, "best-group": 3}
    assert read_json(run.val_stats)["selected"] == {"best-avg": 2, "best-group": 3}
    assert list(read_json(run.val_stats)["epochs"]) == ["1", "2", "3", "4"]


def test_an_epoch_that_is_repeated_forgets_its_future(run):
    for epoch, value in enumerate([0.1, 0.9, 0.2], start=1):
        record_validation(run, epoch, {"best-avg": value})
    assert record_validation(run, 2, {"best-avg": 0.3})["selected"] == {"best-avg": 2}
    assert list(read_json(run.val_stats)["epochs"]) == ["1", "2"]


def test_epochs_that_a_deleted_history_knew_are_read_from_their_own_files(run):
    def report(average: float, worst: float) -> dict:
        group = {"id": 0, "acc": worst, "low": 0.0, "high": 1.0}
        groups = [group | {"name": "g", "correct": 1, "total": 2}]
        task = {"avg_acc": average, "loss": 0.5, "groups": groups, "worst_group": group}
        about = {"name": "1", "epoch": 1, "hash": "h"}
        return {"checkpoint": about, "split": "val", "Young:Male": task}

    write_json(run.epoch_stats(1), report(0.7, 0.4))
    write_json(run.epoch_stats(2), report(0.9, 0.3))
    history = record_validation(run, 3, {"best-avg": 0.8, "best-group": 0.1})
    assert history["epochs"][1] == {"best-avg": 0.7, "best-group": 0.4}
    assert history["selected"] == {"best-avg": 2, "best-group": 1}
    assert list(read_json(run.val_stats)["epochs"]) == ["1", "2", "3"]


def test_ten_epochs_are_ordered_as_numbers(run):
    for epoch in range(1, 12):
        record_validation(run, epoch, {"best-avg": 0.5})
    assert read_json(run.val_stats)["selected"] == {"best-avg": 1}


def test_names_of_checkpoints_become_epochs(run):
    save_epochs(run, 2, 3, "last")
    for epoch, (average, worst) in enumerate([(0.7, 0.1), (0.9, 0.3), (0.8, 0.4)], start=1):
        record_validation(run, epoch, {"best-avg": average, "best-group": worst})
    assert find_best_ckpt(run, "best-avg") == find_best_ckpt(run, "best") == 2
    assert find_best_ckpt(run, "best-group") == 3
    assert find_best_ckpt(run, "3") == 3
    assert find_best_ckpt(run, "last") == "last"  # perhaps in mid-epoch
    run.set_status(state="done")
    assert find_best_ckpt(run, "last") == 3


def test_a_checkpoint_that_is_not_there_is_an_error_that_lists_what_is(run):
    with pytest.raises(UserError, match="no validated epoch yet"):
        find_best_ckpt(run, "best-avg")
    save_epochs(run, 2, 3)
    record_validation(run, 2, {"best-avg": 0.5})
    with pytest.raises(UserError, match=r"epoch 1 is not kept \(there are: 2, 3\).*keep_ckpts="):
        find_best_ckpt(run, "1")
    with pytest.raises(UserError, match="use a number, last, best, best-avg"):
        find_best_ckpt(run, "best-worst")
