"""YAML of saved configurations as plain values: what OmegaConf reads, fifty times faster.

A report reads a thousand of them. libyaml parses where PyYAML was built with it.
"""

import re
from typing import Any

import yaml


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """As OmegaConf has it: 1e-4 is a number, a date is a text, no key is there twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"the key '{twice}' is there twice")
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if not tag.endswith(":timestamp")]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), [*"-+0123456789"]
)

# Each level of a nested text opens a bracket, or stands further right behind nothing but spaces and
# the signs that may open a block: so few of both bound its depth. libyaml has no bound of its own,
# and 40,000 levels end the process without a word.
_BRACKETS = 100
_MARGIN = re.compile(r"[ \t?:-]{100}")


def parse_yaml(text: str) -> Any:
    """The values of a YAML text.

    Raises:
        ValueError, yaml.YAMLError, or another error for a text that is none of ours. Aliases are
        refused: we write none, and a few nested ones stand for more than fits into the memory.
    """
    if text.count("[") + text.count("{") > _BRACKETS or _MARGIN.search(text):
        raise ValueError("it is nested too deep")
    tokens = yaml.scan(text, Loader=_Loader) if "*" in text else ()
    if any(isinstance(token, yaml.AliasToken) for token in tokens):
        raise ValueError("it holds YAML aliases")
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
