"""The configuration reference: every key with type, default and meaning, as Markdown."""

import json
from typing import Annotated, Any

from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from src.config.compose import load_config
from src.config.help import default_text
from src.config.overrides import ALIASES
from src.config.schema import Config, schema_keys, section_of
from src.methods.options import METHODS


def reference() -> str:
    """Return a section of Markdown per section of the configuration; defaults are those of ERM."""
    defaults = load_config(["exp=erm"]).model_dump()
    short = {key: alias for alias, key in ALIASES.items()}
    sections: dict[str, list[str]] = {}
    for key, field in schema_keys(Config):
        if section_of(field) is not None:
            about = (section_of(field).__doc__ or "").strip().splitlines()
            sections[key] = [f"\n## {key}\n", *about[:1], "", HEAD]
            continue
        lines = sections.setdefault(key.rpartition(".")[0], ["\n## exp\n", HEAD])
        meaning = field.description or ""
        if key in short:
            meaning += f" (or `{short[key]}`)"
        name = key.rpartition(".")[2]
        cells = f"`{name}`", type_text(field), f"`{default_text(defaults, key, field)}`", meaning
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    order = sorted(sections, key=lambda key: key.split(".")[-1] in {*METHODS, "stage_1", "stage_2"})
    filled = [sections[key] for key in order if sections[key][-1] != HEAD]
    return "\n".join("\n".join(lines) for lines in filled)


HEAD = "| key | type | default | meaning |\n| --- | --- | --- | --- |"


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
