"""Known data sets, read from small files in their official layouts."""

import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scripts import prepare_data
from src.config.compose import load_config
from src.config.dataset import dataset_options
from src.data.adapters import read_by_pattern, shares_by_name
from src.data.dataset import open_dataset
from src.data.groupings import parse_groupings
from src.io import UserError


def opened(name, root, *overrides):
    """Open a data set by its YAML, and return it with its first grouping."""
    config = load_config(
        [
            f"exp/dataset={name}",
            f"exp.dataset.root={root}",
            f"exp.dataset.cache_dir={root / 'cache'}",
            *overrides,
        ]
    )
    data = open_dataset(**dataset_options(config.dataset), workers=1)
    return data.table, parse_groupings(config.dataset.groupings, columns=data.columns)[0]


def groups(table, grouping):
    return [
        (name, grouping.group_names[group] if group >= 0 else None)
        for name, group in zip(table.names.tolist(), grouping.group_ids(table))
    ]


def test_waterbirds(tmp_path):
    (tmp_path / "metadata.csv").write_text(
        "img_id,img_filename,y,split,place,place_filename\n"
        "1,001.Black_footed_Albatross/a_01.jpg,1,2,0,/b/bamboo_forest/1.jpg\n"
        "2,002.Laysan_Albatross/b_02.jpg,1,0,1,/o/ocean/2.jpg\n"
        "3,030.Fish_Crow/c_03.jpg,0,1,0,/b/bamboo_forest/3.jpg\n"
    )
    table, grouping = opened("waterbirds", tmp_path)
    assert table.split.tolist() == [2, 0, 1]
    assert grouping.group_ids(table).tolist() == [2, 3, 0]  # 2 y + place
    assert groups(table, grouping)[0] == (
        "001.Black_footed_Albatross/a_01.jpg",
        "bird=waterbird place=land",
    )
    copy = np.load(next((tmp_path / "cache").glob("*/table.npz")))
    assert " at 0x" not in str(copy["about"])  # an address would differ in every process


def test_celeba_of_dfr(tmp_path):
    (tmp_path / "celeba_metadata.csv").write_text(
        ",img_filename,y,split,place\n0,000001.jpg,0,0,1\n1,000002.jpg,1,1,0\n2,000003.jpg,1,2,1\n"
    )
    table, grouping = opened("celeba_metadata", tmp_path)
    assert table.names[0] == "img_align_celeba/000001.jpg"
    assert grouping.group_ids(table).tolist() == [1, 2, 3]


def test_subpopbench(tmp_path):
    text = (
        "id,filename,split,y,a\n0,a/0.jpg,0,0,3\n1,a/1.jpg,1,1,0\n2,a/2.jpg,2,0,1\n3,b.jpg,3,1,2\n"
    )
    (tmp_path / "metadata_nico.csv").write_text(text)
    table, grouping = opened("subpopbench", tmp_path)
    assert table.splits[3] == "3"
    assert grouping.group_ids(table).tolist() == [3, 4, 1, 6]  # 4 y + a
    (tmp_path / "metadata_other.csv").write_text(text)
    with pytest.raises(UserError, match=r"2 files are called metadata_\*.csv.*metadata="):
        opened("subpopbench", tmp_path)
    assert len(opened("subpopbench", tmp_path, "exp.dataset.metadata=metadata_other.csv")[0]) == 4


def test_civilcomments_counts_from_one_half(tmp_path):
    columns = "male,female,LGBTQ,christian,muslim,other_religions,black,white"
    (tmp_path / "all_data_with_identities.csv").write_text(
        f",id,comment_text,split,created_date,toxicity,{columns},identity_any\n"
        '0,5,"one, two",train,x,0.5,0,0,0,0,0,0,0.5,0,1\n'
        "1,6,three,val,x,0.49,0,0,0,0,0,0,1.0,0,1\n"
        "2,7,four,test,x,0.9,1,0,0,0,0,0,0.2,0,1\n"
    )
    np.save(tmp_path / "x.npy", np.zeros((3, 2)))
    features = ["exp/model=linear", f"exp.dataset.features={tmp_path / 'x.npy'}"]
    table, grouping = opened("civilcomments", tmp_path, *features)
    assert grouping.group_ids(table).tolist() == [3, 1, 2]
    assert table.split.tolist() == [0, 1, 2]


def test_chexpert_splits_by_patient(tmp_path):
    head = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Edema\n"
    rows = [
        f"CheXpert-v1.0-small/train/patient{p:05d}/study{s}/view1_frontal.jpg,"
        f"{('Female', 'Male')[p % 2]},{30 + p % 60},Frontal,AP,{('1.0', '')[p % 2]},,"
        f"{('1.0', '0.0', '-1.0')[p % 3]}"
        for p in range(100)
        for s in (1, 2)
    ]
    (tmp_path / "train.csv").write_text(head + "\n".join(rows) + "\n")
    (tmp_path / "valid.csv").write_text(head + rows[0].replace("train/", "valid/") + "\n")
    table, grouping = opened("chexpert", tmp_path)
    assert grouping.name == "No_Finding:Sex"
    assert table.names[0] == "train/patient00000/study1/view1_frontal.jpg"
    assert grouping.group_ids(table)[:3].tolist() == [2, 2, 1]  # 1 and Female, blank and Male
    assert table.column("Edema")[:6:2].tolist() == [1, 0, -1]
    assert (table.split[0:200:2] == table.split[1:200:2]).all()
    assert 60 < 100 * (table.split == 0).mean() < 90
    assert table.classes[table.columns.index("Age")] == ("<40", "40-60", "60-80", ">=80")


