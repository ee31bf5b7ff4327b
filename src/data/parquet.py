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

        return ParquetFile(path)
    except ImportError as error:
        raise UserError(f"{path}: reading parquet needs pyarrow: `pip install pyarrow`") from error
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

    pictures, parts = picture_column(paths[0]), []
    for path in paths:
        file = open_parquet(path)
        part = file.read([n for n in file.schema_arrow.names if n != pictures]).to_pandas()
        about = json.loads((file.schema_arrow.metadata or {}).get(b"huggingface", b"{}"))
        for name, kind in about.get("info", {}).get("features", {}).items():
            if kind.get("_type") == "ClassLabel" and name in part:
                codes = part[name].where(part[name].ge(0), -1).astype(int)
                part[name] = pd.Categorical.from_codes(codes, kind["names"])
        word = path.name.partition("-")[0]
        parts.append(
            part if "split" in part or word not in SPLIT_WORDS else part.assign(split=word)
        )
    frame = pd.concat(parts, ignore_index=True)
    return frame if pictures is None else _write_pictures(frame, paths, pictures, archive)


def _write_pictures(
    frame: "pd.DataFrame", paths: Sequence[Path], column: str, archive: Path
) -> "pd.DataFrame":
    """Write all pictures to the archive, and add a column `filename`: row number and own name."""
    rows = (
        row or {}
        for path in paths
        for batch in open_parquet(path).iter_batches(BATCH, columns=[column])
        for row in batch.column(0).to_pylist()
    )
    names: list[str] = []
    with atomic_path(archive) as partial, zipfile.ZipFile(partial, "w") as pictures:
        for number, row in enumerate(rows):
            names.append(f"{number:07d}-{Path(row.get('path') or 'picture').name}")
            if row.get("bytes"):  # prepare_data names those that are missing
                pictures.writestr(names[-1], row["bytes"])
    return frame.assign(filename=names)
