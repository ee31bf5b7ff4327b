"""From a table of six columns to its explorer, by the commands of docs/discovery.md."""

import numpy as np
import pandas as pd
import pytest

from scripts import run_create_spurious_matrix, run_spurious_train, spurious_eval

pytestmark = pytest.mark.browser

COLUMNS = ("bird", "water", "small", "young", "singing", "flying")


@pytest.fixture(scope="module")
def explorer(tmp_path_factory):
    """One linear network for six columns of a table of features; bird leans on water."""
    root = tmp_path_factory.mktemp("table")
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, (900, 6))
    train = np.repeat([True, False], [600, 300])
    same = draw.random(900) < 0.95
    labels[train & same, 0] = labels[train & same, 1]
    # The feature of a bird is weaker than that of water.
    features = (2 * labels - 1) * [0.3, 3, 1, 1, 1, 1] + draw.normal(size=(900, 6))
    np.save(root / "features.npy", features.astype(np.float32))
    table = pd.DataFrame(labels, columns=COLUMNS)
    table.insert(0, "split", np.where(train, "train", "val"))
    table.to_csv(root / "metadata.csv", index=False)

    shell = ["--shared", "--mode", "shell"]
    data = ["exp/dataset=table", f"exp.dataset.root={root}", "exp/model=linear"]
    data += [f"exp.dataset.features={root / 'features.npy'}"]
    log_dir, json_dir = str(root / "logs"), str(root / "eval")
    settings = ["--epochs", "4", "--lr", "0.1", "--wd", "0", "--log_dir", log_dir]
    assert run_spurious_train.main([*shell, *settings, "--", *data]) == 0
    matrix = ["--meta_log_dir", log_dir, "--json_dir", json_dir]
    assert run_create_spurious_matrix.main([*shell, *matrix]) == 0
    out = ["--out_dir", str(root / "svd"), "--k", "3", "--resamples", "5"]
    spurious_eval.main(["--json_dir", json_dir, *out])
    return root / "eval" / "index.html"


def test_the_explorer_of_a_table_shows_its_columns_and_finds_the_shortcut(explorer, open_page):
    page = open_page(explorer)
    assert page.locator("#matrix [data-name]").count() == 36
    assert "6 tasks × 6 attributes on 300 images of the val split" in page.inner_text("#facts")
    assert page.locator("#list button").first.inner_text().startswith("bird : water")
