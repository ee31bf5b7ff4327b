"""`python train.py --help`: every key with its type, its default and its meaning."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from src.config.overrides import ALIASES, CONFIG_DIR
from src.config.schema import Config, schema_keys, section_of


def print_help(composed: DictConfig) -> None:
    """Print how to call an entrypoint; the defaults shown are those of the command line."""
    print(
        "python train.py exp=METHOD exp.KEY=VALUE ...\n\n"
        f"exp=            {_choices('exp')}\n"
        f"exp/model=      {_choices('exp/model')}, or any torchvision classifier\n"
        f"exp/dataset=    {_choices('exp/dataset')}\n"
        f"exp/optimizer=  {_choices('exp/optimizer')}\n\n"
        "--list          list the methods\n"
        "--resume RUN    continue the run in a folder\n"
        "--cfg job       print the whole configuration\n"
        "-m              run every combination of values: -m exp.seed=0,1,2\n"
    )
    defaults = OmegaConf.to_container(composed, resolve=True)
    short = {key: alias for alias, key in ALIASES.items()}
    for key, field in schema_keys(Config):
        if section_of(field) is None:
            setting = f"{key}={default_text(defaults, key, field)}"
            alias = f" (or {short[key]})" if key in short else ""
            print(f"{setting:<50} {field.description or ''}{alias}".rstrip())


def _choices(group: str) -> str:
    return ", ".join(sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml")))


def default_text(values: Any, key: str, field: Any) -> str:
    """Return the default of a key as it is written on the command line."""
    for part in key.split(".")[1:]:
        if part not in values:
            values = field.get_default(call_default_factory=True)
            break
        values = values[part]
    if values is None or isinstance(values, bool):
        return {None: "null", True: "true", False: "false"}[values]
    return str(values).replace(" ", "")
