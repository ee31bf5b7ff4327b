"""Every key with its default and its meaning: `python train.py --help`, and a page as Markdown."""

import json
from typing import Annotated, Any

from omegaconf import DictConfig, OmegaConf
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from src.config.overrides import ALIASES, CONFIG_DIR
from src.config.schema import Config, schema_keys, section_of
from src.methods.options import METHODS

SHORT = {key: alias for alias, key in ALIASES.items()}
HEAD = "| key | type | default | meaning |\n| --- | --- | --- | --- |"


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
    for key, field in schema_keys(Config):
        if section_of(field) is None:
            setting = f"{key}={default_text(defaults, key, field)}"
            alias = f" (or {SHORT[key]})" if key in SHORT else ""
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


def reference() -> str:
    """Return a section of Markdown per section of the configuration; defaults are those of ERM."""
    from src.config.compose import load_config

    defaults = load_config(["exp=erm"]).model_dump()
    sections: dict[str, list[str]] = {}
    for key, field in schema_keys(Config):
        if section_of(field) is not None:
            about = (section_of(field).__doc__ or "").strip().splitlines()
            sections[key] = [f"\n## {key}\n", *about[:1], "", HEAD]
            continue
        lines = sections.setdefault(key.rpartition(".")[0], ["\n## exp\n", HEAD])
        meaning = (field.description or "") + (f" (or `{SHORT[key]}`)" if key in SHORT else "")
        name = key.rpartition(".")[2]
        cells = f"`{name}`", type_text(field), f"`{default_text(defaults, key, field)}`", meaning
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    order = sorted(sections, key=lambda key: key.split(".")[-1] in {*METHODS, "stage_1", "stage_2"})
    filled = [sections[key] for key in order if sections[key][-1] != HEAD]
    return "\n".join("\n".join(lines) for lines in filled)


def type_text(field: FieldInfo) -> str:
    """Describe the values that a field takes: `number, > 0`, `` `sgd`, `adam` or `adamw` ``."""
    kind = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    return schema_text(TypeAdapter(kind).json_schema())


def schema_text(schema: dict[str, Any]) -> str:
    """Describe a JSON schema in a few words."""
    if "anyOf" in schema:
        texts = [schema_text(part) for part in schema["anyOf"]]
        return " or ".join(dict.fromkeys(texts))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return ", ".join(f"`{value if isinstance(value, str) else json.dumps(value)}`"
                         for value in values)  # fmt: skip
    if schema.get("type") == "array":
        return f"list of: {schema_text(schema.get('items', {}))}"
    names = {"integer": "whole number", "number": "number", "boolean": "`true` or `false`"}
    names |= {"string": "text", "null": "`null`", "object": "section"}
    limits = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [
        f"{sign} {schema[name]:g}"
        for name, sign in limits.items()
        if name in schema and abs(schema[name]) < 10**9
    ]
    return ", ".join([names.get(schema.get("type", ""), "any"), *bounds])
