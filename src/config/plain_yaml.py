"""YAML of saved configurations as plain values: what OmegaConf reads, fifty times faster.

A report reads a thousand of them. libyaml parses where PyYAML was built with it.
"""

import re
from functools import lru_cache
from typing import Any

import yaml


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Resolves as OmegaConf has it: 1e-4 is a number, a date is a text."""

    def resolve(self, kind: type, value: Any, implicit: tuple[bool, bool]) -> str:
        of_scalar = kind is yaml.ScalarNode
        return _resolve(value, implicit) if of_scalar else super().resolve(kind, value, implicit)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if not tag.endswith(":timestamp")]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), [*"-+0123456789"]
)

_TAG = "tag:yaml.org,2002:"
_SCALARS = {_TAG + kind for kind in ("null", "bool", "int", "float", "str")}

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
    return _value(yaml.compose(text, _Loader))


def _value(node: yaml.Node | None) -> Any:
    """What a node stands for: plain values, lists and tables of them, no key there twice."""
    if node is None:  # an empty text
        return None
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node.tag, node.value)
    if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
        return [_value(entry) for entry in node.value]
    if node.tag != _TAG + "map" or not isinstance(node, yaml.MappingNode):
        raise ValueError(f"it holds a {node.tag}")
    if not all(isinstance(key, yaml.ScalarNode) for key, _ in node.value):
        raise ValueError("a key is no plain value")
    keys = [key.value for key, _ in node.value]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key '{twice}' is there twice")
    return {_value(key): _value(entry) for key, entry in node.value}


# A thousand configurations hold the same few scalars.
@lru_cache(maxsize=4096)
def _resolve(value: str, implicit: tuple[bool, bool]) -> str:
    return yaml.resolver.BaseResolver.resolve(_Loader(""), yaml.ScalarNode, value, implicit)


@lru_cache(maxsize=4096)
def _scalar(tag: str, value: str) -> Any:
    if tag not in _SCALARS:  # of `<<`, merging tables, too, which we never write
        raise ValueError(f"it holds a {tag}")
    return _Loader("").construct_object(yaml.ScalarNode(tag, value))
