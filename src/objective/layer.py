"""What a layer of the objective is: running state that changes only with a finite step."""

import torch
from torch import Tensor, nn

from src.objective.batch import TrainTables
from src.objective.options import ObjectiveOptions


class Layer(nn.Module):
    """A layer whose running state is changed in two phases; its children may be layers, too.

    A forward pass reads the state, and writes the new one with `propose`. After the optimizer step
    `commit` takes it over, if the step was finite. So one bad batch does not spoil the state. State
    tensors keep their address and shape: they are saved, resumed, and safe in CUDA graphs.
    """

    def __init__(self) -> None:
        super().__init__()
        self._proposed: set[str] = set()  # since the last commit

    def add_state(self, name: str, value: Tensor) -> None:
        """Register the state tensor `self.<name>`."""
        self.register_buffer(name, value)
        self.register_buffer(f"{name}_proposed", value.clone(), persistent=False)

    def propose(self, name: str, value: Tensor) -> Tensor:
        """Note the new value of a state tensor, and return it without gradient."""
        self._proposed.add(name)
        return getattr(self, f"{name}_proposed").copy_(value.detach())

    def sublayers(self) -> list["Layer"]:
        """Return the layers that this one consists of."""
        return [module for module in self.children() if isinstance(module, Layer)]

    def commit(self, finite: Tensor) -> None:
        """Take over the proposed state where `finite` (0-dim bool) is true."""
        for name in self._proposed:
            state = getattr(self, name)
            state.copy_(torch.where(finite, getattr(self, f"{name}_proposed"), state))
        self._proposed.clear()
        for layer in self.sublayers():
            layer.commit(finite)

    def start_epoch(self, epoch: int) -> None:
        """Prepare for an epoch (from 1)."""
        for layer in self.sublayers():
            layer.start_epoch(epoch)

    def draw(self, seed: int, step: int) -> None:
        """Draw the random numbers of a step (from 0) into fixed tensors."""
        for layer in self.sublayers():
            layer.draw(seed, step)

    def end_epoch(self, val_losses: Tensor) -> None:
        """Use the validation loss of each task's groups, (T, G); NaN for an empty group."""
        for layer in self.sublayers():
            layer.end_epoch(val_losses)

    @property
    def log_names(self) -> list[str]:
        """Names of the numbers that `logged` returns, such as `Blond_Hair/q3`."""
        return []

    def logged(self) -> Tensor:
        """Return the numbers of the last step for the log, (len(log_names),)."""
        return torch.empty(0)


class TableLayer(Layer):
    """A layer that knows the train split.

    Losses, shifts and weights of examples are called with the batch, penalties with losses (B, T)
    and the batch. Layers of tasks are called with losses (B, T), weights (B, T) or None for all 1,
    and the batch; they return S (T,).
    """

    def __init__(self, options: ObjectiveOptions, tables: TrainTables):
        super().__init__()
        self.options, self.tables = options, tables


class AcrossLayer(Layer):
    """Called with S (T,); returns the scalar, and the weights (T,) of the tasks' gradients.

    Args:
        weights: (T,) of `static`.
        alpha: of `lbtw`.
    """

    looks_again = False  # whether `observe` wants the numbers of the batch after the step

    def __init__(self, options: ObjectiveOptions, weights: list[float], alpha: float):
        super().__init__()
        self.options, self.num_tasks = options, len(weights)

    def observe(self, scalars: Tensor, finite: Tensor) -> None:
        """Use S (T,) of the same batch after the optimizer step, if the step was finite."""


def is_present(scalars: Tensor) -> Tensor:
    """Return which tasks have a label in the batch, (T,) bool: the others have S_t = 0."""
    return ~(scalars.detach() <= 0)  # NaN counts, so that the step is seen to be bad


class EpochMeans(Layer):
    """The mean of S over the steps of an epoch in which a task has a label."""

    def __init__(self, num_tasks: int):
        super().__init__()
        self.add_state("total", torch.zeros(num_tasks))
        self.add_state("count", torch.zeros(num_tasks))

    def forward(self, scalars: Tensor) -> None:
        self.propose("total", self.total + scalars.detach())
        self.propose("count", self.count + is_present(scalars))

    def restart(self, default: Tensor) -> Tensor:
        """Return the mean (T,) since the last call, `default` (T,) for tasks without a step."""
        mean = torch.where(self.count > 0, self.total / self.count, default)
        self.total.zero_()
        self.count.zero_()
        return mean
