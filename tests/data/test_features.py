"""Features in the place of images."""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file

import test as evaluation
import train
from src.api import load_run
from src.config.compose import load_config
from src.data.dataset import Dataset
from src.data.metadata import TableLayout, TableOptions
from src.evaluation.logits import load_logits
from src.io import UserError, read_json


@pytest.fixture
def texts(tmp_path):
    """60 rows without pictures: features of 5 numbers, the first three say the label."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    values = rng.normal(0, 1, (60, 5)).astype(np.float32)
    values[:, :3] += 5 * np.eye(3)[labels]
    rows = {"y": labels, "sex": rng.integers(0, 2, 60)}
    rows["split"] = ["train", "test", "val"] * 20  # not in the order of the splits
    pd.DataFrame(rows).to_csv(tmp_path / "metadata.csv", index=False)
    np.save(tmp_path / "features.npy", values)
    return tmp_path, values


def overrides(root, *more):
    return [
        "exp/dataset=table",
        "exp/model=linear",
        f"exp.dataset.root={root}",
        f"exp.dataset.features={root / 'features.npy'}",
        f"exp.dataset.cache_dir={root / 'cache'}",
        "exp.dataset.groupings=[y:sex]",
        "exp.dataloader.batch_size=8",
        "exp.optimizer.lr=0.1",
        "exp.train.device=cpu",
        "exp.train.total_epochs=5",
        "exp.train.tensorboard=false",
        f"exp.train.log_dir={root / 'run'}",
        *more,
    ]


def test_rows_of_a_split_are_those_of_the_table(texts):
    root, values = texts
    layout = TableLayout(root, root / "cache", TableOptions(features="given"))
    data = Dataset(layout, (8, 8), features=str(root / "features.npy"))
    assert data.split("val").names[1] == "row 5"
    rows = data.images("val")
    assert (rows.read(np.array([1, 0])) == values[[5, 2]]).all()
    assert rows.fingerprint != data.images("test").fingerprint


@pytest.mark.parametrize("model", ["linear", "mlp"])
def test_training_and_evaluation_on_features(texts, model):
    root, values = texts
    train.main(load_config([*overrides(root), f"exp/model={model}"]))
    evaluation.main(["--log_dir", str(root / "run"), "--ckpt_num", "last", "--split", "test"])
    assert read_json(root / "run/results/test_stats_last.json")["y:sex"]["avg_acc"] > 0.8
    if model == "linear":
        run = load_run(root / "run")
        assert run.predict(torch.from_numpy(values[:4])).shape == (4, 3)
        with pytest.raises(UserError, match="so it cannot predict"):
            run.predict("me.jpg")

        head = torch.load(root / "run/ckpts/ckpt.5.pt", weights_only=True)["model"]
        logits = load_logits(root / "run/results/test_logits_5.npz").values
        wanted = values[1::3] @ head["head.weight"].numpy().T + head["head.bias"].numpy()
        assert np.allclose(logits, wanted, atol=1e-5)


def test_safetensors_hold_the_same(texts):
    root, values = texts
    save_file({"features": values}, root / "features.safetensors")
    layout = TableLayout(root, root / "cache", TableOptions(features="given"))
    both = [
        Dataset(layout, (8, 8), features=str(root / f"features.{kind}")).images("train")
        for kind in ("npy", "safetensors")
    ]
    assert both[0].fingerprint == both[1].fingerprint


def test_what_does_not_fit_is_refused(texts):
    root, values = texts
    with pytest.raises(UserError, match="needs exp/model=linear"):
        load_config([*overrides(root), "exp/model=resnet18"])
    with pytest.raises(UserError, match="has texts, no pictures"):
        load_config(["exp/dataset=civilcomments"])
    with pytest.raises(UserError, match="data_augmentation needs images"):
        load_config(overrides(root, "exp.dataset.data_augmentation=true"))
    np.save(root / "features.npy", values[:50])
    with pytest.raises(UserError, match="has 50 rows, but the table has 60"):
        train.main(load_config(overrides(root)))
    np.save(root / "features.npy", values[:, 0])
    with pytest.raises(UserError, match=r"shape \(60,\).*\(N, D\)"):
        load_config(overrides(root))
    (root / "features.npy").write_bytes(b"no array")
    with pytest.raises(UserError, match="cannot be read"):
        load_config(overrides(root))
