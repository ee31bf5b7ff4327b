"""The name of a run directory: what is trained, and how it differs from the method's YAML."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from src.data.groupings import parse_grouping

LONGEST_NAME = 160


def default_log_dir(
    name: str, groupings: list[str], changed: dict[str, Any], seed: int, parent: str = "logs"
) -> Path:
    """logs/<exp>/<tasks>/<values that differ from the exp's YAML>-seed<seed>.

    `changed` maps dotted keys to values, and `model` or `dataset` to the part that was chosen as a
    whole. A short hash of all of it is added where a value had to be shortened or respelled, so
    that two different commands never share a folder.
    """
    tasks = _fit("_".join(parse_grouping(grouping).slug for grouping in groupings), groupings)
    pieces = []
    for key, value in changed.items():
        section, _, leaf = key.rpartition(".")
        label = section if leaf == "name" else leaf
        if key in ("model", "dataset"):
            label = ""  # a part chosen as a whole speaks for itself: resnet18
        if section.startswith("stage_"):
            label = f"{section.split('.')[0]}_{leaf}"
        pieces.append(label + _spell(value))
    full = "-".join([*pieces, f"seed{seed}"])
    return Path(parent) / name / tasks / _fit(full, [*changed.items()], suffix=f"-seed{seed}")


def _spell(value: Any) -> str:
    if isinstance(value, list):
        return "x".join(_spell(entry) for entry in value)
    if isinstance(value, str):
        return value.replace("-", "~")  # '-' separates values; _fit puts it back and adds a hash
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return str(value).lower()


def _fit(text: str, meant: Any, suffix: str = "") -> str:
    """`text` as a file name without : , = or space, not too long; with a hash where it changed."""
    clean = re.sub(r"[^A-Za-z0-9_.+-]+", "-", text).lstrip(".-")
    if clean == text and len(text) <= LONGEST_NAME:
        return text
    digest = hashlib.sha256(json.dumps([text, meant], default=str).encode()).hexdigest()[:8]
    body = clean.removesuffix(suffix)[: LONGEST_NAME - len(suffix) - len(digest) - 1]
    return f"{body}-{digest}{suffix}"
