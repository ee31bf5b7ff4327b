"""Several processes that train one network, started by torchrun.

Each process computes the logits of its slice of a batch. The logits of all slices are gathered, so
that each process computes the whole objective on the whole batch: group losses, running states and
sorted losses are those of one process, and no method has to know how many there are. Gradients
flow back through the slice, and their sum over the processes is the gradient of the whole batch,
whatever the sizes of the slices.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from src.io import UserError

# What gloo and NCCL say when another process of the group has ended.
LOST = ("closed by peer", "Connection reset", "Broken pipe", "aborted", "timed out", "Timed out")


class Ranks:
    """The processes of one training; without torchrun it is this one alone.

    Attributes:
        rank: number of this process, from 0. Rank 0 writes all files.
        size: number of processes.
        local: number of this process on its machine; its GPU has the same number.
    """

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", 0))
        self.size = int(os.environ.get("WORLD_SIZE", 1))
        self.local = int(os.environ.get("LOCAL_RANK", 0))

    @property
    def first(self) -> bool:
        return self.rank == 0

    @contextmanager
    def connected(self, device: torch.device) -> Iterator[None]:
        """Work together with the other processes.

        Raises:
            UserError: another process has ended.
        """
        if self.size == 1:
            yield
            return
        own = not dist.is_initialized()
        if own:
            # Decisions of the CPU go by gloo, so that they do not wait for the GPU.
            backends = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backends, timeout=timedelta(hours=1))
        try:
            yield
        except RuntimeError as error:
            if not any(text in str(error) for text in LOST):
                raise
            raise UserError(
                "another process of this training has ended; the same command resumes"
            ) from error
        if own:
            dist.destroy_process_group()

    def share(self, count: int) -> slice:
        """Return this process's part of `count` rows; the parts differ by one row at most."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def gather(self, rows: Tensor, count: int) -> Tensor:
        """Return the rows (count, ...) of all processes in order, from the own `share` of them.

        Each process must compute the same number from the result. The gradient of its own rows is
        the gradient of that number.
        """
        return rows if self.size == 1 else _Gather.apply(rows, count, self)

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace the gradients by their sums over the processes."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.size == 1 or not gradients:
            return
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients])):
            gradient.copy_(total.view_as(gradient))

    def agree(self, *values: int) -> list[int]:
        """Return the largest value that any process has, of each."""
        if self.size == 1:
            return list(values)
        largest = torch.tensor(values)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return largest.tolist()

    def in_turn(self, action: Callable[[], Any]) -> Any:
        """Run `action` on rank 0, then on the others; return the own result."""
        result = action() if self.first else None
        self.agree(0)
        return result if self.first else action()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, count: int, ranks: Ranks) -> Tensor:
        ctx.own = ranks.share(count)
        largest = -(-count // ranks.size)
        padded = rows.new_zeros(largest, *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(ranks.size)]
        dist.all_gather(parts, padded)
        ends = [count * rank // ranks.size for rank in range(ranks.size + 1)]
        return torch.cat([part[: b - a] for part, a, b in zip(parts, ends, ends[1:])])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient[ctx.own], None, None


def synchronise_batch_norm(model: nn.Module, ranks: Ranks, device: torch.device) -> nn.Module:
    """Make batch norm use the statistics of the whole batch; else results depend on the ranks.

    Frozen layers use no statistics of the batch, so they stay as they are.

    Raises:
        UserError: on a CPU, where torch has no such layer.
    """
    layers = {name: layer for name, layer in model.named_modules() if _uses_batch(layer)}
    if ranks.size == 1 or not layers:
        return model
    if device.type != "cuda":
        raise UserError(
            "batch norm over several processes needs GPUs: use exp.train.num_devices=1, or a "
            "network without batch norm such as exp/model=convnext_tiny"
        )
    from timm.layers import convert_sync_batchnorm  # of timm's layers with activation, and torch's

    for name, layer in layers.items():
        model.set_submodule(name, convert_sync_batchnorm(layer))
    return model


def _uses_batch(layer: nn.Module) -> bool:
    """Return whether a layer is batch norm that is not frozen."""
    trains = getattr(layer, "weight", None) is None or layer.weight.requires_grad
    return isinstance(layer, nn.modules.batchnorm._BatchNorm) and trains


def start_processes(count: int, argv: Sequence[str]) -> None:
    """Start this program in `count` processes by torchrun's launcher; exit as they do.

    In a step of Slurm with several tasks (srun) each task starts its part of them.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    if count % tasks:
        raise UserError(
            f"exp.train.num_devices={count} cannot be shared by the {tasks} tasks of this Slurm "
            f"step: use a multiple of {tasks}"
        )
    signals = {"signals_to_handle": "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1,SIGUSR2"}
    known = "signals_to_handle" in LaunchConfig.__dataclass_fields__  # not in older versions
    config = LaunchConfig(
        min_nodes=tasks,
        max_nodes=tasks,
        nproc_per_node=count // tasks,
        run_id=os.environ.get("SLURM_JOB_ID", "none"),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0" if tasks == 1 else _first_node(),
        max_restarts=0,
        **(signals if known else {}),
    )
    try:
        elastic_launch(config, sys.executable)(*argv)
    except SignalException as stopped:
        sys.exit(128 + stopped.sigval)
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            print(
                f"process {rank} of {count} was killed ({name}); the same command resumes",
                file=sys.stderr,
            )
        sys.exit(failure.exitcode if failure.exitcode > 0 else 1)


def _first_node() -> str:
    """Return where the processes of a Slurm step meet, as host:port."""
    command = ["scontrol", "show", "hostnames", os.environ["SLURM_STEP_NODELIST"]]
    hosts = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return f"{hosts[0]}:{20_000 + int(os.environ['SLURM_JOB_ID']) % 20_000}"
