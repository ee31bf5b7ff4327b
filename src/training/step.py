"""One training step on the device: forward, objective, backward, optimizer. It never waits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from src.io import UserError
from src.objective.compose import Objective
from src.training.devices import autocast
from src.training.distributed import Ranks
from src.training.method import Method

if TYPE_CHECKING:
    from src.config.schema import Config, OptimizerConfig

STATEFUL = ("model", "optimizer", "objective", "method", "scaler")  # attributes of a step


def build_optimizer(
    options: OptimizerConfig,
    parameters: list[nn.Parameter],
    without_decay: Sequence[nn.Parameter] = (),
) -> torch.optim.Optimizer:
    """Build a fused optimizer: `sgd` (momentum), `adam` or `adamw`.

    Args:
        options: exp.optimizer.
        without_decay: parameters with the same learning rate and no weight decay.

    Fused optimizers skip the step themselves where `found_inf` is set, so a non-finite loss never
    reaches the weights and no step has to wait for the device.
    """
    groups: list[dict] = [{"params": parameters}]
    if without_decay:
        groups.append({"params": list(without_decay), "weight_decay": 0.0})
    shared = {"lr": options.lr, "weight_decay": options.weight_decay, "fused": True}
    if options.name != "sgd":
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[options.name]
        return kind(groups, **shared, capturable=parameters[0].is_cuda)
    optimizer = torch.optim.SGD(groups, **shared, momentum=options.momentum)
    if options.momentum:
        # The fused SGD creates these from uninitialised memory and fills them in its first step,
        # but not if that step is skipped, as the first of fp16 usually is.
        for parameter in (*parameters, *without_decay):
            buffer = torch.zeros_like(parameter, requires_grad=False)
            optimizer.state[parameter]["momentum_buffer"] = buffer
    return optimizer


def learning_rate(
    options: OptimizerConfig, step: int, planned_steps: int, factor: float = 1.0
) -> float:
    """Return the learning rate of a step (from 0), times `factor`.

    It is constant, or a cosine from lr to 0 over all planned steps (Loshchilov and Hutter 2017).
    During the warm-up it rises linearly: lr / W, 2 lr / W, ..., lr. The cosine begins after it.
    """
    lr, warmup = options.lr * factor, options.warmup_steps
    if step < warmup:
        return lr * (step + 1) / warmup
    if options.schedule is None:
        return lr
    done = (step - warmup) / (planned_steps - warmup)
    return lr * 0.5 * (1 + math.cos(math.pi * done))


class Step:
    """Called with images (B, 3, H, W) and positions (B,) on the device.

    With several processes the images are this one's share, unless the method mixes images.

    Attributes:
        sums: sums since the last log line: the objective's logged numbers (L,), the scalar, and the
            number of finite steps; on the device.
        bad_step: number of the first non-finite step, 0 for none; on the device.
        count: number of steps so far, counted on the device.
    """

    def __init__(
        self,
        model: nn.Module,
        method: Method,
        objective: Objective,
        config: Config,
        device: torch.device,
        precision: str,
        ranks: Ranks,
    ):
        self.model, self.device, self.precision, self.ranks = model, device, precision, ranks
        self.method, self.objective = method.to(device), objective.to(device)
        self.parameters = [*model.parameters(), *method.parameters()]
        learnt_weights = list(objective.parameters())
        self.optimizer = build_optimizer(config.optimizer, self.parameters, learnt_weights)
        self.lr = config.optimizer.lr  # as configured
        self.rows = 0  # of the batch, over all processes
        if objective.gradient is not None:
            objective.gradient.watch(model, self.gather)
        self.forward = torch.compile(model) if config.train.compile else model
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.sums = torch.zeros(len(objective.log_names) + 2, device=device)
        self.bad_step = torch.zeros((), dtype=torch.int64, device=device)
        self.count = torch.zeros_like(self.bad_step)

    def network(self, images: Tensor) -> Tensor:
        """Return the logits of a batch in the run's precision.

        Args:
            images: this process's share of the batch, or a whole batch that the method mixed.
        """
        if self.method.whole_batches:
            self.rows = len(images)
            images = images[self.ranks.share(self.rows)]
        with autocast(self.device, self.precision):
            logits = self.forward(images)
        if logits.dim() == 3:  # of several networks, (networks, B, C)
            return self.gather(logits.transpose(0, 1)).transpose(0, 1)
        return self.gather(logits)

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows of all processes, from this one's share of the batch."""
        return self.ranks.gather(rows, self.rows)

    def __call__(self, images: Tensor, positions: Tensor) -> None:
        parts = self.method.parts
        self.optimizer.zero_grad(set_to_none=True)
        numbers = []
        for some, rows in zip(images.chunk(parts), positions.chunk(parts)):
            self.rows = len(rows)
            total, logged = self.method.loss(self.network, self.objective, some, rows)
            # fp16's scaler sets found_inf from the gradients, where overflow is no error; an
            # infinite logit can have a finite gradient, which is made NaN here.
            factor = torch.where(torch.isfinite(total.detach()), 1.0 / parts, math.nan)
            self.scaler.scale(total * factor).backward()
            numbers.append(torch.cat([logged, total.detach()[None]]))
        self.ranks.sum_gradients(self.parameters)
        logged = torch.stack(numbers).mean(0)
        finite = torch.isfinite(logged[-1])
        if not self.scaler.is_enabled():
            self.optimizer.found_inf = (~finite).float()
        self.scaler.step(self.optimizer)
        taken = finite
        if self.scaler.is_enabled():  # fp16 also skips steps whose gradients overflow
            taken = finite & (sum(self.scaler._found_inf_per_device(self.optimizer).values()) == 0)
        self.scaler.update()
        self.objective.commit(taken)
        self.method.commit(taken)
        if self.objective.across.looks_again:
            self._look_again(images, positions, taken)
        self.count += 1
        self.bad_step += ((self.bad_step == 0) & ~finite) * self.count
        self.sums += torch.cat([logged, finite[None]])

    def state_dict(self) -> dict[str, Any]:
        """Return all that training changes."""
        parts = {name: getattr(self, name).state_dict() for name in STATEFUL}
        return parts | {"sums": self.sums}

    def load_state_dict(self, state: dict[str, Any], count: int) -> None:
        """Continue from a saved state after `count` steps."""
        for name in STATEFUL:
            if state[name] or name != "scaler":  # empty if the run began without fp16
                getattr(self, name).load_state_dict(state[name])
        if state["sums"].shape != self.sums.shape:
            raise ValueError("its sums are of another number of tasks")
        self.sums.copy_(state["sums"])
        self.count.fill_(count)

    def check_finite(self) -> None:
        """Raise a UserError if the loss of a step was not finite."""
        if bad := int(self.bad_step):
            raise UserError(
                f"the loss was not finite at step {bad}; that step changed no weight, and the last "
                f"checkpoint is sound. Lower exp.optimizer.lr (now {self.lr:g}), or try "
                f"exp.train.precision=fp32 (now {self.precision})"
            )

    def check_weights(self) -> None:
        """Raise a UserError if a weight, or a running statistic of batch norm, is not finite."""
        tensors = [t for t in self.model.state_dict().values() if t.is_floating_point()]
        if not torch.isfinite(torch.stack(torch._foreach_norm(tensors)).sum()):
            raise UserError(
                f"a weight became infinite by step {int(self.count)}; the last sound checkpoint "
                f"was kept: lower exp.optimizer.lr (now {self.lr:g})"
            )

    @torch.no_grad()
    def _look_again(self, images: Tensor, positions: Tensor, finite: Tensor) -> None:
        """Tell the objective the tasks' numbers of the same batch after the step."""
        with frozen_statistics(self.model):
            _, logged = self.method.loss(self.network, self.objective, images, positions)
        self.objective.across.observe(logged[: len(self.objective.tasks)], finite)


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Keep the running statistics of batch norm layers, which a forward pass would move."""
    layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta):
            layer.momentum = momentum
