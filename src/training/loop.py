"""The one training loop: one task is T=1, fp32 is a disabled autocast, ERM is a plain index plan.

Randomness is a function of (seed, epoch) and (seed, step), so a run that was stopped anywhere and
started again equals an uninterrupted one, bit for bit on a CPU.
"""

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from src.data.batches import iterate_batches
from src.data.device_cache import keep_on_device
from src.io import UserError
from src.objective.across import task_losses
from src.runs.folder import Heartbeat, Run
from src.runs.signals import Stopped, stop_on_signal
from src.sampling.plans import DROPOUT_STREAM, IndexPlan, epoch_positions, split_batches
from src.training.checkpoints import COUNTERS, link_checkpoint, load_newest, prune, save_checkpoint
from src.training.cuda_graph import CapturedStep
from src.training.devices import autocast, explain_out_of_memory, seed_draws
from src.training.metrics_log import Clock, MetricsLog


@dataclass
class Settings:
    """Plain numbers of one training run; see configs/exp/erm.yaml for their meaning."""

    seed: int
    lr: float
    weight_decay: float
    momentum: float
    schedule: str | None
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
    keep_ckpts: str
    tensorboard: bool


class Trainer:
    """Trains a network in a run directory, from its newest checkpoint if it has one.

    Args:
        model: on the device, gives logits (B, T).
        objective: see src/objective/across.py.
        plan: which examples an epoch sees.
        images: image source of the train split; labels: (N, T) uint8 on the CPU.
        tasks: names of the T tasks.
        validate: (model, epoch, stop) -> flat metrics, or None where it was stopped; called after
            each epoch. Its `choose`: (epoch) -> the epochs that are best by now; called when the
            epoch's checkpoint is saved. See src/training/validation.py.
        finish: called when all epochs are over; the run is done after it.
    """

    def __init__(
        self,
        run: Run,
        model: nn.Module,
        objective: Any,
        plan: IndexPlan,
        images: Any,
        labels: Tensor,
        tasks: list[str],
        validate: Callable[..., Any],
        settings: Settings,
        finish: Callable[[], None] = lambda: None,
    ):
        self.run, self.model, self.objective, self.plan = run, model, objective, plan
        self.images, self.tasks, self.validate = images, tasks, validate
        self.settings, self.finish = settings, finish
        device = settings.device
        self.labels = labels.to(device)  # (N, T)
        self.optimizer = torch.optim.SGD(
            model.parameters(),
            lr=settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        if settings.momentum:
            # The fused optimizer makes these from uninitialised memory and fills them in its first
            # step, but not where that one is skipped, as the first of fp16 usually is.
            for parameter in model.parameters():
                buffer = torch.zeros_like(parameter, requires_grad=False)
                self.optimizer.state[parameter]["momentum_buffer"] = buffer
        self.scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")
        self.forward = torch.compile(model) if settings.compile else model
        self.steps_per_epoch = len(self._batches(epoch=1))
        self.epoch = 0  # finished and validated epochs
        self.batch = 0  # finished batches of the current one
        self.step = 0  # optimizer steps in all
        # Sums since the last log line, on the device: T losses, T weights, objective, steps.
        self.sums = torch.zeros(2 * len(tasks) + 2, device=device)
        self.bad_step = torch.zeros((), dtype=torch.int64, device=device)  # first non-finite one
        self.device_step = torch.zeros_like(self.bad_step)  # `step`, counted there
        self.device_lr = torch.zeros((), device=device)
        self.compute: Callable[[Tensor, Tensor], None] = self._compute
        # fp16's scaler takes decisions on the CPU, so its steps cannot be recorded.
        if settings.cuda_graph and device.type == "cuda" and settings.precision != "fp16":
            self.compute = CapturedStep(self._compute, settings.batch_size)

    def _batches(self, epoch: int) -> list:
        positions = epoch_positions(self.plan, self.settings.seed, epoch)
        return split_batches(positions, self.settings.batch_size)

    # ------------------------------------------------------------------ the loop

    def train(self) -> None:
        """Train to the end, or until a signal: then save and raise `Stopped`."""
        settings = self.settings
        if load_newest(self.run, self._load_state) is not None:
            print(f"continuing at epoch {self.epoch + 1}, step {self.step}", flush=True)
            if self.run.epoch_stats(self.epoch).exists():
                self._choose()  # again, where a kill came between saving and choosing
        self.log = MetricsLog(self.run, self.step, self.epoch, settings.tensorboard)
        total = settings.total_epochs * self.steps_per_epoch
        self.total_steps = total if settings.max_steps is None else min(total, settings.max_steps)
        last_epoch = math.ceil(self.total_steps / self.steps_per_epoch)
        reads = (self.total_steps - self.step) * settings.batch_size
        self.images = keep_on_device(
            self.images, self.plan.positions, settings.device, settings.device_cache, reads
        )
        self.saved_at = time.monotonic()
        progress = Heartbeat(self.run, total_epochs=settings.total_epochs, step=self.step)
        with (
            stop_on_signal() as self.stop,
            progress as self.heartbeat,
            self.log,
            explain_out_of_memory(),
        ):
            self.heartbeat.update(total_steps=self.total_steps, epoch=self.epoch)
            while self.epoch < last_epoch:
                self._train_epoch()
                self._finish_epoch()
                if self.stop() and self.epoch < last_epoch:
                    raise Stopped(self.stop())
            self.finish()

    def _train_epoch(self) -> None:
        settings = self.settings
        self.model.train()
        if self.batch == 0:
            self.objective.start_epoch()
        left = self._batches(self.epoch + 1)[self.batch :][: self.total_steps - self.step]
        augment = (settings.seed, self.step) if settings.augment else None
        bar = tqdm(
            total=self.steps_per_epoch,
            initial=self.batch,
            desc=f"epoch {self.epoch + 1}/{settings.total_epochs}",
            unit="step",
            mininterval=0.5,
        )
        stream = iterate_batches(self.images, left, settings.device, augment)
        clock = Clock()
        with bar, contextlib.closing(stream):
            for images, positions in stream:
                labels = self.labels[positions.to(settings.device, non_blocking=True)]  # (B, T)
                self._train_step(images, labels)
                clock.count(len(positions))
                bar.update()
                if self.step % settings.log_every_n_steps == 0:
                    self._write_log(bar, clock, stream.wait_seconds)
                if self.stop():
                    self._save_and_stop()
                if time.monotonic() - self.saved_at > 60 * settings.save_every_minutes:
                    self.save()
            self._write_log(bar, clock, stream.wait_seconds)

    def _train_step(self, images: Tensor, labels: Tensor) -> None:
        lr = self._lr()
        if isinstance(self.compute, CapturedStep):
            # A recording keeps addresses, not numbers.
            self.device_lr.fill_(lr)
            lr = self.device_lr
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        # Dropout and stochastic depth draw from torch's global generator.
        entropy = np.random.SeedSequence((self.settings.seed, DROPOUT_STREAM, self.step))
        seed_draws(self.settings.device, int(entropy.generate_state(1, np.uint64)[0]))
        self.compute(images, labels)
        self.step += 1
        self.batch += 1

    def _compute(self, images: Tensor, labels: Tensor) -> None:
        """What a step does on the device; it never waits for it."""
        settings = self.settings
        with autocast(settings.device, settings.precision):
            logits = self.forward(images)  # (B, T)
        losses = task_losses(logits, labels)  # (T,)
        objective, weights = self.objective(losses)
        self.optimizer.zero_grad(set_to_none=True)
        # The fused optimizer itself skips the step where this flag is set, so a non-finite loss
        # never reaches the weights and no step has to wait for the device. fp16's scaler sets the
        # same flag from the gradients, where overflow is no error; an infinite logit can have a
        # finite gradient, which is made NaN here.
        finite = torch.isfinite(objective.detach())
        self.scaler.scale(objective * torch.where(finite, 1.0, math.nan)).backward()
        if not self.scaler.is_enabled():
            self.optimizer.found_inf = (~finite).float()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.device_step += 1
        first = (self.bad_step == 0) & ~finite
        self.bad_step += first * self.device_step
        self.sums += torch.cat([losses.detach(), weights, objective.detach()[None], finite[None]])

    def _lr(self) -> float:
        """Constant, or a cosine from lr down to 0 over all steps of the run (Loshchilov 2017)."""
        settings = self.settings
        if settings.schedule is None:
            return settings.lr
        done = self.step / (settings.total_epochs * self.steps_per_epoch)
        return settings.lr * 0.5 * (1 + math.cos(math.pi * done))

    def _write_log(self, bar: tqdm, clock: Clock, waited: float) -> None:
        """One line of metrics.jsonl: means since the line before. Stops on a non-finite loss."""
        self._check_finite()
        sums = self.sums.tolist()
        tasks, steps = len(self.tasks), sums[-1]
        if not steps:
            return
        means = [value / steps for value in sums]
        line = {"train/loss": means[2 * tasks], "train/lr": self._lr()}
        for place, task in enumerate(self.tasks):
            line[f"train/{task}/loss"] = means[place]
            line[f"train/{task}/weight"] = means[tasks + place]
        rate, waiting = clock.images_per_second(), clock.share(waited)
        times = {"images_per_second": rate, "waiting": waiting, "now": time.time()}
        line |= {f"time/{name}": value for name, value in times.items()}
        self.log.write(self.step, self.epoch + 1, **line)
        bar.set_postfix_str(
            f"loss {line['train/loss']:.4f}, {rate:.0f} images/s, waiting {100 * waiting:.0f} %"
        )
        self.heartbeat.update(
            step=self.step, epoch=self.epoch, images_per_second=rate, waiting=waiting
        )
        self.sums.zero_()

    def _check_finite(self) -> None:
        bad = int(self.bad_step)
        if bad:
            raise UserError(
                f"the loss was not finite at step {bad}; no weight was touched by it, and the last "
                f"checkpoint is sound. Lower exp.optimizer.lr (now {self.settings.lr:g}), or try "
                f"exp.train.precision=fp32 (now {self.settings.precision})"
            )

    def _finish_epoch(self) -> None:
        """Validate, write the figures, save, and keep the best checkpoints."""
        epoch = self.epoch + 1
        metrics = self.validate(self.model, epoch, self.stop)
        if metrics is None:
            self._save_and_stop()
        self.log.write(self.step, epoch, **metrics, **{"time/now": time.time()})
        # An epoch that max_steps cut short counts as finished, too: it is the run's last.
        self.epoch, self.batch = epoch, 0
        self.heartbeat.update(epoch=epoch)
        self.save(name=epoch)
        self._choose()

    def _choose(self) -> None:
        """Name the best epochs, now that the newest one's checkpoint is there; then delete those
        that are none. Whoever reads a name finds its checkpoint."""
        selected = self.validate.choose(self.epoch)
        if self.settings.keep_ckpts == "best":
            prune(self.run, selected, self.epoch)

    # ------------------------------------------------------------------ saving

    def save(self, name: int | None = None) -> None:
        """Write ckpt.last.pt; with a name, ckpt.{name}.pt, which is ckpt.last.pt, too."""
        self._check_finite()
        # Batch norm's running statistics count, too: evaluation uses them.
        tensors = [t for t in self.model.state_dict().values() if t.is_floating_point()]
        if not torch.isfinite(torch.stack(torch._foreach_norm(tensors)).sum()):
            raise UserError(
                f"a weight became infinite by step {self.step}, and nothing was saved over the "
                f"last sound checkpoint: lower exp.optimizer.lr (now {self.settings.lr:g})"
            )
        # The numbered one first: where a kill comes between the two, the older `last` repeats the
        # epoch. The other way round, the epoch would be over and its checkpoint missing.
        last = self.run.checkpoint("last")
        if name is None:
            save_checkpoint(last, self._state())
        else:
            save_checkpoint(self.run.checkpoint(name), self._state())
            link_checkpoint(self.run.checkpoint(name), last)
        self.saved_at = time.monotonic()

    def _save_and_stop(self) -> None:
        self.save()
        print(f"stopped at step {self.step}, saved; the same command goes on", flush=True)
        raise Stopped(self.stop())

    def _state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "objective": self.objective.state_dict(),
            "scaler": self.scaler.state_dict(),
            "sums": self.sums,
            "epoch": self.epoch,
            "batch": self.batch,
            "step": self.step,
        }

    def _load_state(self, state: dict[str, Any]) -> None:
        self.epoch, self.batch, self.step = (state[name] for name in COUNTERS)
        # An epoch that max_steps cut short has fewer steps than others.
        done = self.epoch * self.steps_per_epoch + self.batch
        if self.epoch > self.settings.total_epochs or self.batch > self.steps_per_epoch:
            raise ValueError("its epoch and batch are not of this training")
        if self.step > done:
            raise ValueError(f"its step {self.step} comes after epoch {self.epoch}")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for parameter, kept in self.optimizer.state.items():
            if any(buffer.shape != parameter.shape for buffer in kept.values()):
                raise ValueError("its momentum is of another network")
        self.objective.load_state_dict(state["objective"])
        if state["scaler"]:  # empty where the run began on a device that needs no fp16
            self.scaler.load_state_dict(state["scaler"])
        if state["sums"].shape != self.sums.shape:  # copy_ would repeat one number
            raise ValueError("its sums are of another number of tasks")
        self.sums.copy_(state["sums"])
        self.device_step.fill_(self.step)
