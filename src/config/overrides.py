"""The command line before Hydra: joined brackets, aliases, unknown keys, any network by name.

Hydra reports one problem at a time; this pass finds all of them.
"""

import difflib
import re
from pathlib import Path
from typing import Any

from src.config.schema import Config, StageConfig, schema_keys, section_of
from src.io import UserError, did_you_mean
from src.methods.options import METHODS

CONFIG_DIR = Path(__file__).parents[2] / "configs"

# Other spellings, resolved before anything is composed or saved.
ALIASES = {
    "exp.total_epochs": "exp.train.total_epochs",
    "exp.groupings": "exp.dataset.groupings",
    "exp.lr": "exp.optimizer.lr",
    "exp.weight_decay": "exp.optimizer.weight_decay",
    "exp.batch_size": "exp.dataloader.batch_size",
    "exp.dataset.loss_based_task_weighting": "exp.dataset.loss_balanced_task_weighting",
    "exp.lambda_up": "exp.dataloader.lambda_up",
    "exp.mtl_join_type": "exp.dataloader.mtl_join_type",
    "exp.load_error_set": "exp.dataloader.error_set",
    "exp.epochs_stage_1": "exp.stage_1.train.total_epochs",
}

# Below these keys stand the names of a table's columns.
_NAMED_COLUMNS = ("exp.dataset.bins.",)

# Texts that Hydra reads as themselves without quotes: Blond_Hair:Male, logs/erm/lr0.1-seed0.
_PLAIN = re.compile(r"([A-Za-z_/]|[0-9]_[A-Za-z])[A-Za-z0-9_./:+-]*")
_STAGE_KEY = re.compile(r"exp\.stage_[12]\.(\w+)(\..+)?")


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


def prepare_overrides(argv: list[str], sweep: bool = False) -> tuple[list[str], list[str]]:
    """Turn a command line into overrides that Hydra can compose, and messages about the others.

    Args:
        sweep: values may be lists of choices (`-m`).
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    good, problems, seen = [], [], {}
    parser = OverridesParser.create()
    for text in join_brackets(argv):
        spelled, equals, value = text.partition("=")
        key = ALIASES.get(spelled, spelled)
        first, first_value = seen.setdefault(key, (spelled, value))
        if first != spelled and first_value != value:
            problems.append(f"{first}={first_value} and {spelled}={value} set the same: give one")
            continue
        text = key + equals + value
        try:
            override = parser.parse_override(text)
        except (HydraException, RecursionError):
            problems.append(
                f"'{text}' cannot be read: write key=value, and put quotes inside the value if it "
                f"holds a comma, a space or an equals sign: key='\"a=b\"'"
            )
            continue
        if override.is_sweep_override() and not sweep:
            problems.append(f"'{text}' names several values: give one, or add -m to run them all")
        elif key == "exp" or "/" in key:
            problem, replaced = _check_choice(key, override, sweep)
            problems += [problem] if problem else []
            good += replaced
        elif problem := _check_key(key, override):
            problems.append(problem)
        else:
            # No YAML file sets all keys of a stage or a method; Hydra adds others only with ++.
            section = key.removeprefix("exp.").partition(".")[0]
            added = _STAGE_KEY.fullmatch(key) or section in METHODS
            added = added or key.startswith(_NAMED_COLUMNS)
            good.append(f"++{text}" if added else text)
    return good, problems


def _check_key(key: str, override: Any) -> str | None:
    """Return what is wrong with a dotted key."""
    fields, given = dict(schema_keys(Config)), key
    key = key.lstrip("~+")
    if key.startswith("hydra."):
        return None
    stage = _STAGE_KEY.fullmatch(key)
    if stage and stage.group(1) not in StageConfig.model_fields:
        rest = key.split(".", 2)[2]
        return f"{key}: the stages share it; set exp.{rest} instead"
    if stage and stage.group(2):
        key = "exp." + key.split(".", 2)[2]
    if key.startswith(_NAMED_COLUMNS):
        return None
    if key not in fields:
        leaves = [path for path, field in fields.items() if section_of(field) is None]
        return f"{given}: there is no such key{_nearest_key(key, leaves)}"
    if (CONFIG_DIR / key.replace(".", "/")).is_dir() and not override.is_delete():
        return f"{key}: this is a section; choose one with {key.replace('.', '/')}=..."
    return None


def _nearest_key(key: str, keys: list[str]) -> str:
    """Format a hint: a key of similar spelling, else one whose last name is similar."""
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.8)
    if not near:  # compare last names; keys of single methods come last
        of_method = {path: path.split(".")[1] in METHODS for path in keys}
        names: dict[str, str] = {}
        for path in sorted(keys, key=of_method.get):
            names.setdefault(path.rpartition(".")[2], path)
        last = key.rpartition(".")[2]
        near = [names[name] for name in difflib.get_close_matches(last, names, n=1)]
    return f": did you mean '{near[0]}'?" if near else "; python train.py --help lists all keys"


def _check_choice(group: str, override: Any, sweep: bool) -> tuple[str | None, list[str]]:
    """Check `exp=NAME` or `exp/model=NAME`; return a problem, and the overrides to use."""
    text, choice = override.input_line, override.value()
    folder = CONFIG_DIR / group.partition("@")[0]
    if group.startswith("hydra/"):
        return None, [text]
    if not folder.is_dir():
        groups = ["exp", *(f"exp/{path.name}" for path in (CONFIG_DIR / "exp").iterdir())]
        groups = [name for name in groups if (CONFIG_DIR / name).is_dir()]
        return f"{group}: there is no such group{did_you_mean(group, sorted(groups))}", []
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if choice in names or override.is_sweep_override():
        return None, [text]
    if group == "exp/model":
        from src.models.build import check_name

        try:
            check_name(str(choice))
        except UserError as error:
            return str(error), []
        return None, [f"{group}=resnet50", f"exp.model.name={choice}"]
    # Letters in another order are the usual slip of short names: rgw is rwg.
    near = [name for name in names if sorted(name) == sorted(str(choice))]
    near += difflib.get_close_matches(str(choice), names, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{group}={choice}: use {', '.join(names)}{hint}", []


def quote_override(key: str, value: Any) -> str:
    """Return a Hydra override `key=value` that Hydra reads back as exactly `value`."""
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
        raise UserError(f"'{text}' cannot be given to Hydra: it has a backslash before '${{'")
    # Hydra undoes a backslash only before a quote; `${` would be an interpolation.
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped).replace("${", "\\${")
    return f"'{escaped}'"
