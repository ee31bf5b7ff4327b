"""Layer 4 on full Jacobians, by the aggregators of TorchJD (an optional library)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.io import UserError, first_line
from src.models.build import Network
from src.objective.batch import Batch, TrainTables
from src.objective.gradient import GradientLayer, replace_gradient
from src.objective.options import ObjectiveOptions, TorchJDOptions
from src.sampling.draws import TASK_STREAM

# Aggregators on the scale of a mean over tasks; the others are on that of a sum.
OF_MEANS = {"UPGrad", "DualProj", "AlignedMTL", "CAGrad", "IMTLG", "Mean", "MGDA", "Random"}
OF_MEANS |= {"TrimmedMean"}
# NashMTL wants the same number of rows each time, TrimmedMean more rows than it leaves out.
FIXED_ROWS = {"NashMTL", "TrimmedMean"}


class JacobianLayer(GradientLayer):
    """Aggregates the tasks' gradients by all weights but the head's.

    Takes a backward pass per task and T times the memory of the weights. The head gets the plain
    sum of the gradients, as each task has rows of its own there.
    """

    def __init__(self, options: ObjectiveOptions, tables: TrainTables):
        super().__init__(options, tables)
        self.aggregator = make_aggregator(options.torchjd, len(tables.tasks))
        self.networks: tuple[Network, ...] = ()  # a tuple keeps its weights out of this module
        self.entropy = 0

    def watch(self, network: Network, gather: Any = None) -> None:
        self.networks = (network,)

    def draw(self, seed: int, step: int) -> None:
        sequence = np.random.SeedSequence((seed, TASK_STREAM, step))
        self.entropy = int(sequence.generate_state(1, np.uint64)[0])

    def forward(self, scalars: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        (network,) = self.networks
        head = list(network.head.parameters())
        own = {id(parameter) for parameter in head}
        shared = [p for p in network.parameters() if p.requires_grad and id(p) not in own]
        jacobian, of_head = [], [torch.zeros_like(parameter) for parameter in head]
        for scalar in scalars:
            gradients = torch.autograd.grad(
                *(scalar, [*shared, *head]),
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            jacobian.append(
                torch.cat([gradient.flatten() for gradient in gradients[: len(shared)]])
            )
            of_head = [a + b for a, b in zip(of_head, gradients[len(shared) :])]
        combined = self.combine(torch.stack(jacobian))  # (P,)
        pieces = combined.split([parameter.numel() for parameter in shared])
        surrogate = sum((piece * p.flatten()).sum() for piece, p in zip(pieces, shared))
        surrogate = surrogate + sum((g * p).sum() for g, p in zip(of_head, head))
        return replace_gradient(scalars.sum(), surrogate), torch.ones_like(scalars)

    def combine(self, jacobian: Tensor) -> Tensor:
        """Return the aggregated gradient (P,) of the rows (T, P)."""
        self.measure(jacobian @ jacobian.T)
        if not torch.isfinite(jacobian).all():
            return jacobian.sum(0)  # the step is skipped
        if self.own.aggregator not in FIXED_ROWS:
            jacobian = jacobian[jacobian.any(1)]  # tasks with a label in the batch
        if not len(jacobian):
            return jacobian.sum(0)
        rescale = self.own.rescale and self.own.aggregator in OF_MEANS
        # PCGrad and GradVac draw an order of the tasks on the CPU, also for a network on a GPU.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.entropy)
            return self.aggregator(jacobian) * (len(jacobian) if rescale else 1)


def make_aggregator(options: TorchJDOptions, num_tasks: int) -> "torch.nn.Module":
    """Make the aggregator of TorchJD that the options name.

    Raises:
        UserError: TorchJD, or a library that this aggregator needs, is not installed.
    """
    name = options.aggregator
    arguments = {
        "CAGrad": {"c": options.c},
        "FairGrad": {"alpha": options.alpha},
        "GradVac": {"beta": options.beta},
        "TrimmedMean": {"trim_number": options.trim_number},
        "NashMTL": {"n_tasks": num_tasks},
    }
    try:
        from torchjd import aggregation

        return getattr(aggregation, name)(**arguments.get(name, {}))
    except (ImportError, AttributeError) as error:
        extra = EXTRAS.get(name)
        needed = f"torchjd[{extra}]" if extra else "torchjd"
        raise UserError(
            f"exp.objective.torchjd.aggregator={name} needs a library that is not installed "
            f"({first_line(error)}): pip install '{needed}>=0.18,<0.19'"
        ) from error


# Of TorchJD; some need packages under the GPL, so none is installed by default.
EXTRAS = {
    "UPGrad": "quadprog_projector",
    "DualProj": "quadprog_projector",
    "CAGrad": "cagrad",
    "NashMTL": "nash_mtl",
    "FairGrad": "fairgrad",
}
