"""The training loop: step, validate, checkpoint.

Randomness is a function of (seed, epoch) and (seed, step). A run that was stopped anywhere and
started again therefore equals an uninterrupted one, bit for bit on a CPU.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from src.data.batches import iterate_batches, keep_on_device
from src.io import UserError
from src.objective.compose import Objective
from src.runs.folder import Heartbeat, Run
from src.runs.signals import Stopped, stop_on_signal
from src.sampling.draws import DROPOUT_STREAM
from src.sampling.epochs import Schedule
from src.training.checkpoints import (
    COUNTERS,
    link_checkpoint,
    load_newest,
    prune,
    save_checkpoint,
)
from src.training.cuda_graph import CapturedStep
from src.training.devices import explain_out_of_memory, seed_draws
from src.training.distributed import Ranks
from src.training.method import Method
from src.training.metrics_log import Clock, MetricsLog
from src.training.step import Step, build_optimizer, cosine


@dataclass(frozen=True)
class Settings:
    """Plain numbers of one training run; src/config/schema.py describes them."""

    seed: int
    optimizer: str
    lr: float
    weight_decay: float
    momentum: float
    schedule: str | None
    warmup_steps: int
    batch_size: int
    device_cache: bool | str
    total_epochs: int
    max_steps: int | None
    device: torch.device
    precision: str
    augment: bool
    compile: bool
    cuda_graph: bool
    log_every_n_steps: int
    save_every_minutes: float
    val_every_n_epochs: int
    keep_ckpts: str | list[int]
    trackers: list[str]


class Trainer:
    """Trains a network in a run folder, from the newest checkpoint if there is one.

    Args:
        model: on the device, images to logits (B, C).
        method: see src/training/method.py.
        objective: see src/objective/compose.py.
        schedule: which examples each epoch sees.
        images: image source of the train split.
        validation: called as (model, epoch, stop) after each epoch; see src/training/validation.py.
        finish: called after the last epoch, before the run is done.
    """

    def __init__(
        self,
        run: Run,
        model: nn.Module,
        method: Method,
        objective: Objective,
        schedule: Schedule,
        images: Any,
        validation: Any,
        settings: Settings,
        finish: Callable[[], None] = lambda: None,
        ranks: Ranks | None = None,
    ):
        self.ranks = ranks or Ranks()
        self.run, self.model, self.schedule = run, model, schedule
        self.images, self.validation, self.finish = images, validation, finish
        self.settings, device = settings, settings.device
        self.method, self.objective = method.to(device), objective.to(device)
        self.optimizer = build_optimizer(
            settings.optimizer,
            [*model.parameters(), *method.parameters()],
            *(settings.lr, settings.weight_decay, settings.momentum),
            without_decay=list(objective.parameters()),
        )
        self.compute = Step(
            *(model, self.method, self.objective, self.optimizer),
            *(device, settings.precision, settings.compile, self.ranks),
        )
        self.epoch = 0  # finished and validated epochs
        self.batch = 0  # finished batches of the current epoch
        self.step = 0  # optimizer steps in all
        self.lr = settings.lr  # of the last step
        self.last_line: dict[str, float] = {}  # of the log
        self.planned_steps = schedule.total_steps(settings.total_epochs, settings.batch_size)
        self.total_steps = min(self.planned_steps, settings.max_steps or self.planned_steps)
        self.last_epoch = schedule.epoch_of(self.total_steps, settings.batch_size)
        self.device_lr = torch.zeros((), device=device)
        self.run_step: Callable[..., None] = self.compute
        # fp16's scaler takes decisions on the CPU, so its steps cannot be recorded.
        captured = settings.precision != "fp16" and self.objective.captured and method.captured
        captured = captured and self.ranks.size == 1  # not yet tried with NCCL
        if settings.cuda_graph and device.type == "cuda" and captured:
            self.run_step = CapturedStep(self.compute, schedule.rows(settings.batch_size))

    # ------------------------------------------------------------------ the loop

    def train(self) -> None:
        """Train to the end, or until a signal: then save and raise `Stopped`."""
        with self.ranks.connected(self.settings.device):
            self._train()

    def _train(self) -> None:
        settings = self.settings
        if self.ranks.in_turn(lambda: load_newest(self.run, self._load_state)) is not None:
            print(f"resuming at step {self.step}", flush=True)
            if self.run.epoch_stats(self.epoch).exists():
                self._select()  # again, in case of a kill between saving and selecting
        reads = (self.total_steps - self.step) * settings.batch_size
        self.images = keep_on_device(
            *(self.images, self.schedule.positions(), settings.device),
            *(settings.device_cache, reads),
        )
        self.saved_at = time.monotonic()
        with stop_on_signal() as self.stop, self._files(), explain_out_of_memory():
            while self.epoch < self.last_epoch:
                self._train_epoch()
                self._finish_epoch()
                [stop] = self.ranks.agree(self.stop() or 0)
                if stop and self.epoch < self.last_epoch:
                    raise Stopped(stop)
            if self.ranks.first:
                self.finish()

    @contextlib.contextmanager
    def _files(self) -> Iterator[None]:
        """Open the log and the status of the run, which rank 0 writes."""
        if not self.ranks.first:
            yield
            return
        totals = {"total_epochs": self.settings.total_epochs, "total_steps": self.total_steps}
        progress = Heartbeat(self.run, step=self.step, epoch=self.epoch, **totals)
        log = MetricsLog(self.run, self.step, self.epoch, self.settings.trackers)
        with progress as self.heartbeat, log as self.log:
            yield

    def _train_epoch(self) -> None:
        settings, epoch = self.settings, self.epoch + 1
        self.model.train()
        if self.batch == 0:
            self.objective.start_epoch(epoch)
            self.method.start_epoch(epoch)
        batches = self.schedule.batches(settings.seed, epoch, settings.batch_size)
        left = batches[self.batch :][: self.total_steps - self.step]
        augment = (settings.seed, self.step) if settings.augment else None
        bar = tqdm(
            total=len(batches),
            initial=self.batch,
            desc=f"epoch {epoch}/{settings.total_epochs}",
            unit="step",
            mininterval=0.5,
            leave=False,
            disable=None,  # without a terminal; each epoch prints a line
        )
        share = {} if self.method.whole_batches else {"share": self.ranks.share}
        stream = iterate_batches(self.images, left, settings.device, augment, **share)
        clock = Clock()
        with bar, contextlib.closing(stream):
            for positions, (images, _) in zip(left, stream):
                rows = torch.from_numpy(np.asarray(positions, np.int64))
                self._train_step(images, rows.to(settings.device, non_blocking=True))
                clock.count(len(positions))
                bar.update()
                if self.step % settings.log_every_n_steps == 0:
                    self._write_log(bar, clock, stream.wait_seconds)
                old = time.monotonic() - self.saved_at > 60 * settings.save_every_minutes
                stop, save = self.ranks.agree(self.stop() or 0, old)
                if stop:
                    self._save_and_stop(stop)
                if save:
                    self.save()
            self._write_log(bar, clock, stream.wait_seconds)

    def _train_step(self, images: torch.Tensor, positions: torch.Tensor) -> None:
        lr: float | torch.Tensor = self._next_lr()
        self.lr = lr
        if isinstance(self.run_step, CapturedStep):
            lr = self.device_lr.fill_(lr)  # a CUDA graph needs lr in a fixed tensor
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        # Dropout and stochastic depth draw from torch's global generator.
        others = [self.ranks.rank] if self.ranks.rank else []
        place = (self.settings.seed, DROPOUT_STREAM, self.step, *others)
        entropy = np.random.SeedSequence(place)
        seed_draws(self.settings.device, int(entropy.generate_state(1, np.uint64)[0]))
        self.method.draw(self.settings.seed, self.step, len(positions))
        self.objective.draw(self.settings.seed, self.step)
        self.run_step(images, positions)
        self.step += 1
        self.batch += 1

    def _next_lr(self) -> float:
        """Return lr, or a cosine from lr to 0 over all planned steps.

        During the warm-up it rises linearly: lr / W, 2 lr / W, ..., lr. The cosine begins after it.
        """
        lr = self.settings.lr * self.method.lr_factor(self.epoch + 1)
        warmup = self.settings.warmup_steps
        if self.step < warmup:
            return lr * (self.step + 1) / warmup
        if self.settings.schedule is None:
            return lr
        return cosine(lr, (self.step - warmup) / (self.planned_steps - warmup))

    def _write_log(self, bar: tqdm, clock: Clock, waited: float) -> None:
        """Write means since the last log line to metrics.jsonl; stop on a non-finite loss."""
        self._check_finite()
        *sums, total, steps = self.compute.sums.tolist()
        if not steps:
            return
        self.compute.sums.zero_()
        line = {"train/loss": total / steps, "train/lr": self.lr}
        for name, value in zip(self.objective.log_names, sums):
            line[f"train/{name}"] = value / steps
        rate, waiting = clock.images_per_second(), clock.share(waited)
        times = {"images_per_second": rate, "waiting": waiting, "now": time.time()}
        line |= {f"time/{name}": value for name, value in times.items()}
        self.last_line = line
        if not self.ranks.first:
            return
        self.log.write(self.step, self.epoch + 1, **line)
        bar.set_postfix_str(
            f"loss {line['train/loss']:.4f}, {rate:.0f} images/s, waiting {100 * waiting:.0f} %"
        )
        self.heartbeat.update(
            step=self.step, epoch=self.epoch, images_per_second=rate, waiting=waiting
        )

    def _check_finite(self) -> None:
        bad = int(self.compute.bad_step)
        if bad:
            raise UserError(
                f"the loss was not finite at step {bad}; that step changed no weight, and the last "
                f"checkpoint is sound. Lower exp.optimizer.lr (now {self.settings.lr:g}), or try "
                f"exp.train.precision=fp32 (now {self.settings.precision})"
            )

    def _finish_epoch(self) -> None:
        """Validate, write the figures, save, and keep the best checkpoints."""
        epoch, keep = self.epoch + 1, self.settings.keep_ckpts
        if epoch % self.settings.val_every_n_epochs and epoch < self.last_epoch:
            self.method.end_epoch(partial(self.validation.train_logits, self.model))
            self.epoch, self.batch = epoch, 0
            if isinstance(keep, list) and epoch in keep:
                self.save(name=epoch)
            return
        validated = self.validation(self.model, epoch, self.stop)
        if validated is None:
            self._save_and_stop(self.stop())
        self.objective.end_epoch(torch.from_numpy(validated.group_losses))
        self.method.end_epoch(partial(self.validation.train_logits, self.model))
        # An epoch cut short by max_steps counts as finished: it is the last one.
        self.epoch, self.batch = epoch, 0
        if not self.ranks.first:
            return
        self.log.write(self.step, epoch, **validated.metrics, **{"time/now": time.time()})
        loss = self.last_line.get("train/loss", math.nan)
        total = self.settings.total_epochs
        print(f"epoch {epoch}/{total}  loss {loss:.4f}  {validated.summary}", flush=True)
        self.heartbeat.update(epoch=epoch)
        self.save(name=epoch)
        self._select()

    def _select(self) -> None:
        """Select the best epochs now that their checkpoints exist, then delete the others."""
        if not self.ranks.first:
            return
        selected = self.validation.select(self.epoch)
        keep = self.settings.keep_ckpts
        if keep != "all":
            wanted = [] if keep == "best" else keep
            prune(self.run, {*selected.values(), self.epoch, *wanted})

    # ------------------------------------------------------------------ saving

    def save(self, name: int | None = None) -> None:
        """Write ckpt.last.pt on rank 0; with an epoch as `name`, also ckpt.{name}.pt."""
        self._check_finite()
        self.saved_at = time.monotonic()
        if not self.ranks.first:
            return
        # Batch norm's running statistics count, too: evaluation uses them.
        tensors = [t for t in self.model.state_dict().values() if t.is_floating_point()]
        if not torch.isfinite(torch.stack(torch._foreach_norm(tensors)).sum()):
            raise UserError(
                f"a weight became infinite by step {self.step}; the last sound checkpoint was "
                f"kept: lower exp.optimizer.lr (now {self.settings.lr:g})"
            )
        # The numbered one first: after a kill between the two, the older `last` repeats the epoch.
        # The other way round, the epoch would be finished and its checkpoint missing.
        last = self.run.checkpoint("last")
        if name is None:
            save_checkpoint(last, self._state())
        else:
            save_checkpoint(self.run.checkpoint(name), self._state())
            link_checkpoint(self.run.checkpoint(name), last)

    def _save_and_stop(self, signum: int) -> None:
        self.save()
        self.ranks.agree(0)  # no process ends before rank 0 has saved
        print(f"stopped at step {self.step} and saved; the same command resumes", flush=True)
        raise Stopped(signum)

    def _state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "objective": self.objective.state_dict(),
            "method": self.method.state_dict(),
            "scaler": self.compute.scaler.state_dict(),
            "sums": self.compute.sums,
            "epoch": self.epoch,
            "batch": self.batch,
            "step": self.step,
        }

    def _load_state(self, state: dict[str, Any]) -> None:
        self.epoch, self.batch, self.step = (state[name] for name in COUNTERS)
        if self.epoch > self.settings.total_epochs or self.step > self.planned_steps:
            raise ValueError("its epoch and step are not of this training")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.objective.load_state_dict(state["objective"])
        self.method.load_state_dict(state["method"])
        if state["scaler"]:  # empty if the run began on a device that needs no fp16
            self.compute.scaler.load_state_dict(state["scaler"])
        if state["sums"].shape != self.compute.sums.shape:
            raise ValueError("its sums are of another number of tasks")
        self.compute.sums.copy_(state["sums"])
        self.compute.count.fill_(self.step)