def test_fairface(tmp_path):
    head = "file,age,gender,race,service_test\n"
    train = [f"train/{i}.jpg,20-29,{('Male', 'Female')[i % 2]},White,True" for i in range(50)]
    (tmp_path / "fairface_label_train.csv").write_text(head + "\n".join(train) + "\n")
    rows = "val/1.jpg,more than 70,Female,East Asian,False\nval/2.jpg,0-2,Male,Black,True\n"
    (tmp_path / "fairface_label_val.csv").write_text(head + rows)
    table, grouping = opened("fairface", tmp_path)
    assert groups(table, grouping)[50] == ("val/1.jpg", "gender=Female race=East Asian")
    assert table.split[50:].tolist() == [2, 2]
    assert set(table.split[:50]) == {0, 1}
    with pytest.raises(UserError, match="this data set has the tables"):
        opened("fairface", tmp_path, "exp.dataset.metadata=fairface_label_val.csv")


def test_splits_by_name_have_their_shares():
    names = pd.Series([f"n{i}" for i in range(5000)])
    split = shares_by_name(names, {"train": 75, "val": 10, "test": 15})
    counts = [(split == name).sum() for name in ("train", "val", "test")]
    assert counts == pytest.approx([3750, 500, 750], abs=100)


@pytest.mark.parametrize(
    ("name", "files", "wanted"),
    [
        (
            "utkface",
            ["25_0_3_20170116174525125.jpg.chip.jpg", "61_1_0_2017.jpg.chip.jpg"],
            ["gender=0 race=3", "gender=1 race=0"],
        ),
        (
            "metashift",
            ["train/cat/cat(indoor)/1.jpg", "test/dog/dog(outdoor)/2.jpg"],
            ["animal=dog place=outdoor", "animal=cat place=indoor"],
        ),
        (
            "nicopp",
            ["autumn/dog/a_1.jpg", "rock/cat/b_2.jpg"],
            ["class=dog context=autumn", "class=cat context=rock"],
        ),
        (
            "spawrious",
            ["0/beach/corgi/1.png", "1/snow/labrador/2.png"],
            ["breed=corgi location=beach", "breed=labrador location=snow"],
        ),
    ],
)
def test_labels_in_the_names_of_files(tmp_path, name, files, wanted):
    for file in [*files, "readme.txt"]:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    table, grouping = opened(name, tmp_path)
    assert [group for _, group in groups(table, grouping)] == wanted


def test_an_image_folder_with_splits(tmp_path):
    for file in ("train/cat/1.jpg", "val/dog/1.jpg", "39_1_20170116.jpg"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    frame = read_by_pattern(tmp_path, "{split}/{label}/{file}.jpg")
    assert frame.to_numpy().tolist() == [
        ["train/cat/1.jpg", "train", "cat", "1"],
        ["val/dog/1.jpg", "val", "dog", "1"],
    ]
    with pytest.raises(UserError, match="none of 3 files"):
        read_by_pattern(tmp_path, "{age:int}-{x}.jpg")
    with pytest.raises(UserError, match="name each field once"):
        read_by_pattern(tmp_path, "{a}_{a}.jpg")


def test_a_missing_file_or_column_is_named(tmp_path):
    with pytest.raises(UserError, match=r"there is no metadata.csv.*the data are at https://"):
        opened("waterbirds", tmp_path)
    (tmp_path / "metadata.csv").write_text("img_filename,y,split\na.jpg,1,0\n")
    with pytest.raises(UserError, match=r"metadata.csv: place: is it the data set's own file"):
        opened("waterbirds", tmp_path)


def test_prepare_data_checks_a_table_and_draws_a_sheet(shapes, tmp_path, capsys):
    prepare_data.main(
        [
            *("--dataset", "table", "--root", str(shapes), "--cache_dir", str(tmp_path)),
            *("--target_resolution", "16", "16", "--splits", "val", "--workers", "1"),
        ]
    )
    printed = capsys.readouterr().out
    assert "240 annotated images: train 120, val 60, test 60" in printed
    assert re.search(r"  shape: disc \d+, square \d+, triangle \d+; missing \d+", printed)
    sheet = Image.open(next(tmp_path.glob("*/sheet.jpg")))
    assert sheet.size == (6 * 16, 2 * 16)


def test_prepare_data_compares_groups_with_the_published_ones(tmp_path, capsys):
    rows = ["img_id,img_filename,y,split,place,place_filename"]
    counts = {0: (3498, 184, 56, 1057), 1: (467, 466, 133, 133), 2: (2255, 2255, 642, 641)}
    for split, sizes in counts.items():
        for group, size in enumerate(sizes):
            rows += [
                f"1,b/{split}-{group}-{k}.jpg,{group // 2},{split},{group % 2},p"
                for k in range(size)
            ]
    (tmp_path / "metadata.csv").write_text("\n".join(rows) + "\n")
    arguments = ["--dataset", "waterbirds", "--root", str(tmp_path)]
    with pytest.raises(UserError, match="no picture"):  # after the counts
        prepare_data.main([*arguments, "--cache_dir", str(tmp_path / "cache")])
    printed = capsys.readouterr().out
    assert "bird:place train: 3498, 184, 56, 1057, as published" in printed
    assert "test: 2255, 2255, 642, 641, NOT as published (2255, 2255, 642, 642)" in printed
