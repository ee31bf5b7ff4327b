"""`load_run`: the network of a finished run on pictures, tensors and splits."""

import numpy as np
import pytest
import torch
from PIL import Image

from src.api import load_run
from src.evaluation.trained_run import TrainedRun
from src.io import UserError


@pytest.fixture(scope="module")
def run(finished_run) -> TrainedRun:
    return load_run(finished_run)


@pytest.fixture(scope="module")
def files(run):
    """The first three pictures of test."""
    names = run.evaluator.rows("test").names[:3]
    return [run.evaluator.dataset.files.path(name) for name in names]


def test_pictures_of_a_split_get_the_split_probabilities(run, files):
    table, split = run.predict(files), run.predict("test")
    assert list(table.columns) == ["Young", "Bald"] and list(table.index) == files
    assert len(split) == 24
    np.testing.assert_allclose(table.values, split.values[:3], rtol=1e-4)


def test_paths_pictures_and_tensors_give_the_same(run, files):
    expected = run.predict(files).values
    pictures = [Image.open(file) for file in files]
    batch = torch.stack([run.transform(file) for file in files])
    np.testing.assert_allclose(run.predict(pictures).values, expected, rtol=1e-6)
    np.testing.assert_allclose(run.predict(batch).values, expected, rtol=1e-6)
    np.testing.assert_allclose(run.predict(files[0]).values, expected[:1], rtol=1e-4)
    np.testing.assert_allclose(run.model(batch).sigmoid().detach(), expected, rtol=1e-4)


def test_features_and_head_give_the_logits(run, files):
    features = torch.from_numpy(run.features(files))
    probabilities = run.model.head(features).sigmoid().detach().numpy()
    np.testing.assert_allclose(probabilities, run.predict(files).values, rtol=1e-4)
    np.testing.assert_allclose(run.features("test")[:3], features, rtol=1e-2, atol=1e-2)


def test_other_pictures_keep_their_largest_central_square(run):
    wide = np.zeros((40, 100, 3), np.uint8)
    wide[:, 30:70] = 200  # the central square
    assert (run.crop(Image.fromarray(wide)) == 200).all()
    grey = Image.new("L", (50, 50), 7)
    assert run.crop(grey).shape == (32, 32, 3)
    assert run.transform(grey).shape == (3, 32, 32)


def test_evaluate_has_a_row_per_group_and_an_average(run):
    table = run.evaluate("test", ["Young:Smiling"])
    assert table["group"].tolist()[:2] == ["Young=0 Smiling=0", "Young=0 Smiling=1"]
    assert table["group"].tolist()[-1] == "average" and len(table) == 5
    groups = table[:-1]
    assert groups["total"].sum() == table["total"].iloc[-1] == 24
    right = (
        (run.predict("test")["Young"] > 0.5) == run.evaluator.rows("test").column("Young")
    ).sum()
    assert groups["correct"].sum() == right
    assert groups.loc[groups["is_worst"], "accuracy"].item() == groups["accuracy"].min()


def test_metrics_are_a_table_of_the_log(run):
    metrics = run.metrics
    assert metrics["val/Young/avg_acc"].dropna().size == 1
    assert (metrics["step"] <= 2).all()


def test_what_cannot_be_read_is_named(run, tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(UserError, match=r"text.jpg: not an image of a known format"):
        run.predict(tmp_path / "text.jpg")
    with pytest.raises(UserError, match=r"missing.jpg: no such file"):
        run.predict([tmp_path / "missing.jpg"])
    with pytest.raises(UserError, match="there are no pictures"):
        run.predict([])
    with pytest.raises(UserError, match="not a run folder"):
        load_run(tmp_path)
    with pytest.raises(UserError, match="use a number, last, best"):
        load_run(run.path, "bset-group")
