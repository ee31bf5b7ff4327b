"""Parquet tables, also those of Hugging Face, where a column holds the pictures themselves."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.data.table import SPLIT_WORDS
from src.io import UserError, atomic_path

if TYPE_CHECKING:
    import pandas as pd

BATCH = 256  # pictures in memory at once


def open_parquet(path: Path) -> Any:
    """Open a parquet file.

    Raises:
        UserError: it is not one, or pyarrow is not installed.
    """
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise UserError(f"{path}: reading parquet needs pyarrow: `pip install pyarrow`") from error
    try:
        return ParquetFile(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a parquet file ({error})") from error


def picture_column(path: Path) -> str | None:
    """Return the name of the column with {"bytes", "path"} of pictures, if there is one."""
    for column in open_parquet(path).schema_arrow:
        names = {child.name for child in column.flatten()}
        if {f"{column.name}.bytes", f"{column.name}.path"} <= names:
            return column.name
    return None


def read_parquet(paths: Sequence[Path], archive: Path) -> "pd.DataFrame":
    """Read the table of one or several files, and write its pictures, if any, to a zip archive.

    Hugging Face's names of classes are applied. If there is no column `split` and the files are
    called `train-00000-of-00002.parquet` and so on, their names say the split.
    """
    import pandas as pd

    pictures = picture_column(paths[0])
    parts = []
    for path in paths:
        file = open_parquet(path)
        own = [name for name in file.schema_arrow.names if name != pictures]
        part = file.read(columns=own).to_pandas()
        for name, classes in _class_names(file.schema_arrow.metadata).items():
            if name in part:
                codes = part[name].where(part[name].ge(0), -1).astype(int)
                part[name] = pd.Categorical.from_codes(codes, classes)
        word = path.name.partition("-")[0]
        if "split" not in part and word in SPLIT_WORDS:
            part["split"] = word
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True)
    if pictures is not None:
        frame["filename"] = _write_pictures(paths, pictures, archive)
    return frame


def _class_names(metadata: dict[bytes, bytes] | None) -> dict[str, list[str]]:
    """Return the class names of each ClassLabel column that Hugging Face's datasets wrote."""
    about = json.loads((metadata or {}).get(b"huggingface", b"{}"))
    features = about.get("info", {}).get("features", {})
    labels = {c: kind for c, kind in features.items() if kind.get("_type") == "ClassLabel"}
    return {column: kind["names"] for column, kind in labels.items()}


def _write_pictures(paths: Sequence[Path], column: str, archive: Path) -> list[str]:
    """Write all pictures to the archive; return their names: their own, or their row numbers."""
    rows = (
        row
        for path in paths
        for batch in open_parquet(path).iter_batches(BATCH, columns=[column])
        for row in batch.column(0).to_pylist()
    )
    names: list[str] = []
    with atomic_path(archive) as partial, zipfile.ZipFile(partial, "w") as pictures:
        for number, row in enumerate(rows):
            names.append(f"{number:07d}-{Path((row or {}).get('path') or 'picture').name}")
            if row and row["bytes"]:  # prepare_data names those that are missing
                pictures.writestr(names[-1], row["bytes"])
    return names
