"""Known data sets as tables: the names of their files, and the meaning of their columns.

Each adapter returns a table with the columns `filename` (relative to the root), `split` and the
labels, which `src/data/metadata.py` encodes. `read_by_pattern` reads data sets whose labels are in
the names of folders and files; `exp.dataset.filename_pattern` in their YAML is the pattern.
"""

import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from src.data.text_files import read_text_table, shortened
from src.io import UserError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Adapter:
    """How a known data set is read.

    Attributes:
        files: of its table or tables; a `*` stands for any name.
        read: the paths of the files to a table.
        source: where to get them.
        grouping: whose groups (g0, g1, ...) have the published `counts` in train, val and test.
    """

    files: tuple[str, ...]
    read: "Callable[[Sequence[Path]], pd.DataFrame]"
    source: str
    grouping: str = ""
    counts: tuple[tuple[int, ...], ...] = ()

    def find(self, root: Path) -> list[Path]:
        """Return the paths of the files in `root`.

        Raises:
            UserError: a file is missing, or `*` fits several.
        """
        paths = []
        for name in self.files:
            found = sorted(root.glob(name))
            if len(found) != 1:
                problem = f"{len(found)} files are called" if found else "there is no"
                raise UserError(
                    f"{root}: {problem} {name}. Name the folder with exp.dataset.root=..., or the "
                    f"table with exp.dataset.metadata=...; the data are at {self.source}"
                )
            paths += found
        return paths


def waterbirds(paths: Sequence[Path]) -> "pd.DataFrame":
    """Sagawa et al. 2020: metadata.csv with img_filename, y, split, place."""
    frame = read_text_table(paths[0])
    bird = frame["y"].map({0: "landbird", 1: "waterbird"})
    place = frame["place"].map({0: "land", 1: "water"})
    return frame[["img_filename", "split"]].assign(bird=bird, place=place)


def celeba_metadata(paths: Sequence[Path]) -> "pd.DataFrame":
    """Kirichenko et al. 2023 (DFR): celeba_metadata.csv; y is Blond_Hair, place is Male."""
    frame = read_text_table(paths[0])
    frame["img_filename"] = "img_align_celeba/" + frame["img_filename"]
    labels = {"Blond_Hair": frame["y"], "Male": frame["place"]}
    return frame[["img_filename", "split"]].assign(**labels)


def subpopbench(paths: Sequence[Path]) -> "pd.DataFrame":
    """Yang et al. 2023: metadata_<name>.csv with filename, split, y, a; split 3 is an extra one."""
    return read_text_table(paths[0], dtype={"filename": str})[["filename", "split", "y", "a"]]


IDENTITIES = ("male", "female", "LGBTQ", "christian", "muslim", "other_religions", "black", "white")


def civilcomments(paths: Sequence[Path]) -> "pd.DataFrame":
    """WILDS (Koh et al. 2021): texts; toxicity and identities count from 0.5 on.

    A comment may name several identities: group it by one of them at a time.
    """
    frame = read_text_table(paths[0])
    shares = frame[["toxicity", *IDENTITIES]]
    labels = shares.ge(0.5).astype(float).where(shares.notna())
    names = [f"comment {row}" for row in range(len(frame))]
    return labels.assign(filename=names, split=frame["split"])


def chexpert(paths: Sequence[Path]) -> "pd.DataFrame":
    """Irvin et al. 2019: train.csv and valid.csv, split 75/10/15 by patient.

    A blank finding is not mentioned and counts as 0, as in SubpopBench; -1 (uncertain) is missing.
    """
    import pandas as pd

    frame = pd.concat([read_text_table(path) for path in paths], ignore_index=True)
    place = frame.columns.get_loc("No Finding")
    findings = frame.iloc[:, place:].fillna(0).replace(-1, np.nan)
    findings.columns = [name.replace(" ", "_") for name in findings.columns]
    # Paths begin with the name of the folder: CheXpert-v1.0-small/train/patient00001/...
    names = frame["Path"].str.partition("/")[2]
    patients = names.str.extract(r"(patient\d+)")[0].fillna(names)
    split = shares_by_name(patients, {"train": 75, "val": 10, "test": 15})
    return findings.assign(filename=names, split=split, Sex=frame["Sex"], Age=frame["Age"])


