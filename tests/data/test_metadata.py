"""A table of pictures: names, splits, columns, and CelebA read through a metadata.csv."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import test as evaluation
import train
from src.config.compose import load_config
from src.data.celeba import load_annotations
from src.data.dataset import Dataset
from src.data.groupings import parse_grouping
from src.data.metadata import TableLayout, TableOptions
from src.data.split import deal
from src.evaluation.logits import load_logits
from src.io import UserError, read_json
from tests.data.small_celeba import draw_image


def write_table(root: Path, frame: pd.DataFrame, name: str = "metadata.csv") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    frame.to_csv(root / name, index=False)
    return root


def read(root: Path, **options):
    return TableLayout(root, root.parent / "cache", TableOptions(**options)).table()


def frame(**columns) -> pd.DataFrame:
    names = [f"{row}.png" for row in range(4)]
    return pd.DataFrame({"filename": names, "split": ["train", "train", "val", "test"], **columns})


def test_columns_splits_and_missing_values(tmp_path):
    table = read(
        write_table(tmp_path / "t", frame(y=["a", "b", None, "c"], age=[5, 30, 70, 30])),
        bins={"age": [20, 40]},
    )
    assert table.names.tolist() == ["0.png", "1.png", "2.png", "3.png"]
    assert table.split.tolist() == [0, 0, 1, 2]
    assert (table.columns, table.classes) == (
        ("y", "age"),
        (("a", "b", "c"), ("<20", "20-40", ">=40")),
    )
    assert table.codes.tolist() == [[0, 0], [1, 1], [-1, 2], [2, 1]]
    grouping = parse_grouping("y:age", dict(zip(table.columns, table.classes)))
    assert grouping.group_ids(table).tolist() == [0, 4, -1, 7]
    assert grouping.group_names[4] == "y=b age=20-40"


@pytest.mark.parametrize("name", ["img_filename", "path", "image_id", "file_name"])
def test_other_names_and_the_index_column_of_pandas(tmp_path, name):
    (tmp_path / "t").mkdir()
    data = frame(y=[0, 1, 0, 1]).rename(columns={"filename": name})
    data.to_csv(tmp_path / "t" / "metadata.csv")
    table = read(tmp_path / "t")
    assert table.names[3] == "3.png" and table.columns == ("y",)


@pytest.mark.parametrize("suffix", ["tsv", "parquet"])
def test_other_files(tmp_path, suffix):
    data, root = frame(y=["x", "z", "x", None]), tmp_path / "t"
    root.mkdir()
    if suffix == "tsv":
        data.to_csv(root / "metadata.tsv", index=False, sep="\t")
    else:
        pytest.importorskip("pyarrow")
        data.to_parquet(root / "metadata.parquet")
    assert read(root).codes[:, 0].tolist() == [0, 1, 0, -1]


def test_a_named_file(tmp_path):
    root = write_table(tmp_path / "t", frame(y=[0, 1, 0, 1]), "mine.csv")
    assert len(read(root, metadata="mine.csv")) == 4
    with pytest.raises(UserError, match=r"exp.dataset.metadata="):
        read(root)


@pytest.mark.parametrize("head", ["", "image_id,split\n"])
def test_the_split_may_be_in_a_file_of_its_own(tmp_path, head):
    root = write_table(tmp_path / "t", frame(y=[0, 1, 0, 1]).drop(columns="split"))
    (root / "parts.csv").write_text(f"{head}3.png,2\n2.png,valid\n1.png,0\n0.png,extra\nx.png,0\n")
    table = read(root, split_file="parts.csv")
    assert table.split.tolist() == [3, 0, 1, 2] and table.splits[3] == "extra"
    (root / "parts.csv").write_text(f"{head}3.png,2\n0.png,trian\n")
    with pytest.raises(UserError, match=f"line {2 + bool(head)}: the split is 'trian'"):
        read(root, split_file="parts.csv")
    (root / "parts.csv").write_text(f"{head}3.png,2\n1.png,0\n")
    with pytest.raises(UserError, match=r"2 rows of metadata.csv have no row in parts.csv: 0.png"):
        read(root, split_file="parts.csv")


def test_a_hugging_face_export_holds_its_pictures(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    label = {"names": ["dog", "cat"], "_type": "ClassLabel"}
    about = {"info": {"features": {"label": label, "image": {"_type": "Image"}}}}
    for split, codes in {"train": [0, 1, -1], "validation": [1], "test": [0]}.items():
        pictures = [
            {"bytes": png(draw_image(k, (20, 16))), "path": "1.png"} for k in range(len(codes))
        ]
        table = pyarrow.table({"image": pictures, "label": codes})
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
        (tmp_path / "t/data").mkdir(parents=True, exist_ok=True)
        parquet.write_table(table, tmp_path / f"t/data/{split}-00000-of-00001.parquet")
    for _ in range(2):  # the second time from the copy of the table
        layout = TableLayout(tmp_path / "t", tmp_path / "cache")
        dataset = Dataset(layout, (16, 16))
        assert dataset.table.classes == (("dog", "cat"),)
        assert dataset.table.column("label").tolist() == [0, 0, 1, -1, 1]  # test, train, validation
        assert dataset.table.split.tolist() == [2, 0, 0, 0, 1]
        read_back = dataset.images("train", workers=1, progress=False).read(np.arange(3))
        own = np.stack([dataset.pixels().decode(png(draw_image(k, (20, 16))))[0] for k in range(3)])
        assert (read_back == own).all()
        layout.archive.unlink()


def png(picture: Image.Image) -> bytes:
    picture.save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


def test_other_words_are_further_splits(tmp_path):
    data = frame(y=[0, 1, 0, 1]).assign(split=[0, "test2", "id_val", " test2"])
    table = read(write_table(tmp_path / "t", data))
    assert table.splits == ("train", "val", "test", "test2", "id_val")
    assert table.of_split("test2").names.tolist() == ["1.png", "3.png"]


def test_a_class_may_be_called_none_or_na(tmp_path):
    data = frame(hat=["None", "cap", "NA", None])
    table = read(write_table(tmp_path / "t", data))
    assert table.classes == (("NA", "None", "cap"),)
    assert table.codes[:, 0].tolist() == [1, 2, 0, -1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": ["trian", "train", "val", "test"]}, "line 2.*'trian'.*did you mean train"),
        ({"split": ["train", None, "val", "test"]}, "line 3: the split is missing"),
        ({"filename": ["0.png", "0.png", "0.png", "1.png"]}, "0.png is in val and in another"),
        ({"filename": ["0.png", None, "2.png", "1.png"]}, "line 3: the filename is missing"),
    ],
)
def test_unusable_rows_are_named(tmp_path, change, message):
    root = write_table(tmp_path / "t", frame(y=[0, 1, 0, 1]).assign(**change))
    with pytest.raises(UserError, match=message):
        read(root)


def test_no_file_column_and_unknown_bins(tmp_path):
    root = write_table(tmp_path / "t", frame(y=[0, 1, 0, 1]).rename(columns={"filename": "f"}))
    with pytest.raises(UserError, match=r"no column of file names.*Its columns are f, split, y"):
        read(root)
    root = write_table(tmp_path / "u", frame(age=[0, 1, 0, 1]))
    with pytest.raises(UserError, match=r"bins.aeg: metadata.csv has no such column.*age"):
        read(root, bins={"aeg": [1.0]})


def test_unusable_columns_are_refused_when_named(tmp_path):
    names, score = [f"{row}.png" for row in range(100)], np.arange(100) / 7
    many = pd.DataFrame({"filename": names, "split": "train", "y": [0, 1] * 50, "score": score})
    many["age"] = range(100)
    table = read(write_table(tmp_path / "t", many))
    columns = {**table.unusable, **dict(zip(table.columns, table.classes))}
    assert parse_grouping("age:y", columns).num_classes == 100
    with pytest.raises(UserError, match=r"'age' has 100 values.*exp.dataset.bins.age="):
        parse_grouping("y:age", columns)
    with pytest.raises(UserError, match=r"'score' holds numbers such as .*exp.dataset.bins.score="):
        parse_grouping("y:score", columns)
    with pytest.raises(UserError, match=r"unknown attribute 'zzz'; allowed: score, y, age"):
        parse_grouping("y:zzz", columns)


def test_the_copy_follows_the_options(tmp_path):
    root = write_table(tmp_path / "t", frame(age=[5, 30, 70, 30]))
    assert read(root, bins={"age": [20.0]}).classes == (("<20", ">=20"),)
    assert read(root, bins={"age": [50.0]}).codes[:, 0].tolist() == [0, 0, 1, 0]
    assert read(root, bins={"age": [50.0]}).codes[:, 0].tolist() == [0, 0, 1, 0]


def test_a_split_is_stratified_by_all_columns():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, (3000, 2))
    split = deal(codes, [0.7, 0.1, 0.2], seed=1)
    for values in ([0, None], [1, None], [2, 0], [2, 2]):
        cell = np.all([codes[:, c] == v for c, v in enumerate(values) if v is not None], axis=0)
        shares = np.bincount(split[cell], minlength=3) / cell.sum()
        assert np.abs(shares - [0.7, 0.1, 0.2]).max() < 3 / cell.sum() ** 0.9
    assert (deal(codes, [0.7, 0.1, 0.2], seed=2) != split).any()


def test_a_drawn_split_never_changes(tmp_path):
    data = pd.DataFrame({"filename": [f"{i}.png" for i in range(50)], "y": [0, 1] * 25})
    root = write_table(tmp_path / "t", data)
    before = dict(zip(data["filename"], read(root).split))
    more = pd.concat(
        [data, pd.DataFrame({"filename": [f"{i}.png" for i in range(50, 90)], "y": 1})]
    )
    write_table(root, more.iloc[::-1].assign(z=[0, 1] * 45))
    table = read(root)
    after = dict(zip(table.names, table.split))
    assert {name: after[name] for name in before} == before
    assert np.bincount(table.split).min() >= 8


def test_pictures_are_found_in_images_and_without_suffix(tmp_path):
    root = write_table(tmp_path / "t", frame(y=[0, 1, 0, 1]))
    (root / "images").mkdir()
    for row in range(4):
        draw_image(row, (20, 16)).save(root / "images" / f"{row}.jpg")
    bare = frame(y=[0, 1, 0, 1]).assign(filename=["0", "1", "2", "3"])
    for data in (frame(y=[0, 1, 0, 1]), bare):
        write_table(root, data)
        layout = TableLayout(root, tmp_path / "cache", TableOptions())
        dataset = Dataset(layout, (8, 8))
        assert dataset.images("train", workers=1, progress=False).read(np.arange(2)).shape == (
            *(2, 8, 8, 3),
        )
    draw_image(0).save(root / "0.webp")
    write_table(root, frame(y=[0, 1, 0, 1]).assign(filename=["x/0", "x/1", "x/2", "x/3"]))
    with pytest.raises(UserError, match="no picture 'x/0' there"):
        Dataset(TableLayout(root, tmp_path / "cache", TableOptions()), (8, 8)).images("train")


def test_celeba_through_a_table_is_the_same(tiny_celeba, tmp_path):
    theirs = load_annotations(tiny_celeba, tmp_path / "cache")
    data = pd.DataFrame(2 * theirs.codes.astype(int) - 1, columns=theirs.columns)
    data.insert(0, "image_id", theirs.names)
    data["split"] = theirs.split
    data.to_csv(tmp_path / "metadata.csv", index=False)
    options = TableOptions(metadata=str(tmp_path / "metadata.csv"))
    with pytest.raises(UserError, match="no picture"):
        Dataset(TableLayout(tiny_celeba, tmp_path / "c", options), (16, 16)).files  # noqa: B018
    root = tiny_celeba / "img_align_celeba"
    ours = Dataset(TableLayout(root, tmp_path / "cache", options), (16, 16))
    old = Dataset(tiny_celeba, (16, 16), cache_dir=tmp_path / "cache")
    assert ours.table.identity == old.table.identity
    grouping = parse_grouping("Blond_Hair:Male", ours.columns)
    assert grouping == parse_grouping("Blond_Hair:Male")
    for split in ("train", "val", "test"):
        rows = np.arange(len(old.split(split)))
        same = ours.images(split, workers=1).read(rows) == old.images(split, workers=1).read(rows)
        assert same.all()
        groups = [grouping.group_ids(dataset.split(split)) for dataset in (ours, old)]
        assert (groups[0] == groups[1]).all()
    whole = Dataset(TableLayout(root, tmp_path / "cache", options), (16, 16), resize=[218, 178])
    frames = [data.images("train", True, workers=1) for data in (whole, old)]
    assert (frames[0].read(np.arange(9)) == frames[1].read(np.arange(9))).all()


def test_a_run_on_a_table_masks_missing_labels(tmp_path):
    rng = np.random.default_rng(0)
    names = [f"{row}.{('png', 'jpg')[row % 2]}" for row in range(40)]
    data = pd.DataFrame({"filename": names, "shape": rng.choice(["disc", "ring", "star"], 40)})
    data["size"] = rng.integers(10, 90, 40)
    data["split"] = ["train"] * 24 + ["val"] * 8 + ["test"] * 8
    data.loc[::4, "shape"] = None
    data.loc[1::4, "size"] = np.nan
    root = write_table(tmp_path / "t", data)
    for row, name in enumerate(names):
        draw_image(row, (30, 20 + row % 3)).save(root / name)
    run = tmp_path / "run"
    overrides = [
        *("exp/dataset=table", f"exp.dataset.root={root}", "exp.dataset.groupings=[shape:size]"),
        *(f"exp.dataset.cache_dir={tmp_path / 'cache'}", "exp.dataset.bins.size=[40,60]"),
        *("exp.dataset.target_resolution=[32,32]", "exp.model.name=shufflenet_v2_x0_5"),
        *("exp.model.pretrained=false", "exp.dataloader.batch_size=8", "exp.train.device=cpu"),
        *("exp.train.total_epochs=1", "exp.train.tensorboard=false", f"exp.train.log_dir={run}"),
    ]
    train.main(load_config(overrides))
    evaluation.main(["--log_dir", str(run), "--ckpt_num", "1", "--split", "test"])
    figures = read_json(run / "results" / "test_stats_1.json")["shape:size"]
    assert len(figures["groups"]) == 9
    assert figures["groups"][8]["name"] == "shape=star size=>=60"
    test = data[data["split"] == "test"]
    assert sum(group["total"] for group in figures["groups"]) == test.dropna().shape[0] == 4
    values = load_logits(run / "results" / "test_logits_1.npz").values
    assert values.shape == (8, 3)
    labels = test["shape"].map({"disc": 0, "ring": 1, "star": 2})
    known = labels.notna()
    right = values.argmax(1)[known] == labels[known]
    assert figures["avg_acc"] == pytest.approx(right.mean())  # of 6 labelled examples
    losses = np.log(np.exp(values).sum(1)) - values[np.arange(8), labels.fillna(0).astype(int)]
    assert figures["loss"] == pytest.approx(losses[known].mean(), rel=1e-5)
