"""The table of combinations: what is refused, and what gets a note."""

from itertools import product

import pytest

from src.objective.combinations import Choices, check, rules
from src.objective.options import (
    ACROSS,
    GRADIENT,
    TASK,
    GroupDROOptions,
    ObjectiveOptions,
    SolverOptions,
    TorchJDOptions,
)

JOINT = GroupDROOptions(scope="joint")


def choices(objective: dict | None = None, **changes) -> Choices:
    defaults = {"num_tasks": 2, "static": True, "method": None, "head": "linear"}
    defaults |= {"balanced_by": None, "precision": "auto", "compile": False}
    return Choices(ObjectiveOptions(**(objective or {})), **{**defaults, **changes})


ERRORS = [
    (choices({"across": "uw", "gradient": "upgrad"}), "both weigh the tasks"),
    (choices({"task": "dro", "dro": JOINT, "across": "famo"}), "scope=joint"),
    (choices({"task": "dro", "dro": JOINT}, static=False), "scope=joint"),
    (choices({"task": "dro", "dro": JOINT, "gradient": "mgda"}), "scope=joint"),
    (choices({"gradient": "mgda"}, head="prototypes"), "model.head=linear"),
    (choices({"gradient": "mgda"}, method="cnc"), "contrastive"),
    (choices({"gradient": "mgda", "mgda": SolverOptions(cells=True)}, method="lisa"), "mixes"),
    (choices({"gradient": "torchjd"}, compile=True), "train.compile=false"),
    (choices({"gradient": "torchjd"}, precision="fp16"), "fp16"),
    (
        choices({"gradient": "torchjd", "torchjd": TorchJDOptions(aggregator="TrimmedMean")}),
        "lower trim_number",
    ),
]
NOTES = [
    (choices({"weights": "group_weights"}, balanced_by="groups"), "a second time"),
    (choices({"shift": "class_shift"}, balanced_by="classes"), "a second time"),
    (choices({"task": "dro", "across": "uw"}), "against each other"),
    (choices({"gradient": "upgrad"}, num_tasks=1), "plain descent"),
    (
        choices({"gradient": "torchjd", "torchjd": TorchJDOptions(aggregator="NashMTL")}),
        "hidden state",
    ),
]


@pytest.mark.parametrize(("chosen", "reason"), ERRORS)
def test_what_contradicts_itself_is_refused_with_the_reason(chosen, reason):
    (problem,) = check(chosen, "error")
    assert reason in problem


@pytest.mark.parametrize(("chosen", "reason"), NOTES)
def test_what_is_hardly_meant_gets_a_note(chosen, reason):
    (note,) = check(chosen, "note")
    assert reason in note and check(chosen, "error") == []


def test_every_rule_has_an_example_here():
    applied = [[rule.applies for rule in rules(chosen)] for chosen, _ in ERRORS + NOTES]
    assert all(map(any, zip(*applied)))


def test_all_weightings_go_with_all_layers_of_a_task():
    for task, name in product(TASK, [*ACROSS, *GRADIENT]):
        layer = "gradient" if name in GRADIENT else "across"
        assert check(choices({"task": task, layer: name}), "error") == []
    for across in ("static", "lbtw"):  # these go with a solver, too
        chosen = choices({"across": across, "gradient": "upgrad"}, static=False)
        assert check(chosen, "error") == []
