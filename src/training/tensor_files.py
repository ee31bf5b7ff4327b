"""Files of torch.save, read as plain tensors: no pickled code is run, every part is checked."""

import zipfile
from pathlib import Path
from typing import Any

import torch


def read_tensors(path: Path) -> Any:
    """What a file of torch.save holds, on the CPU.

    Raises:
        Exception: zip, pickle and torch raise many kinds for a damaged file; ValueError where a
            part's CRC32 differs, which torch.load itself does not look at. A file in the format of
            torch before 1.6 has no checksums.
    """
    if zipfile.is_zipfile(path):
        _check_parts(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _check_parts(path: Path) -> None:
    with zipfile.ZipFile(path) as parts:
        damaged, table = parts.testzip(), parts.infolist()
    if damaged is not None:
        raise ValueError(f"its part {damaged} is damaged")
    # What torch's reader goes by and testzip does not look at. Nothing is compressed, and a part
    # that looks like a folder would be read as uninitialised memory.
    if len({part.filename for part in table}) < len(table) or any(
        part.compress_size != part.file_size or part.external_attr for part in table
    ):
        raise ValueError("its table of parts is damaged")
