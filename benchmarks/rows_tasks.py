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

BATCH, STEPS = 32, 12


def solver_row(bench: Bench, solver: str, tasks: int, target: float | None = None) -> Row:
    """The share of a ResNet-18's step that Gramian and solver take."""
    share = layer_share(bench, GramianLayer, f"exp.objective.gradient={solver}", tasks)
    return row(
        f"{solver}, {tasks} tasks", share, target, "the Gramian of the adapter and the solver"
    )


def second_look_row(bench: Bench, tasks: int) -> Row:
    """The share of a step that FAMO's second forward pass takes."""
    share = layer_share(bench, Step, "exp.objective.across=famo", tasks, method="_look_again")
    return row(f"famo, {tasks} tasks", share, None, "the second forward pass")


def row(name: str, share: float, target: float | None, note: str) -> Row:
    what = f"share of a step, {name}"
    return absolute(what, "share", [share], target, note=f"{note}; resnet18 64, batch {BATCH}")


def layer_share(
    bench: Bench, kind: type, override: str, tasks: int, method: str = "forward"
) -> float:
    """Return the time spent in a method of a class as a share of the time of all steps."""
    names = [f"{name}:Male" for name in ATTRIBUTES if name != "Male"] + ["Male:Young"]
    groupings = f"exp.dataset.groupings=[{','.join(names[:tasks])}]"
    limits = [f"exp.train.max_steps={STEPS}", f"exp.train.log_every_n_steps={STEPS}"]
    overrides = bench.overrides("resnet18", 64, BATCH, groupings, override, *limits)
    inside, whole = timed(getattr(kind, method)), timed(Step.__call__)
    with (
        mock.patch.object(kind, method, inside),
        mock.patch.object(Step, "__call__", whole),
        bench.run(overrides),
    ):
        pass
    warm = STEPS // 3
    return sum(inside.times[warm:]) / sum(whole.times[warm:])


def timed(function: Callable) -> Any:
    """Return the function; `times` of it has the seconds of each call."""

    def call(*args: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **options)
        finally:
            call.times.append(time.perf_counter() - start)

    call.times = []
    return call


CPU_ROWS = {
    f"tasks-upgrad-{tasks}": partial(
        solver_row, solver="upgrad", tasks=tasks, target=0.05 if tasks == 4 else None
    )
    for tasks in (2, 4, 10, 40)
}
CPU_ROWS |= {
    f"tasks-{solver}-{tasks}": partial(solver_row, solver=solver, tasks=tasks)
    for solver in SOLVERS[1:]
    for tasks in (4, 40)
}
CPU_ROWS["tasks-famo-4"] = partial(second_look_row, tasks=4)
