"""Groupings taken from a table of pairs."""

import pytest

from src.config.compose import load_config
from src.io import UserError
from src.spurious.pairs import COLUMNS, expand_groupings, write_table


def pair(task: str, attribute: str, delta: float | None, tested: bool = True):
    about = {"task": task, "attribute": attribute, "delta": delta, "tested": tested, "groups": []}
    return dict.fromkeys(COLUMNS, 1.5) | about


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "pairs.csv"
    pairs = [
        pair("Young", "Gray_Hair", 20.0),
        pair("Bald", "Wearing_Hat", 90.0, tested=False),
        pair("Blond_Hair", "Male", 50.0),
        pair("Big_Nose", "Male", 30.0),
        pair("Blond_Hair", "Wearing_Hat", 40.0),
        pair("Smiling", "Blurry", None, tested=False),
        pair("Attractive", "Young", 10.0),
    ]
    write_table(path, pairs, "val")
    return path


def names_of(path):
    return [line.split(",")[:2] for line in path.read_text().splitlines()[1:]]


def test_the_table_is_sorted_with_small_groups_last_and_undefined_pairs_at_the_end(table):
    assert names_of(table) == [
        ["Blond_Hair", "Male"],
        ["Blond_Hair", "Wearing_Hat"],
        ["Big_Nose", "Male"],
        ["Young", "Gray_Hair"],
        ["Attractive", "Young"],
        ["Bald", "Wearing_Hat"],
        ["Smiling", "Blurry"],
    ]
    assert table.read_text().splitlines()[-1].startswith("Smiling,Blurry,,1.5")


def test_top2_takes_the_two_strongest_with_different_tasks_and_names_what_it_skips(table):
    said = []
    assert expand_groupings([f"@{table}:top2"], said.append) == ["Blond_Hair:Male", "Big_Nose:Male"]
    assert said == ["Blond_Hair:Wearing_Hat is skipped: its task Blond_Hair has a grouping already"]


def test_a_task_given_by_hand_is_taken_wherever_it_stands(table):
    said = []
    expanded = expand_groupings([f"@{table}:top1", "Blond_Hair:Young"], said.append)
    assert expanded == ["Big_Nose:Male", "Blond_Hair:Young"]
    assert [line.split()[0] for line in said] == ["Blond_Hair:Male", "Blond_Hair:Wearing_Hat"]


def test_disjoint_pairs_share_no_attribute_in_any_role(table):
    expanded = expand_groupings([f"@{table}:top2:disjoint"], lambda line: None)
    assert expanded == ["Blond_Hair:Male", "Young:Gray_Hair"]
    # Attractive:Young would use Young a second time, and nothing else is left.
    said = []
    assert len(expand_groupings([f"@{table}:disjoint:top3"], said.append)) == 2
    assert said[-1].endswith("only 2 pairs fit")


def test_shared_pairs_lean_on_the_attribute_of_the_first(table):
    expanded = expand_groupings([f"@{table}:top2:shared"], lambda line: None)
    assert expanded == ["Blond_Hair:Male", "Big_Nose:Male"]
    led = expand_groupings(["Goatee:Gray_Hair", f"@{table}:top1:shared"], lambda line: None)
    assert led == ["Goatee:Gray_Hair", "Young:Gray_Hair"]


def test_without_a_number_the_top_5_are_asked_for_and_small_groups_never_come(table):
    said = []
    expanded = expand_groupings([f"@{table}"], said.append)
    assert expanded == ["Blond_Hair:Male", "Big_Nose:Male", "Young:Gray_Hair", "Attractive:Young"]
    assert said[-1].endswith("only 4 pairs fit")


def test_a_table_made_on_the_test_split_is_refused(tmp_path):
    write_table(tmp_path / "t.csv", [pair("Young", "Male", 5.0)], "test")
    with pytest.raises(UserError, match="test split"):
        expand_groupings([f"@{tmp_path}/t.csv:top1"])


@pytest.mark.parametrize("options", [":top0", ":top1:top2", ":shared:disjoint"])
def test_options_that_contradict_are_shown_the_form(table, options):
    with pytest.raises(UserError, match="write @TABLE"):
        expand_groupings([f"@{table}{options}"])


def test_a_missing_or_foreign_table_is_named(tmp_path):
    with pytest.raises(UserError, match=r"spurious_eval writes it"):
        expand_groupings([f"@{tmp_path}/none.csv:best5"])
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="not a table of pairs"):
        expand_groupings([f"@{tmp_path}/other.csv"])


@pytest.mark.parametrize("command", ["erm", "jtt"])
def test_a_command_line_holds_the_pairs_in_the_place_of_the_table(table, command):
    config = load_config([f"exp={command}", f"exp.dataset.groupings=[@{table}:top2]"])
    assert config.dataset.groupings == ["Blond_Hair:Male", "Big_Nose:Male"]
    assert "/Blond_Hair-Male_Big_Nose-Male/" in config.train.log_dir
