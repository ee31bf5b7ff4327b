"""Saved configurations are read as OmegaConf reads them."""

import math
import re
import string
from contextlib import suppress

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from src.config.plain_yaml import _Loader, parse_yaml

# Texts that YAML could take for something else; no ${}, which only OmegaConf looks into.
TEXTS = st.one_of(
    st.text(string.ascii_letters + string.digits + " .,:-+_#&*!|>%@'\"[]{}é\n", max_size=12),
    st.sampled_from(["1e-4", "0x1f", "1_000", "2020-01-01", "yes", "null", "~", ".5", "12:30", ""]),
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
KEYS = st.text(string.ascii_letters + "_", min_size=1, max_size=6)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_what_omegaconf_writes_is_read_back(values):
    assert parse_yaml(OmegaConf.to_yaml(OmegaConf.create({"exp": values}))) == {"exp": values}


@pytest.mark.parametrize(
    "written", ["1e-4", "1E5", "-3e+2", "1.5", ".5", "1.", "7", "0x1F", "1_0", ".inf", "2020-01-01"]
)
def test_values_written_by_hand_are_what_omegaconf_takes_them_for(written):
    (ours,) = parse_yaml(f"value: {written}").values()
    assert ours == OmegaConf.create(f"value: {written}").value
    assert type(ours) is type(OmegaConf.create(f"value: {written}").value)


def test_not_a_number_is_a_number():
    assert math.isnan(parse_yaml("value: .nan")["value"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x 1\nb: *x", "aliases"),
        ("a: 1\na: 2", "'a' is there twice"),
        ("1: a\n'1': b", "'1' is there twice"),
        ("account: {{ name }}", "a key is no plain value"),  # a template that nobody filled
        ("[]: 1", "a key is no plain value"),
        ("? {a: 1}\n: 2", "a key is no plain value"),
        ("a: !!seq x", "it holds a tag:yaml.org,2002:seq"),
        ("a: !!map x", "it holds a tag:yaml.org,2002:map"),
        ("a: !!seq {x: 1}", "it holds a tag:yaml.org,2002:seq"),
        ("a: !!map [x]", "it holds a tag:yaml.org,2002:map"),
        ("a: !!set {x}", "it holds a tag:yaml.org,2002:set"),
        ("a: !!binary eA==", "it holds a tag:yaml.org,2002:binary"),
        ("a: !!python/name:os.system", "it holds a tag:yaml.org,2002:python"),
        ("a: {<<: {b: 1}}", "it holds a tag:yaml.org,2002:merge"),
    ],
)
def test_what_we_never_write_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_yaml(text)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 40_000,
        "{a: " * 40_000,
        "- " * 40_000,
        "? " * 40_000,
        "-\t" * 40_000,
        "".join(" " * level + "a:\n" for level in range(2_000)),
        "".join(" " * level + "-\n" for level in range(2_000)),
    ],
    ids=["list", "table", "entries", "keys", "tabs", "tables by margin", "lists by margin"],
)
def test_a_text_nested_too_deep_is_refused(text):
    """libyaml would end the process with a segmentation fault."""
    with pytest.raises(ValueError, match="nested too deep"):
        parse_yaml(text)


SIGNS = ["- ", "? ", ": ", "a: ", "a", "[", "{", "]", "}", "\n", "  ", " ", "\t", "!!seq ", "&x "]


@given(st.lists(st.sampled_from([*SIGNS, "'b'", "# c", "--- ", "|"]), max_size=60).map("".join))
def test_a_text_is_no_deeper_than_its_brackets_and_its_margins_tell(text):
    """So that few of both bound the depth: a bracket opens a pair at most, a column two."""
    deepest = depth = 0
    with suppress(yaml.YAMLError):
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            deepest = max(deepest, depth)
    margin = max(map(len, re.findall(r"[ \t?:-]+", text)), default=0)
    assert deepest <= 2 * (text.count("[") + text.count("{") + margin + 2)
