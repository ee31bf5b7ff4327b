"""Heads fitted on the cached features of a finished run, and the run folder of such a head.

A head run looks like any other run: its checkpoint holds the backbone of the base run and the new
head, so that test.py and reports work unchanged. `head.json` says where the features come from, so
that other splits need no pass of the network where their features are at hand.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from src.evaluation.logits import Logits, load_features, load_logits, predictions, save_logits
from src.evaluation.results import evaluate, evaluation_json
from src.io import read_json, write_json
from src.methods.found_groups import GroupLabels
from src.models import build
from src.objective.logits import LogitLayout
from src.runs.folder import Heartbeat, Run
from src.runs.head_info import HeadInfo, head_file
from src.runs.provenance import Provenance
from src.runs.selection import record_validation, scores
from src.sampling.draws import stratified_halves
from src.sampling.plans import stack_labels
from src.training.checkpoints import link_checkpoint, load_checkpoint, model_hash, save_checkpoint


@dataclass(frozen=True)
class Head:
    """A fitted head.

    Attributes:
        module: features (N, D) to flat logits (N, C).
        fit_rows: positions of validation that it was fitted on; empty for none.
        chosen: hyperparameters that were selected, for people to read.
    """

    module: nn.Module
    fit_rows: np.ndarray = field(default_factory=lambda: np.arange(0))
    chosen: dict[str, Any] = field(default_factory=dict)


class HeadData:
    """What a head is fitted on: features, labels and groups of the splits, and the base's head.

    Args:
        run, epoch: of the base, whose features have been exported.
        group_labels: the groups that the run may use; without group labels, its classes.
    """

    def __init__(self, run: Run, epoch: int | str, group_labels: GroupLabels):
        self.run, self.epoch, self.group_labels = run, epoch, group_labels
        self.seed = group_labels.seed
        self.tasks = [grouping.task for grouping in group_labels.own]
        self.layout = LogitLayout([grouping.num_classes for grouping in group_labels.own])

    @cache  # noqa: B019 (lives as long as one fit)
    def features(self, split: str) -> Tensor:
        """Return the features of a split, (N, D) float32."""
        return torch.from_numpy(
            load_features(self.run.features(split, self.epoch)).values.astype(np.float32)
        )

    def logits(self, split: str, epoch: int | str | None = None) -> Logits:
        """Return the base's logits of a split, at another epoch if one is given."""
        return load_logits(self.run.logits(split, self.epoch if epoch is None else epoch))

    @cache  # noqa: B019
    def labels(self, split: str) -> np.ndarray:
        """Return labels (N, T) int64, -1 = unknown."""
        return stack_labels(*self.group_labels.split(split))

    @cache  # noqa: B019
    def groups(self, split: str) -> np.ndarray:
        """Return group ids (N, T) int64, -1 = unknown."""
        return self.group_labels.groups(split)

    @cache  # noqa: B019
    def halves(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the positions of val_fit and val_select."""
        return stratified_halves(self.groups("val"), self.seed)

    def base_rows(self, task: int) -> tuple[Tensor, Tensor]:
        """Return the base head of a task as K rows: weights (K, D) and biases (K,).

        A binary task's one row w becomes (0, w), whose softmax is the sigmoid of w's logit.
        """
        state = load_checkpoint(self.run.checkpoint(self.epoch))["model"]
        place = self.layout.columns[task]
        weight, bias = state["head.weight"][place], state["head.bias"][place]
        if len(weight) == 1:
            return torch.cat([torch.zeros_like(weight), weight]), torch.cat([bias * 0, bias])
        return weight.clone(), bias.clone()

    def worst_group(
        self, logits: np.ndarray | Tensor, task: int, rows: np.ndarray | None = None
    ) -> float:
        """Return the worst-group accuracy of logits (n,) or (n, K) of `rows` of validation."""
        rows = np.arange(len(logits)) if rows is None else rows
        right = predictions(np.asarray(logits)) == self.labels("val")[rows, task]
        groups = self.groups("val")[rows, task]
        return min(right[groups == g].mean() for g in np.unique(groups[groups >= 0]))


def linear_head(rows: Sequence[tuple[Tensor, Tensor]]) -> nn.Linear:
    """Return a linear head from each task's weights and biases, (1 or K, D) and (1 or K,).

    Two rows of a binary task are joined to one, their difference.
    """
    weights, biases = [], []
    for weight, bias in rows:
        binary = len(weight) == 2
        weights.append(weight[1:] - weight[:1] if binary else weight)
        biases.append(bias[1:] - bias[:1] if binary else bias)
    weight, bias = torch.cat(weights), torch.cat(biases)
    head = nn.Linear(weight.shape[1], len(weight))
    head.load_state_dict({"weight": weight.float(), "bias": bias.float()})
    return head


def fit_each_task(
    data: HeadData,
    fit: Callable[[int], tuple[tuple[Tensor, Tensor], Any]],
    what: str,
    fit_rows: np.ndarray | None = None,
) -> Head:
    """Return a linear head of all tasks.

    Args:
        fit: called with the number of a task; returns its rows (see `linear_head`) and choices.
        what: what these choices are.
        fit_rows: see `Head`.
    """
    fitted = [fit(task) for task in range(len(data.tasks))]
    chosen = {f"{what} of {name}": value for name, (_, value) in zip(data.tasks, fitted)}
    rows = np.arange(0) if fit_rows is None else fit_rows
    return Head(linear_head([head for head, _ in fitted]), rows, chosen)


def standardisation(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each feature, (D,); a constant one has deviation 1."""
    deviation = features.std(0, correction=0)
    return features.mean(0), torch.where(deviation > 0, deviation, 1.0)


def write_head_run(run: Run, data: HeadData, head: Head, heartbeat: Heartbeat) -> None:
    """Write the run folder of a fitted head: checkpoint, validation, status.

    Validation leaves out the rows that the head was fitted on; if those are all rows, there is no
    figure.
    """
    base = load_checkpoint(data.run.checkpoint(data.epoch))["model"]
    state = {name: tensor for name, tensor in base.items() if name.startswith("backbone.")}
    state |= {f"head.{name}": tensor for name, tensor in head.module.state_dict().items()}
    save_only_epoch(run, state, step=1)
    info = HeadInfo(
        base=str(data.run.path.resolve()),
        epoch=data.epoch,
        weights=model_hash(base),
        fit_rows=head.fit_rows.tolist(),
        chosen=head.chosen,
    )
    write_json(head_file(run), info.model_dump())
    if data.run.provenance.exists():  # the head's data are those of its base
        made_from = read_json(data.run.provenance, Provenance).data
        write_json(run.provenance, Provenance(data=made_from, sessions=[]).model_dump())

    source = load_features(data.run.features("val", data.epoch)).source
    source = replace(source, epoch="1", checkpoint=model_hash(state))
    with torch.inference_mode():
        values = head.module(data.features("val")).numpy()
    logits = Logits(values, tuple(data.tasks), data.layout.num_classes, source)
    save_logits(run.logits("val", 1), logits)
    rows, groupings = data.group_labels.split("val")
    held_out = np.setdiff1d(np.arange(len(rows)), head.fit_rows)
    figures = evaluate(logits.select(held_out), groupings, rows.select(held_out))
    write_json(run.epoch_stats(1), evaluation_json(run.path, logits, "1", figures))
    record_validation(run, 1, scores(figures, data.group_labels.has_groups("val")))
    for name, value in head.chosen.items():
        print(f"{name}: {value}", flush=True)
    owner = {name: heartbeat.fields[name] for name in ("host", "pid", "started")}
    run.set_status(state="done", step=1, epoch=1, total_epochs=1, **owner)


def write_frozen_run(run: Run, model: dict[str, Any], classes: list[int], seed: int) -> None:
    """Write the run folder of a network with its first weights, whose features are wanted.

    Args:
        model: options of `build_model`.
        classes: number of classes of each task.
    """
    network = build.build_model(**model, num_logits=LogitLayout(classes).width, seed=seed)
    state = network.state_dict()
    save_only_epoch(run, state, step=0)
    # So that exported files can be checked against the weights.
    checkpoint = {"name": "1", "epoch": 1, "hash": model_hash(state)}
    write_json(run.epoch_stats(1), {"checkpoint": checkpoint, "split": "val"})
    run.set_status(state="done", step=0, epoch=1, total_epochs=1)


def save_only_epoch(run: Run, state: dict[str, Tensor], step: int) -> None:
    """Save a network as the only epoch of a run."""
    save_checkpoint(run.checkpoint(1), {"model": state, "epoch": 1, "batch": 0, "step": step})
    link_checkpoint(run.checkpoint(1), run.checkpoint("last"))
