"""The training loop: step, validate, checkpoint.

Randomness is a function of (seed, epoch) and (seed, step). A run that was stopped anywhere and
started again therefore equals an uninterrupted one, bit for bit on a CPU.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from src.data.batches import iterate_batches, keep_on_device
from src.objective.compose import Objective
from src.runs.folder import Heartbeat, Run
from src.runs.signals import Stopped, stop_on_signal
from src.sampling.draws import DROPOUT_STREAM
from src.sampling.epochs import Schedule
from src.training.checkpoints import link_checkpoint, load_newest, prune, save_checkpoint
from src.training.cuda_graph import CapturedStep
from src.training.devices import explain_out_of_memory, seed_draws
from src.training.distributed import Ranks
from src.training.method import Method
from src.training.metrics_log import Clock, MetricsLog
from src.training.step import Step, learning_rate
from src.training.validation import Validation

if TYPE_CHECKING:
    from src.config.schema import Config


class Trainer:
    """Trains a network in a run folder, from the newest checkpoint if there is one.

    Args:
        model: on the device, images to logits (B, C).
        schedule: which examples each epoch sees.
        images: image source of the train split.
        config: the trainer reads exp.seed, .optimizer, .dataloader, .train and .data_augmentation.
    """

    def __init__(
        self,
        run: Run,
        model: nn.Module,
        method: Method,
        objective: Objective,
        schedule: Schedule,
        images: Any,
        validation: Validation,
        config: Config,
        device: torch.device,
        precision: str,
        ranks: Ranks | None = None,
    ):
        self.run, self.model, self.schedule = run, model, schedule
        self.images, self.validation = images, validation
        self.config, self.settings, self.device = config, config.train, device
        self.ranks, self.batch_size = ranks or Ranks(), config.dataloader.batch_size
        self.compute = Step(model, method, objective, config, device, precision, self.ranks)
        self.method, self.objective = self.compute.method, self.compute.objective
        self.optimizer = self.compute.optimizer
        self.epoch = 0  # finished and validated epochs
        self.batch = 0  # finished batches of the current epoch
        self.step = 0  # optimizer steps in all
        self.lr = config.optimizer.lr  # of the last step
        self.last_loss = math.nan  # in the log
        self.planned_steps = schedule.total_steps(config.train.total_epochs, self.batch_size)
        self.total_steps = min(self.planned_steps, config.train.max_steps or self.planned_steps)
        self.last_epoch = schedule.epoch_of(self.total_steps, self.batch_size)
        self.device_lr = torch.zeros((), device=device)
        self.run_step: Callable[..., None] = self.compute
        # fp16's scaler takes decisions on the CPU; steps with NCCL are not yet tried.
        captured = objective.captured and method.captured and precision != "fp16"
        captured = captured and self.ranks.size == 1 and device.type == "cuda"
        if config.train.cuda_graph and captured:
            self.run_step = CapturedStep(self.compute, schedule.rows(self.batch_size))

    # ------------------------------------------------------------------ the loop

    def train(self) -> None:
        """Train to the end, or until a signal: then save and raise `Stopped`."""
        with self.ranks.connected(self.device):
            self._resume()
            positions = self.schedule.positions()
            reads = (self.total_steps - self.step) * self.batch_size
            cache = self.config.dataloader.device_cache
            self.images = keep_on_device(self.images, positions, self.device, cache, reads)
            self.saved_at = time.monotonic()
            with stop_on_signal() as self.stop, self._files(), explain_out_of_memory():
                while self.epoch < self.last_epoch:
                    self._train_epoch()
                    self._finish_epoch()
                    [stop] = self.ranks.agree(self.stop() or 0)
                    if stop and self.epoch < self.last_epoch:
                        raise Stopped(stop)

    def _resume(self) -> None:
        """Continue from the newest checkpoint, if there is one."""
        if self.ranks.in_turn(lambda: load_newest(self.run, self._load_state)) is not None:
            print(f"resuming at step {self.step}", flush=True)
            if self.ranks.first and self.run.epoch_stats(self.epoch).exists():
                self._select()  # again, in case of a kill between saving and selecting

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
        seed, epoch = self.config.seed, self.epoch + 1
        self.model.train()
        if self.batch == 0:
            self.objective.start_epoch(epoch)
            self.method.start_epoch(epoch)
        batches = self.schedule.batches(seed, epoch, self.batch_size)
        left = batches[self.batch :][: self.total_steps - self.step]
        augment = (seed, self.step) if self.config.dataset.data_augmentation else None
        share = {} if self.method.whole_batches else {"share": self.ranks.share}
        stream = iterate_batches(self.images, left, self.device, augment, **share)
        name = f"epoch {epoch}/{self.settings.total_epochs}"
        shown = {"mininterval": 0.5, "leave": False, "disable": None}  # None: in terminals only
        bar = tqdm(total=len(batches), initial=self.batch, desc=name, unit="step", **shown)
        clock = Clock()
        with bar, contextlib.closing(stream):
            for rows, (images, _) in zip(left, stream):
                positions = torch.from_numpy(np.asarray(rows, np.int64))
                self._train_step(images, positions.to(self.device, non_blocking=True))
                clock.images += len(rows)
                bar.update()
                if self.step % self.settings.log_every_n_steps == 0:
                    self._write_log(bar, *clock.restart(stream.wait_seconds))
                old = time.monotonic() - self.saved_at > 60 * self.settings.save_every_minutes
                stop, save = self.ranks.agree(self.stop() or 0, old)
                if stop:
                    self._save_and_stop(stop)
                if save:
                    self.save()
            self._write_log(bar, *clock.restart(stream.wait_seconds))

    def _train_step(self, images: torch.Tensor, positions: torch.Tensor) -> None:
        factor = self.method.lr_factor(self.epoch + 1)
        self.lr = learning_rate(self.config.optimizer, self.step, self.planned_steps, factor)
        captured = isinstance(self.run_step, CapturedStep)  # it needs lr in a fixed tensor
        for group in self.optimizer.param_groups:
            group["lr"] = self.device_lr.fill_(self.lr) if captured else self.lr
        # Dropout and stochastic depth draw from torch's global generator.
        seed, others = self.config.seed, [self.ranks.rank] if self.ranks.rank else []
        seed_draws(self.device, seed, DROPOUT_STREAM, self.step, *others)
        self.method.draw(seed, self.step, len(positions))
        self.objective.draw(seed, self.step)
        self.run_step(images, positions)
        self.step += 1
        self.batch += 1

    def _write_log(self, bar: tqdm, rate: float, waiting: float) -> None:
        """Write means since the last log line to metrics.jsonl; stop on a non-finite loss."""
        self.compute.check_finite()
        *sums, total, steps = self.compute.sums.tolist()
        if not steps:
            return
        self.compute.sums.zero_()
        self.last_loss = total / steps
        if not self.ranks.first:
            return
        line = {"train/loss": self.last_loss, "train/lr": self.lr}
        line |= {f"train/{k}": value / steps for k, value in zip(self.objective.log_names, sums)}
        speed = {"images_per_second": rate, "waiting": waiting}
        line |= {f"time/{k}": value for k, value in (speed | {"now": time.time()}).items()}
        self.log.write(self.step, self.epoch + 1, **line)
        bar.set_postfix_str(
            f"loss {self.last_loss:.4f}, {rate:.0f} images/s, waiting {100 * waiting:.0f} %"
        )
        self.heartbeat.update(step=self.step, epoch=self.epoch, **speed)

    def _finish_epoch(self) -> None:
        """Validate, write the figures, save, and keep the best checkpoints."""
        epoch, keep, total = self.epoch + 1, self.settings.keep_ckpts, self.settings.total_epochs
        validates = epoch % self.settings.val_every_n_epochs == 0 or epoch >= self.last_epoch
        if validates:
            validated = self.validation(self.model, epoch, self.stop)
            if validated is None:
                self._save_and_stop(self.stop())
            self.objective.end_epoch(torch.from_numpy(validated.group_losses))
        self.method.end_epoch(partial(self.validation.train_logits, self.model))
        # An epoch cut short by max_steps counts as finished: it is the last one.
        self.epoch, self.batch = epoch, 0
        if not validates:
            if isinstance(keep, list) and epoch in keep:
                self.save(name=epoch)
            return
        if self.ranks.first:
            self.log.write(self.step, epoch, **validated.metrics, **{"time/now": time.time()})
            loss = f"loss {self.last_loss:.4f}"
            print(f"epoch {epoch}/{total}  {loss}  {validated.summary}", flush=True)
            self.heartbeat.update(epoch=epoch)
            self.save(name=epoch)
            self._select()

    def _select(self) -> None:
        """Select the best epochs now that their checkpoints exist, then delete the others."""
        selected = self.validation.select(self.epoch)
        keep = self.settings.keep_ckpts
        if keep != "all":
            prune(self.run, {*selected.values(), self.epoch, *([] if keep == "best" else keep)})

    # ------------------------------------------------------------------ saving

    def save(self, name: int | None = None) -> None:
        """Write ckpt.last.pt on rank 0; with an epoch as `name`, also ckpt.{name}.pt."""
        self.compute.check_finite()
        self.saved_at = time.monotonic()
        if not self.ranks.first:
            return
        self.compute.check_weights()
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
        counters = {"epoch": self.epoch, "batch": self.batch, "step": self.step}
        return self.compute.state_dict() | counters

    def _load_state(self, state: dict[str, Any]) -> None:
        self.epoch, self.batch, self.step = state["epoch"], state["batch"], state["step"]
        if self.epoch > self.settings.total_epochs or self.step > self.planned_steps:
            raise ValueError("its epoch and step are not of this training")
        self.compute.load_state_dict(state, self.step)