def fairface(paths: Sequence[Path]) -> "pd.DataFrame":
    """Karkkainen and Joo 2021: the official val is test here; val is a tenth of train."""
    import pandas as pd

    parts = [read_text_table(path, dtype={"file": str}) for path in paths]
    split = [shares_by_name(parts[0]["file"], {"train": 90, "val": 10}), ["test"] * len(parts[1])]
    frame = pd.concat(parts, ignore_index=True)
    return frame[["file", "age", "gender", "race"]].assign(split=np.concatenate(split))


def read_by_pattern(root: Path, pattern: str) -> "pd.DataFrame":
    """Return a table of all files below `root` whose path fits: filename, and a column per field.

    A field such as `{label}` is any text without `/`, or digits with `{age:int}`. A pattern with
    folders is compared with the whole path below the root, others with the name of the file.

    Raises:
        UserError: the pattern has no field, names one twice, or fits no file.
    """
    import pandas as pd

    def field(match: re.Match) -> str:
        return rf"(?P<{match[1]}>{r'[0-9]+' if match[2] else '[^/]+?'})"

    where = f"exp.dataset.filename_pattern={pattern}"
    form = re.sub(r"\\{(\w+)(:int)?\\}", field, re.escape(pattern))
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    names = pd.Series(paths, dtype=str)
    try:
        fields = names.str.extract(rf"{'^' if '/' in pattern else '(?:^|/)'}{form}$")
        fits = fields.notna().any(axis=1)
        fields.insert(0, "filename", names)
    except (re.error, ValueError):
        raise UserError(
            f"{where}: name each field once in braces, such as '{{age:int}}_{{gender}}.jpg'"
        ) from None
    if not fits.any():
        raise UserError(
            f"{where}: none of {len(paths):,} files below {root} fits, such as "
            f"{shortened(paths) or 'none'}"
        )
    if not fits.all():
        others = names[~fits].tolist()
        print(f"{len(others):,} files do not fit {pattern}: {shortened(others)}", flush=True)
    return fields[fits].reset_index(drop=True)


def shares_by_name(names: "pd.Series", shares: Mapping[str, int]) -> np.ndarray:
    """Return a split for each name, in percent; equal names have equal splits."""
    limits = np.cumsum([*shares.values()])
    places = np.array([zlib.crc32(name.encode()) % 100 for name in names])
    return np.array([*shares])[np.searchsorted(limits, places, side="right")]


ADAPTERS = {
    "waterbirds": Adapter(
        ("metadata.csv",),
        waterbirds,
        "https://nlp.stanford.edu/data/dro/waterbird_complete95_forest2water2.tar.gz",
        "bird:place",
        ((3498, 184, 56, 1057), (467, 466, 133, 133), (2255, 2255, 642, 642)),
    ),
    "celeba_metadata": Adapter(
        ("celeba_metadata.csv",),
        celeba_metadata,
        "https://github.com/PolinaKirichenko/deep_feature_reweighting",
        "Blond_Hair:Male",
        ((71629, 66874, 22880, 1387), (8535, 8276, 2874, 182), (9767, 7535, 2480, 180)),
    ),
    "subpopbench": Adapter(
        ("metadata_*.csv",), subpopbench, "https://github.com/YyzHarry/SubpopBench"
    ),
    "civilcomments": Adapter(
        ("all_data_with_identities.csv",), civilcomments, "https://wilds.stanford.edu"
    ),
    "chexpert": Adapter(
        ("train.csv", "valid.csv"),
        chexpert,
        "https://stanfordmlgroup.github.io/competitions/chexpert",
    ),
    "fairface": Adapter(
        ("fairface_label_train.csv", "fairface_label_val.csv"),
        fairface,
        "https://github.com/joojs/fairface",
    ),
}
