"""Groupings, command lines, configurations and tables: the right result, or a message."""

import re

import numpy as np
import yaml
from hypothesis import given
from hypothesis import strategies as st

from src.config.compose import load_config, load_saved_config, read_config_file, to_dict
from src.config.overrides import check_overrides, join_brackets, quote_override, resolve_aliases
from src.config.rules import check, typed
from src.config.schema import Config, flatten, schema_keys
from src.data.groupings import ATTRIBUTES, COLUMN, parse_grouping, parse_groupings
from src.json_shapes import Number
from src.spurious.pairs import COLUMNS, expand_groupings, read_pairs
from test import read_list
from tests.fuzz.cases import cases, right_or_refused

NAMES = st.sampled_from(ATTRIBUTES)
PARTS = st.one_of(
    NAMES, st.sampled_from(["", ":", "+", " ", "male", "Male\n"]), st.text(max_size=5)
)
GROUPINGS = st.lists(st.one_of(PARTS, st.sampled_from([":", "+"])), max_size=7).map("".join)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), GROUPINGS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=6,
)
BASE = to_dict(load_config(["exp=erm", "exp.train.log_dir=unused"]))
LEAVES = sorted(flatten(BASE))
KEYS = st.one_of(st.sampled_from(LEAVES).map("exp.".__add__), st.text(max_size=12))


def valid_grouping(text: str) -> bool:
    task, *rest = re.split(r"[:]", text, maxsplit=1)
    names = [task, *(rest[0].split("+") if rest else [])]
    return all(name in COLUMN for name in names) and len(set(names)) == len(names)


@cases(700)
@given(GROUPINGS, st.integers(0, 2**40 - 1))
def test_a_grouping_is_read_exactly_where_its_names_are_known_and_differ(text, bits):
    fine, found = right_or_refused("groupings", lambda: parse_grouping(text), "grouping '")
    assert fine == valid_grouping(text)
    if fine:
        row = [bits >> k & 1 for k in range(40)]
        value = int("".join(str(row[ATTRIBUTES.index(n)]) for n in re.split("[:+]", text)), 2)
        assert found.group_ids(np.array([row], np.uint8)).tolist() == [value]


@cases(300)
@given(st.lists(st.one_of(GROUPINGS, NAMES), max_size=4))
def test_a_list_of_groupings_for_training_has_each_task_once(texts):
    fine, _ = right_or_refused("groupings", lambda: parse_groupings(texts, training=True))
    tasks = [text.partition(":")[0] for text in texts]
    kinds = {":" in text for text in texts}
    allowed = bool(texts) and all(map(valid_grouping, texts))
    assert fine == (allowed and len(set(tasks)) == len(tasks) and len(kinds) == 1)


@cases(200)
@given(st.lists(st.text(max_size=30) | st.sampled_from(['["Bald"]', "[[", "[" * 5000]), min_size=1))
def test_test_py_reads_a_list_of_groupings_or_says_why_not(pieces):
    fine, found = right_or_refused("groupings", lambda: read_list(pieces))
    assert not fine or all(isinstance(entry, str) for entry in found)


@cases(500)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=20),
            st.tuples(KEYS, st.text(max_size=15)).map("=".join),
            st.tuples(KEYS, st.sampled_from(["[a,", "[", "b]", "[" * 60, "{a:", "'", "${x}"])).map(
                "=".join
            ),
        ),
        max_size=4,
    )
)
def test_an_argument_vector_is_split_into_what_composes_and_what_does_not(argv):
    def read():
        overrides, _ = resolve_aliases(join_brackets(argv))
        return check_overrides(overrides, Config), overrides

    fine, found = right_or_refused("argument vectors", read)
    if fine:
        (good, problems), overrides = found
        assert len(good) + len(problems) == len(overrides)


@cases(120)
@given(st.sampled_from(LEAVES), SCALARS | st.lists(SCALARS, max_size=3))
def test_one_override_through_the_whole_door_is_taken_exactly_or_refused(key, value):
    def read():
        return load_config(["exp=erm", quote_override(f"exp.{key}", value)])

    fine, config = right_or_refused("overrides", read)
    if fine and key != "train.log_dir" and not isinstance(value, str):
        found = flatten(config)[key]
        assert found == (str(value) if isinstance(found, str) else value)


