"""Rows about several tasks: what layers across tasks and of gradients add to a step, on a CPU."""

import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch
from torch import nn

from benchmarks.compare import Row, absolute
from benchmarks.ours import Bench
from benchmarks.scaling import peak
from src.data.groupings import ATTRIBUTES
from src.models.build import Network
from src.objective.batch import TrainTables
from src.objective.compose import Objective
from src.objective.logits import LogitLayout
from src.objective.options import ACROSS, SOLVERS, ObjectiveOptions
from src.training.step import Step

BATCH, STEPS, WIDTH = 32, 12, 512  # of ResNet-18's features
TASKS = (2, 4, 10, 40)


def layer_row(bench: Bench, layer: str, name: str, tasks: int) -> Row:
    """Measure the CPU seconds of the objective's layer, as a share of a step of ERM."""
    extra = objective_seconds(tasks, {layer: name}) - objective_seconds(tasks, {})
    share = extra / steps(bench, "across=static", tasks)[0]
    target = 0.05 if (name, tasks) == ("upgrad", 4) else None
    return row(name, tasks, share, target, "time of the layer, which takes less than 1 MB")


def whole_step_row(bench: Bench, override: str, tasks: int) -> Row:
    """Measure what a whole step takes beyond a step of ERM: CPU seconds as a share, and memory."""
    seconds, look, memory = steps(bench, override, tasks)
    erm, _, plain = steps(bench, "across=static", tasks)
    share = look / (seconds - look) if look else seconds / erm - 1
    note = f"whole step; {1000 * max(memory - plain, 0):.0f} MB more"
    return row(override.partition("=")[2], tasks, share, None, note)


def row(name: str, tasks: int, share: float, target: float | None, note: str) -> Row:
    what = f"share of a step, {name}, {tasks} tasks"
    return absolute(what, "share", [share], target, f"{note}; resnet18 64, batch {BATCH}")


@cache
def steps(bench: Bench, override: str, tasks: int) -> tuple[float, float, float]:
    """Return CPU seconds of a training step, and of FAMO's second look in it; and peak GB."""
    names = [f"{name}:Male" for name in ATTRIBUTES if name != "Male"] + ["Male:Young"]
    limits = [f"exp.train.max_steps={STEPS}", f"exp.train.log_every_n_steps={STEPS}"]
    groupings = f"exp.dataset.groupings=[{','.join(names[:tasks])}]"
    overrides = [groupings, f"exp.objective.{override}", *limits]
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    call, look = timed(Step.__call__), timed(Step._look_again)
    with (
        mock.patch.object(Step, "__call__", call),
        mock.patch.object(Step, "_look_again", look),
        bench.run(bench.overrides("resnet18", 64, BATCH, *overrides)),
    ):
        looks = median(look.times[STEPS // 3 :] or [0.0])
        return median(call.times[STEPS // 3 :]), looks, peak()


def objective_seconds(tasks: int, options: dict[str, Any]) -> float:
    """Return the CPU seconds of the objective and of its gradient by the features."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (BATCH, tasks), generator=generator)
    names = [f"t{task}" for task in range(tasks)]
    tables = TrainTables(LogitLayout([2] * tasks), labels, 2 * labels, [4] * tasks, names)
    chosen = ObjectiveOptions(**{"across": "static", **options})
    objective = Objective(chosen, tables, [1.0] * tasks, 0.5)
    network = Network(nn.Identity(), nn.Linear(WIDTH, tasks))
    if objective.gradient is not None:
        objective.gradient.watch(network)
    features = torch.rand(BATCH, WIDTH, generator=generator, requires_grad=True)

    def compute() -> None:
        total, _ = objective(tables.batch(network(features), torch.arange(BATCH)))
        total.backward()
        objective.commit(torch.tensor(True))

    call = timed(compute)
    for step in range(30):
        objective.draw(0, step)
        call()
    return median(call.times[10:])


def timed(function: Callable) -> Any:
    """Return the function with an attribute `times`, CPU seconds of each call in this thread."""

    def call(*args: Any, **options: Any) -> Any:
        start = time.thread_time()
        result = function(*args, **options)
        call.times.append(time.thread_time() - start)
        return result

    call.times = []
    return call


CPU_ROWS = {
    f"tasks-{name}-{tasks}": partial(layer_row, layer=layer, name=name, tasks=tasks)
    for layer, names in (("gradient", SOLVERS), ("across", ACROSS[1:-1]))
    for name in names
    for tasks in TASKS
}
CPU_ROWS |= {
    f"tasks-{override.partition('=')[2]}-{tasks}": partial(
        whole_step_row, override=override, tasks=tasks
    )
    for override, numbers in (("across=famo", TASKS), ("gradient=torchjd", TASKS[:3]))
    for tasks in numbers
}
