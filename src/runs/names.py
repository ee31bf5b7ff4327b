"""The name of a run folder: what is trained, and how it differs from the method's YAML."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

LONGEST_NAME = 80
FIRST_EDITION_LONGEST = 160
SHORT = {
    "weight_decay": "wd",
    "batch_size": "bs",
    "total_epochs": "epochs",
    "target_resolution": "res",
    "max_steps": "steps",
    "data_augmentation": "aug",
    "loss_balanced_task_weighting": "lbtw",
    "lambda_up": "lambda",
    "task_weights": "weights",
}


def default_log_dir(
    name: str, groupings: list[str], changed: dict[str, Any], seed: int, parent: str = "logs"
) -> Path:
    """Return logs/<exp>/<tasks>/<values that differ from the exp's YAML>-seed<seed>.

    `changed` maps dotted keys to values, and `model` or `dataset` to a part that was selected as a
    whole. If a value had to be shortened or spelled differently, a short hash is added, so that two
    different commands never share a folder. An existing run keeps the longer name that the first
    edition gave it.
    """
    names = (name, groupings, changed, seed, parent)
    path, old = _name(*names, SHORT, LONGEST_NAME), _name(*names, {}, FIRST_EDITION_LONGEST)
    return old if old.is_dir() and not path.exists() else path


def _name(
    name: str,
    groupings: list[str],
    changed: dict[str, Any],
    seed: int,
    parent: str,
    short: dict[str, str],
    longest: int,
) -> Path:
    tasks = _fit("_".join(groupings).replace(":", "-").replace("|", "~"), groupings, longest)
    pieces = []
    for key, value in changed.items():
        section, _, leaf = key.rpartition(".")
        label = section if leaf == "name" else short.get(leaf, leaf)
        if key in ("model", "dataset"):
            label = ""  # resnet18 needs no label
        if section.startswith("stage_"):
            label = f"{section.split('.')[0]}_{label}"
        pieces.append(label + _spell(value))
    full = "-".join([*pieces, f"seed{seed}"])
    return Path(parent) / name / tasks / _fit(full, [*changed.items()], longest, f"-seed{seed}")


def _spell(value: Any) -> str:
    if isinstance(value, list):
        return "x".join(_spell(entry) for entry in value)
    if isinstance(value, str):
        return value.replace("-", "~")  # '-' separates values; _fit restores it and adds a hash
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return str(value).lower()


def _fit(text: str, meant: Any, longest: int, suffix: str = "") -> str:
    """Return `text` as a short file name without : , = or space; with a hash if that changed it."""
    clean = re.sub(r"[^A-Za-z0-9_.+-]+", "-", text).lstrip(".-")
    if clean == text and len(text) <= longest:
        return text
    digest = hashlib.sha256(json.dumps([text, meant], default=str).encode()).hexdigest()[:8]
    body = clean.removesuffix(suffix)[: longest - len(suffix) - len(digest) - 1]
    return f"{body.rstrip('-')}-{digest}{suffix}"
