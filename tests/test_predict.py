"""predict.py on image files of a user."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import predict
from src.api import load_run


@pytest.fixture
def folder(tmp_path):
    """Two pictures that are no data set's, and a text."""
    rng = np.random.default_rng(0)
    (tmp_path / "mine" / "more").mkdir(parents=True)
    for name, size in (("b.png", (50, 90, 3)), ("more/a.jpg", (64, 64, 3))):
        Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(tmp_path / "mine" / name)
    (tmp_path / "mine" / "notes.txt").write_text("no picture")
    return tmp_path / "mine"


def test_pictures_of_a_folder_are_predicted_and_bad_ones_named(
    finished_run, folder, tmp_path, capsys
):
    bad, out = tmp_path / "bad.jpg", tmp_path / "table.csv"
    bad.write_text("no picture")
    predict.main(["--log_dir", str(finished_run), str(folder), str(bad), "--out", str(out)])
    printed = capsys.readouterr().out
    assert "2 pictures" in printed and f"skipped: {bad}: not an image" in printed
    table = pd.read_csv(out, index_col="image")
    assert list(table.index) == [str(folder / "b.png"), str(folder / "more/a.jpg")]
    expected = load_run(finished_run).predict(list(table.index))
    np.testing.assert_allclose(table.values, expected.values, rtol=1e-4)


def test_explain_draws_a_sheet_beside_the_table(finished_run, folder, tmp_path, capsys):
    pytest.importorskip("captum")
    out = tmp_path / "table.csv"
    predict.main(["--log_dir", str(finished_run), str(folder), "--out", str(out), "--explain"])
    with Image.open(tmp_path / "table.png") as sheet:
        assert sheet.width > 600 and len(np.unique(sheet.convert("L"))) > 100
    assert str(tmp_path / "table.png") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.jpg"], "nothing.jpg: no such file"),
        (["--out", "table.txt", "x.jpg"], "use a name that ends in .csv"),
        (["tests/golden"], "there are no images"),
    ],
)
def test_mistakes_end_with_their_reason(finished_run, arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        predict.main(["--log_dir", str(finished_run), *arguments])
    assert message in capsys.readouterr().err
