"""One pass gives logits; every grouping is arithmetic on them; damage is noticed."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from src.data.celeba import ATTRIBUTES
from src.data.groupings import COLUMN, parse_groupings
from src.data.pixels import Pixels
from src.data.table import Table
from src.evaluation.logits import (
    Features,
    Logits,
    Source,
    load_features,
    load_logits,
    rows_identity,
    save_features,
    save_logits,
)
from src.evaluation.predict import predict
from src.evaluation.results import evaluate, evaluation_json, read_evaluation, task_figures
from src.evaluation.table import print_evaluation
from src.io import UserError
from src.training.validation import flat_metrics

SOURCE = Source("val", "3", "c" * 64, "d" * 64, "crc:e", "fp32", "cpu")
LOGITS = Logits(
    np.array([[1.0, -1.0], [-2.0, 3.0], [0.5, 0.5]], np.float32), ("Young", "Bald"), (2, 2), SOURCE
)


def equal(one: Logits, other: Logits) -> bool:
    same = (one.tasks, one.num_classes, one.source) == (
        other.tasks,
        other.num_classes,
        other.source,
    )
    return same and np.array_equal(one.values, other.values)


def attributes(**columns: list[int]) -> Table:
    codes = np.zeros((3, 40), np.uint8)
    for name, values in columns.items():
        codes[:, COLUMN[name]] = values
    return Table(np.array(["1.jpg", "2.jpg", "3.jpg"]), np.ones(3, np.uint8), codes, ATTRIBUTES)


# ---------------------------------------------------------------------------- files


def test_logits_come_back(tmp_path):
    save_logits(tmp_path / "logits.npz", LOGITS)
    assert equal(load_logits(tmp_path / "logits.npz"), LOGITS)
    with pytest.raises(UserError, match="no such file"):
        load_logits(tmp_path / "other.npz")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("logits") / "logits.npz"
    save_logits(path, LOGITS)
    return path, path.read_bytes()


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_changed_byte_or_a_missing_end_is_noticed_or_harmless(saved, data):
    path, whole = saved
    damaged = bytearray(whole)
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged[place] ^= data.draw(st.sampled_from([1, 2, 32, 128, 255]))
    path.write_bytes(damaged if data.draw(st.booleans()) else whole[:place])
    try:
        assert equal(load_logits(path), LOGITS)
    except UserError as error:
        assert "delete it and it is made again" in str(error)


def test_a_changed_logit_is_noticed(saved):
    path, whole = saved
    place = whole.index(LOGITS.values.tobytes())
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(UserError, match="is damaged"):
        load_logits(path)


def test_the_identity_of_rows_depends_on_names_labels_and_order():
    names, codes = np.array(["1.jpg", "2.jpg", "3.jpg"]), attributes(Young=[1, 0, 0]).codes
    identity = rows_identity(names, codes)
    assert identity == rows_identity(names.copy(), codes.copy())
    assert identity != rows_identity(names[::-1], codes)
    assert identity != rows_identity(names, attributes(Young=[0, 1, 0]).codes)


def test_logits_fit_only_the_weights_and_the_data_they_came_from():
    assert SOURCE.fits("c" * 64, "d" * 64, "crc:e")
    assert not SOURCE.fits("x" * 64, "d" * 64, "crc:e")
    assert not SOURCE.fits("c" * 64, "x" * 64, "crc:e")
    assert not SOURCE.fits("c" * 64, "d" * 64, "crc:black pictures")


def test_logits_of_the_first_edition_say_nothing_of_their_images(tmp_path):
    with (tmp_path / "old.npz").open("wb") as file:
        about = np.array(["val", "3", "c" * 64, "d" * 64])
        np.savez(file, values=LOGITS.values, tasks=np.array(LOGITS.tasks), about=about, crc=1)
    old = load_logits(tmp_path / "old.npz")
    assert old.num_classes == (2, 2) and old.source.fits("c" * 64, "d" * 64, "crc:any")


def test_features_return_and_a_changed_byte_is_noticed(tmp_path):
    path = tmp_path / "features.safetensors"
    values = np.arange(12, dtype=np.float16).reshape(3, 4)
    save_features(path, Features(values, SOURCE))
    loaded = load_features(path)
    assert loaded.source == SOURCE and np.array_equal(loaded.values, values)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="is damaged"):
        load_features(path)


# ---------------------------------------------------------------------------- figures


def test_any_groupings_of_a_task_are_counted_from_the_same_logits():
    table = attributes(Young=[1, 0, 0], Male=[1, 1, 0], Bald=[0, 1, 1], Chubby=[1, 0, 0])
    groupings = parse_groupings(["Young:Male", "Young:Chubby", "Bald"])
    result = evaluate(LOGITS, groupings, table)
    assert list(result) == ["Young:Male", "Young:Chubby", "Bald"]

    def counts(name: str) -> list[tuple[int, int]]:
        return [(group["correct"], group["total"]) for group in result[name]["groups"]]

    # Young: logits 1, -2, 0.5 predict 1, 0, 1 for labels 1, 0, 0.
    assert counts("Young:Male") == [(0, 1), (1, 1), (0, 0), (1, 1)]
    assert counts("Young:Chubby") == [(1, 2), (0, 0), (0, 0), (1, 1)]
    assert counts("Bald") == [(1, 1), (2, 2)]
    assert result["Young:Male"]["avg_acc"] == result["Young:Chubby"]["avg_acc"] == 2 / 3
    losses = [math.log1p(math.exp(-1)), math.log1p(math.exp(-2)), math.log1p(math.exp(0.5))]
    assert result["Young:Male"]["loss"] == pytest.approx(sum(losses) / 3, rel=1e-6)


def test_a_task_the_run_does_not_have_is_an_error_that_lists_its_tasks():
    with pytest.raises(UserError, match="task 'Male' is not one of this run's: use Young, Bald"):
        evaluate(LOGITS, parse_groupings(["Male:Young"]), attributes())


def test_a_report_is_json_with_null_for_empty_groups_and_the_epoch_as_a_number(tmp_path):
    table = attributes(Young=[1, 0, 0], Male=[1, 1, 0])
    stats = evaluate(LOGITS, parse_groupings(["Young:Male"]), table)
    result = evaluation_json(tmp_path, LOGITS, "best-avg", stats)
    assert result["checkpoint"] == {"name": "best-avg", "epoch": 3, "hash": "c" * 64}
    assert (result["run"], result["split"]) == (str(tmp_path), "val")
    assert task_figures(result) == stats
    assert result["data"] == {"rows": "d" * 64, "images": "crc:e"}
    path = tmp_path / "stats.json"
    path.write_text(json.dumps(result, allow_nan=False))
    assert read_evaluation(path) == result
    assert result["Young:Male"]["groups"][2]["acc"] is None


def test_flat_metrics_are_named_by_task_and_group():
    table = attributes(Young=[1, 0, 0], Male=[1, 1, 0])
    flat = flat_metrics(evaluate(LOGITS, parse_groupings(["Young:Male"]), table))
    assert flat.pop("val/Young/loss") > 0
    assert flat == {
        "val/Young/avg_acc": 2 / 3,
        "val/Young/worst_group_acc": 0.0,
        "val/Young/g0_acc": 0.0,
        "val/Young/g1_acc": 1.0,
        "val/Young/g2_acc": None,
        "val/Young/g3_acc": 1.0,
    }


def test_the_table_shows_percent_interval_and_n_marks_the_worst_group_and_dashes_empty_ones():
    table = attributes(Young=[1, 0, 0], Male=[1, 1, 0])
    stats = evaluate(LOGITS, parse_groupings(["Young:Male"]), table)
    console = Console(width=100, record=True)
    print_evaluation(evaluation_json("logs/x", LOGITS, "best-avg", stats), console)
    rows = {line.split("│")[1].split()[0]: line for line in console.export_text().splitlines()
            if line.startswith("│")}  # fmt: skip
    assert "worst" in rows["g0"] and "0.0" in rows["g0"] and "0.0-79.3" in rows["g0"]
    assert "100.0" in rows["g1"] and "20.7-100.0" in rows["g1"] and "worst" not in rows["g1"]
    assert rows["g2"].count("-") == 2 and "nan" not in rows["g2"]
    assert "66.7" in rows["average"]


# ---------------------------------------------------------------------------- the pass


class Memory:
    """An image source of N images whose pixels are all their row number."""

    pixels = Pixels((4, 4))
    shape = (4, 4, 3)

    def read(self, positions: np.ndarray, out: np.ndarray) -> np.ndarray:
        out[...] = positions[:, None, None, None]
        return out


class Mean(torch.nn.Module):
    """Two logits: the mean of the image, and minus it; counts its calls."""

    calls = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert not self.training and not torch.is_grad_enabled()
        self.calls += 1
        mean = images.mean(dim=(1, 2, 3))  # (B,)
        return torch.stack([mean, -mean], dim=1)


def run_pass(model, count=10, batch_size=4, **options):
    return predict(model, Memory(), count, 2, torch.device("cpu"), "fp32", batch_size, **options)


def test_a_pass_gives_logits_in_the_order_of_the_rows_whatever_the_batch_size():
    model = Mean().train()
    logits = run_pass(model).logits
    assert model.calls == 3 and model.training
    assert logits.dtype == np.float32 and logits.shape == (10, 2)
    assert (np.diff(logits[:, 0]) > 0).all() and (logits[:, 1] == -logits[:, 0]).all()
    for batch_size in (1, 9, 100):
        np.testing.assert_array_equal(run_pass(Mean(), batch_size=batch_size).logits, logits)


def test_a_pass_that_is_asked_to_stop_ends_without_logits():
    model = Mean()
    assert run_pass(model, stop=lambda: 15) is None
    assert model.calls == 1


class Broken(Mean):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images) * torch.tensor([1.0, torch.inf])


def test_outputs_that_are_not_finite_are_an_error_not_a_prediction_of_class_0():
    with pytest.raises(UserError, match=r"not finite for 10 of 10 examples"):
        run_pass(Broken())
