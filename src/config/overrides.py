"""What stands on a command line, before Hydra: joined brackets, second spellings, unknown keys."""

import difflib
import re
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from src.config.schema import schema_keys
from src.io import UserError, did_you_mean

# Texts that Hydra reads as themselves without quotes: Blond_Hair:Male, logs/erm/lr0.1-seed0.
_PLAIN = re.compile(r"([A-Za-z_/]|[0-9]_[A-Za-z])[A-Za-z0-9_./:+-]*")

CONFIG_DIR = Path(__file__).parent.parent.parent / "configs"

# A number that Python reads at all has at most 4,300 digits; no text of ours has so many.
_LONG_NUMBER = re.compile(r"[0-9_]{1000}")

# Second spellings, resolved before anything is composed or saved.
ALIASES = {
    "exp.total_epochs": "exp.train.total_epochs",
    "exp.groupings": "exp.dataset.groupings",
    "exp.lr": "exp.optimizer.lr",
    "exp.weight_decay": "exp.optimizer.weight_decay",
    "exp.batch_size": "exp.dataloader.batch_size",
    "exp.dataset.loss_based_task_weighting": "exp.dataset.loss_balanced_task_weighting",
}


def join_brackets(argv: list[str]) -> list[str]:
    """Join pieces that a shell split inside a list: `x=[a,` `b]` becomes `x=[a, b]`.

    Only values that start with '[' are joined, until the brackets outside of quotes balance.
    """
    joined: list[str] = []
    pieces = iter(argv)
    for piece in pieces:
        if piece.partition("=")[2].startswith("["):
            while _open_brackets(piece) > 0:
                following = next(pieces, None)
                if following is None:
                    raise UserError(f"'{piece}': a bracket is not closed")
                piece += " " + following
        joined.append(piece)
    return joined


def _open_brackets(text: str) -> int:
    depth, quote = 0, None
    for character in text:
        if quote:
            quote = None if character == quote else quote
        elif character in "'\"":
            quote = character
        else:
            depth += (character == "[") - (character == "]")
    return depth


def resolve_aliases(overrides: list[str]) -> tuple[list[str], list[str]]:
    """Replace second spellings of keys; the two spellings with different values are a problem, and
    so is a number that nobody can read."""
    resolved, seen, problems = [], {}, []
    for override in overrides:
        spelled, equals, value = override.partition("=")
        if _LONG_NUMBER.search(override):
            shown = f"{spelled[:80]}{equals}{value[:20]}"
            problems.append(f"{shown}...: a number of 1,000 digits or more; write a shorter one")
            continue
        key = ALIASES.get(spelled, spelled)
        first_spelled, first_value = seen.setdefault(key, (spelled, value))
        if first_spelled != spelled and first_value != value:
            problems.append(
                f"{first_spelled}={first_value} and {spelled}={value} set the same value: give one"
            )
        resolved.append(key + equals + value)
    return resolved, problems


def check_overrides(overrides: list[str], schema: type) -> tuple[list[str], list[str]]:
    """Split overrides into those Hydra can compose and messages about the others."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    sections, leaves = set(), set()
    for path, kind in schema_keys(schema, "exp"):
        (sections if is_dataclass(kind) else leaves).add(path)
    stages = any(path == "exp.stage_1" for path in sections)
    parser = OverridesParser.create()
    good, problems = [], []
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except (HydraException, RecursionError):
            problems.append(
                f"'{text[:200]}' cannot be read: write key=value, and put quotes inside the value "
                f"where it holds a comma, a space or an equals sign: key='\"a=b\"'"
            )
            continue
        key = override.key_or_group
        if override.is_sweep_override():
            problem = f"'{text}' names several values: one run takes one; -m (multirun) takes all"
        elif key == "exp" or "/" in key:
            problem = _check_group(key, override.value())
        elif (CONFIG_DIR / key.replace(".", "/")).is_dir() and not override.is_delete():
            problem = f"{text}: '{key}' is a section; choose one with {key.replace('.', '/')}=..."
        elif key in leaves or key in sections or key.startswith("hydra."):
            problem = _check_stage_key(key) or (stages and _check_shared_key(key))
        else:
            allowed = sorted(leaves | ALIASES.keys())
            problem = f"{key}: there is no such key{did_you_mean(key, allowed)}"
        if problem:
            problems.append(problem)
        else:
            good.append(text)
    return good, problems


def _check_group(group: str, choice: Any) -> str | None:
    folder = CONFIG_DIR / group.partition("@")[0]
    if not folder.is_dir() or not folder.resolve().is_relative_to(CONFIG_DIR.resolve()):
        groups = [
            "exp",
            *(f"exp/{path.name}" for path in (CONFIG_DIR / "exp").iterdir() if path.is_dir()),
        ]
        return f"{group}: there is no such group{did_you_mean(group, sorted(groups))}"
    names = sorted(path.stem for path in folder.glob("*.yaml") if "_stage_" not in path.stem)
    if choice not in names:
        near = difflib.get_close_matches(str(choice), names, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        return f"{group}={choice}: use {', '.join(names)}{hint}"
    return None


def _check_stage_key(key: str) -> str | None:
    stage, _, rest = key.removeprefix("exp.").partition(".")
    if stage in ("stage_1", "stage_2") and rest.split(".")[0] in (
        "model",
        "dataset",
        "seed",
        "name",
    ):
        return f"{key}: the stages share it; set exp.{rest} instead"
    return None


def _check_shared_key(key: str) -> str | None:
    owner = {
        "exp.dataloader.lambda_up": "exp.lambda_up",
        "exp.dataloader.mtl_join_type": "exp.mtl_join_type",
        "exp.dataloader.error_set": "exp.load_error_set",
    }
    return f"{key}: under exp=jtt it has no effect; set {owner[key]}" if key in owner else None


def quote_override(key: str, value: Any) -> str:
    """One Hydra override `key=value` that Hydra reads back as exactly `value`."""
    return f"{key}={_quote(value)}"


def _quote(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_quote(entry) for entry in value) + "]"
    if isinstance(value, (int, float)):
        return repr(value)
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in ("true", "false", "null", "nan", "inf"):
        return text
    if "\\${" in text:
        raise UserError(f"'{text}' cannot be given to Hydra: a backslash before '${{'")
    # Hydra undoes a backslash only before a quote; `${` would be an interpolation.
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped).replace("${", "\\${")
    return f"'{escaped}'"
