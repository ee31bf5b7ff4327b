"""The command line before Hydra: joined lists, aliases, unknown keys, quoting."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from src.config.compose import load_config
from src.config.overrides import join_brackets, prepare_overrides, quote_override
from src.config.schema import flatten
from src.io import UserError

THREE = ["Blond_Hair:Male", "Big_Lips:Chubby", "Gray_Hair:Young"]


def test_brackets_within_quotes_do_not_count():
    assert join_brackets(["a=['x[',", "'y']", "b=1"]) == ["a=['x[', 'y']", "b=1"]
    assert join_brackets(["a='['", "b=1"]) == ["a='['", "b=1"]


def test_a_bracket_left_open_is_an_error():
    with pytest.raises(UserError, match="a bracket is not closed"):
        join_brackets(["exp.dataset.groupings=[Blond_Hair:Male,", "exp.seed=1"])


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=3), min_size=1, max_size=4))
def test_joining_undoes_what_bash_does_to_an_unquoted_list(lists):
    whole = [f"key{place}=[{', '.join(entries)}]" for place, entries in enumerate(lists)]
    assert join_brackets(" ".join(whole).split(" ")) == whole


def test_the_unquoted_command_of_the_readme_has_three_groupings():
    command = (
        "exp=erm exp.train.total_epochs=50 exp.dataset.groupings=['Blond_Hair:Male', "
        "'Big_Lips:Chubby', 'Gray_Hair:Young'] exp.dataset.subgroup_labels=true"
    )
    config = load_config(shlex.split(command))
    assert config.dataset.groupings == THREE
    assert config.train.total_epochs == 50
    assert load_config(command.split(" ")).dataset.groupings == THREE  # quotes kept, as in zsh


@pytest.mark.parametrize(
    ("alias", "key"),
    [
        ("exp.total_epochs=7", "exp.train.total_epochs=7"),
        ("exp.groupings=[Young]", "exp.dataset.groupings=[Young]"),
        ("exp.lr=0.5", "exp.optimizer.lr=0.5"),
        ("exp.weight_decay=0.5", "exp.optimizer.weight_decay=0.5"),
        ("exp.batch_size=8", "exp.dataloader.batch_size=8"),
        (
            "exp.dataset.loss_based_task_weighting=true",
            "exp.dataset.loss_balanced_task_weighting=true",
        ),
    ],
)
def test_an_alias_means_its_key(alias, key):
    assert prepare_overrides([alias]) == ([key], [])


def test_two_spellings_with_different_values_are_an_error():
    assert prepare_overrides(["exp.lr=1", "exp.optimizer.lr=1"])[1] == []
    _, problems = prepare_overrides(["exp.lr=1", "exp.optimizer.lr=2"])
    assert problems == ["exp.lr=1 and exp.optimizer.lr=2 set the same: give one"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("exp.optimizer.lrr=1", "did you mean 'exp.optimizer.lr'"),
        ("exp.lrr=1", "did you mean 'exp.optimizer.lr'"),
        ("exp.dfr.refitt=half", "did you mean 'exp.dfr.refit'"),
        ("exp.foo=1", "no such key; python train.py --help lists all keys"),
        ("exp.dataset.grouping=[Young]", "did you mean 'exp.dataset.groupings'"),
        ("+exp.dataset.new=1", "there is no such key"),
        ("exp=rwx", "(did you mean rwy?)"),
        ("exp/modle=resnet18", "did you mean 'exp/model'"),
        ("exp/model=resnet19", "did you mean 'resnet18'"),
        ("exp/../exp=erm", "cannot be read"),
        ("exp.model=resnet18", "this is a section; choose one with exp/model=..."),
        ("exp.seed=1,2", "names several values"),
        ("exp.stage_2.dataset.groupings=[Young]", "share it; set exp.dataset.groupings instead"),
        ("exp.stage_1.seed=2", "share it; set exp.seed instead"),
        ("exp.model.weights=a=b", "cannot be read: write key=value"),
        ("seed", "cannot be read"),
    ],
)
def test_a_mistaken_override_is_named(override, message):
    good, problems = prepare_overrides(["exp.seed=3", override])
    assert good == ["exp.seed=3"]
    assert len(problems) == 1 and message in problems[0]


TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc"))) | st.text(
    "ab01.-+:/,=[]{}()'\"\\$~!@#%&*; \t"
)


def read_by_hydra(override: str) -> object:
    """The value of an override `key=...` as Hydra's parser and then OmegaConf understand it."""
    config = OmegaConf.create({"key": None})
    OmegaConf.update(config, "key", OverridesParser.create().parse_override(override).value())
    return OmegaConf.to_container(config, resolve=True)["key"]


@settings(deadline=None)
@given(TEXTS)
@example("Blond_Hair:Male")
@example("logs/a=b")
@example("it's")
@example("a\\")
@example("\\'")
@example("a\\b")
@example("${exp.seed}")
@example("null")
@example("TRUE")
@example("1e5")
@example("nan")
@example("inf")
@example("_")
@example("a:")
@example("")
@example(" x ")
def test_a_quoted_text_reaches_the_config_as_it_was(text):
    if "\\${" in text:
        with pytest.raises(UserError):
            quote_override("key", text)
    else:
        assert read_by_hydra(quote_override("key", text)) == text


VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)


@settings(deadline=None)
@given(VALUES | st.lists(VALUES))
@example([0.1] * 10)
@example(1e-05)
@example(1e22)
@example(float("inf"))
def test_a_quoted_value_reaches_hydra_with_its_type(value):
    back = read_by_hydra(quote_override("key", value))
    assert (back, type(back)) == (value, type(value))
    if isinstance(value, list):
        assert [type(entry) for entry in back] == [type(entry) for entry in value]


def test_quoted_overrides_reach_the_config():
    values = {
        "exp.model.weights": "a dir/it's=\\{1,2}.pt",
        "exp.dataset.groupings": ["Attractive:Male+Young"],
        "exp.dataset.task_weights": [1.0],
        "exp.optimizer.lr": 2.511886e-05,
        "exp.train.compile": True,
        "exp.train.max_steps": None,
    }
    config = load_config([quote_override(key, value) for key, value in values.items()])
    leaves = flatten(config, "exp.")
    assert {key: leaves[key] for key in values} == values
