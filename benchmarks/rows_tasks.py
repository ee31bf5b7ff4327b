"""Rows about several tasks: what a layer across tasks or of gradients adds to a step, on a CPU."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

from benchmarks.compare import Row, absolute
from benchmarks.ours import Bench
from src.data.groupings import ATTRIBUTES
from src.objective.gradient import GramianLayer
from src.objective.options import SOLVERS
from src.training.step import Step

STEPS = 12


def share_row(
    bench: Bench, name: str, tasks: int, override: str, kind: type, method: str, target=None
) -> Row:
    """Measure a method of a class as a share of the time of all steps of a ResNet-18."""
    names = [f"{name}:Male" for name in ATTRIBUTES if name != "Male"] + ["Male:Young"]
    groupings = f"exp.dataset.groupings=[{','.join(names[:tasks])}]"
    limits = [f"exp.train.max_steps={STEPS}", f"exp.train.log_every_n_steps={STEPS}"]
    inside, whole = timed(getattr(kind, method)), timed(Step.__call__)
    with (
        mock.patch.object(kind, method, inside),
        mock.patch.object(Step, "__call__", whole),
        bench.run(bench.overrides("resnet18", 64, 32, groupings, override, *limits)),
    ):
        pass
    warm = STEPS // 3
    share = sum(inside.times[warm:]) / sum(whole.times[warm:])
    note = f"{kind.__name__}.{method}; resnet18 64, batch 32"
    return absolute(f"share of a step, {name}, {tasks} tasks", "share", [share], target, note)


def timed(function: Callable) -> Any:
    """Return the function with an attribute `times`, the seconds of each call."""

    def call(*args: Any, **options: Any) -> Any:
        start = time.perf_counter()
        result = function(*args, **options)
        call.times.append(time.perf_counter() - start)
        return result

    call.times = []
    return call


CPU_ROWS = {
    f"tasks-{solver}-{tasks}": partial(
        share_row,
        name=solver,
        tasks=tasks,
        override=f"exp.objective.gradient={solver}",
        kind=GramianLayer,
        method="forward",
        target=0.05 if (solver, tasks) == ("upgrad", 4) else None,
    )
    for solver in SOLVERS
    for tasks in ((2, 4, 10, 40) if solver == "upgrad" else (4, 40))
}
FAMO = {"name": "famo", "override": "exp.objective.across=famo"}
CPU_ROWS["tasks-famo-4"] = partial(share_row, **FAMO, tasks=4, kind=Step, method="_look_again")