@cases(900)
@given(st.dictionaries(st.sampled_from(LEAVES), VALUES, max_size=3), st.booleans())
def test_a_configuration_is_typed_and_in_range_or_every_problem_is_told(changes, drop):
    values = to_nested(flatten(BASE) | changes)
    if drop and changes:
        section, _, leaf = next(iter(changes)).rpartition(".")
        place = values
        for name in section.split(".") if section else ():
            place = place[name]
        del place[leaf]

    def read():
        config, broken = typed(values, Config)
        return config, [*broken.values(), *check(config, broken)]

    fine, found = right_or_refused("configurations", read)
    assert fine
    config, problems = found
    assert all(problem.strip() and len(problem) < 2000 for problem in problems)
    if not problems:
        leaves, kinds = flatten(config), dict(schema_keys(Config, ""))
        for key in ("optimizer.lr", "dataloader.batch_size", "train.total_epochs", "seed"):
            assert isinstance(leaves[key], Number) and leaves[key] >= 0 and kinds[key]
        assert 0 < leaves["optimizer.lr"] < float("inf")
        assert len(leaves["dataset.target_resolution"]) == 2


def to_nested(leaves: dict) -> dict:
    nested: dict = {}
    for key, value in leaves.items():
        *sections, leaf = key.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[leaf] = value
    return nested


@cases(400)
@given(st.data())
def test_a_saved_configuration_is_read_or_named(tmp_path, data):
    path = tmp_path / "config.yaml"
    text = yaml.safe_dump({"exp": BASE})
    kind = data.draw(st.sampled_from(["cut", "byte", "value", "anything"]))
    if kind == "cut":
        text = text[: data.draw(st.integers(0, len(text)))]
    elif kind == "byte":
        at = data.draw(st.integers(0, len(text) - 1))
        text = text[:at] + data.draw(st.characters(codec="utf-8")) + text[at + 1 :]
    elif kind == "value":
        text = yaml.safe_dump({"exp": BASE | {"seed": data.draw(VALUES)}})
    else:
        text = data.draw(st.text(max_size=40))
    path.write_text(text, encoding="utf-8", newline="")
    right_or_refused("saved configurations", lambda: load_saved_config(path), str(path))


def test_a_yaml_that_would_fill_the_memory_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    lines = ["exp:", "  a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for k in range(1, 12):
        lines.append(f"  a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]")
    path.write_text("\n".join(lines))
    fine, _ = right_or_refused("saved configurations", lambda: read_config_file(path), str(path))
    assert not fine


def table_text(rows: list[tuple[str, str, str, str]]) -> str:
    lines = [",".join(COLUMNS)]
    for task, attribute, tested, split in rows:
        figures = ["1.5"] * (len(COLUMNS) - 4)
        lines.append(",".join([task, attribute, *figures, tested, split]))
    return "\n".join(lines) + "\n"


ROW = st.tuples(NAMES, NAMES, st.sampled_from("01"), st.just("val"))
ODD = st.tuples(
    PARTS, PARTS, st.sampled_from(["0", "1", "yes", ""]), st.sampled_from(["val", "te", ""])
)


@cases(400)
@given(st.lists(ROW, min_size=1, max_size=6, unique_by=lambda row: row[:2]), st.data())
def test_a_table_of_pairs_gives_its_tested_pairs_in_order_or_is_refused(tmp_path, rows, data):
    path = tmp_path / "pairs.csv"
    rows = [row for row in rows if row[0] != row[1]] or [("Bald", "Male", "1", "val")]
    end, mark = (
        data.draw(st.sampled_from(["\n", "\r\n"])),
        data.draw(st.sampled_from([b"", b"\xef\xbb\xbf"])),
    )
    path.write_bytes(mark + table_text(rows).replace("\n", end).encode())
    fine, pairs = right_or_refused("tables of pairs", lambda: read_pairs(path))
    assert fine and [pair.name for pair in pairs] == [
        f"{t}:{a}" for t, a, tested, _ in rows if tested == "1"
    ]
    spoilt = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        spoilt[data.draw(st.integers(0, len(spoilt) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(spoilt)
    else:
        path.write_text(table_text([*rows, data.draw(ODD)]), encoding="utf-8", errors="replace")
    right_or_refused("tables of pairs", lambda: read_pairs(path), str(path))
    options = data.draw(
        st.sampled_from(["", ":top2", ":disjoint:top1", ":shared", ":top0", ":top" + "9" * 5000])
    )
    right_or_refused(
        "tables of pairs", lambda: expand_groupings([f"@{path}{options}"], lambda _: None)
    )
