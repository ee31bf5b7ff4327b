"""The table of combinations: what is refused, and what gets a note."""

from itertools import product
from types import SimpleNamespace as Space

import pytest

from src.objective.combinations import errors, notes
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


def config(
    objective: dict | None = None,
    tasks: int = 2,
    weights: list[float] | None = None,
    lbtw: bool = False,
    method: str | None = None,
    head: str = "linear",
    sampler: str | None = None,
    subset: str | None = None,
    **train: object,
) -> Space:
    """The values of a configuration that the rules look at."""
    return Space(
        objective=ObjectiveOptions(**(objective or {})),
        dataset=Space(
            groupings=["t"] * tasks,
            task_weights=weights,
            loss_balanced_task_weighting=lbtw,
            subsample_type=subset,
        ),
        dataloader=Space(sampler=sampler),
        model=Space(head=head),
        train=Space(**{"precision": "auto", "compile": False} | train),
        method=method,
    )


ERRORS = [
    (config({"across": "uw", "gradient": "upgrad"}), "both weigh the tasks"),
    (config({"task": "dro", "dro": JOINT, "across": "famo"}), "scope=joint"),
    (config({"task": "dro", "dro": JOINT}, weights=[0.3, 0.7]), "scope=joint"),
    (config({"task": "dro", "dro": JOINT, "gradient": "mgda"}), "scope=joint"),
    (config({"gradient": "mgda"}, head="prototypes"), "model.head=linear"),
    (config({"gradient": "mgda"}, method="cnc"), "contrastive"),
    (config({"gradient": "mgda", "mgda": SolverOptions(cells=True)}, method="lisa"), "mixes"),
    (config({"gradient": "torchjd"}, compile=True), "train.compile=false"),
    (config({"gradient": "torchjd"}, precision="fp16"), "fp16"),
    (
        config({"gradient": "torchjd", "torchjd": TorchJDOptions(aggregator="TrimmedMean")}),
        "lower trim_number",
    ),
]
NOTES = [
    (config({"weights": "group_weights"}, sampler="rwg"), "a second time"),
    (config({"shift": "class_shift"}, subset="suby"), "a second time"),
    (config({"task": "dro", "across": "uw"}), "against each other"),
    (config({"gradient": "upgrad"}, tasks=1), "plain descent"),
    (
        config({"gradient": "torchjd", "torchjd": TorchJDOptions(aggregator="NashMTL")}),
        "hidden state",
    ),
]


@pytest.mark.parametrize(("chosen", "reason"), ERRORS)
def test_what_contradicts_itself_is_refused_with_the_reason(chosen, reason):
    (problem,) = errors(chosen)
    assert reason in problem


@pytest.mark.parametrize(("chosen", "reason"), NOTES)
def test_what_is_hardly_meant_gets_a_note(chosen, reason):
    (note,) = notes(chosen)
    assert reason in note and list(errors(chosen)) == []


def test_all_weightings_go_with_all_layers_of_a_task():
    for task, name in product(TASK, [*ACROSS, *GRADIENT]):
        layer = "gradient" if name in GRADIENT else "across"
        assert list(errors(config({"task": task, layer: name}))) == []
    for across in ("static", "lbtw"):  # these go with a solver, too
        chosen = config({"across": across, "gradient": "upgrad"}, lbtw=True)
        assert list(errors(chosen)) == []
