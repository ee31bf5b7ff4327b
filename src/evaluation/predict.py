"""Logits and features of a split: saved ones if they fit, else one pass of the network."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from src.data.dataset import Dataset
from src.data.groupings import Grouping, parse_groupings
from src.data.table import Table
from src.evaluation.adjustment import adjust
from src.evaluation.logits import (
    Features,
    Logits,
    Source,
    load_features,
    load_logits,
    rows_identity,
    save_features,
    save_logits,
)
from src.evaluation.results import evaluate, evaluation_json, read_evaluation
from src.io import UserError, read_json, write_json
from src.runs.folder import Run
from src.runs.head_info import HeadInfo, head_file
from src.runs.provenance import DataIdentity, Provenance, data_identity, differences
from src.runs.selection import find_best_ckpt


@dataclass(frozen=True)
class Pass:
    """What one pass over a split gives, rows in split order."""

    logits: np.ndarray  # (N, C) float32
    features: np.ndarray | None = None  # (N, D) float16


def predict(
    model: Any,
    images: Any,
    num_examples: int,
    num_logits: int,
    device: Any,
    precision: str,
    batch_size: int,
    progress: str | None = None,
    stop: Callable[[], Any] = lambda: None,
    with_features: bool = False,
    share: Callable[[int], slice] = lambda count: slice(0, count),
) -> Pass | None:
    """Run a network over a split in eval mode.

    Args:
        images: image source of the split; see src/data.
        precision: bf16, fp16 or fp32; logits are kept in float32.
        progress: label of the progress bar; None shows none.
        stop: asked between batches; if it returns something, the pass ends and returns None.
        with_features: also keep the features, as float16.
        share: which of the N examples to run over; by default all. The result has their rows.

    Raises:
        UserError: an output is not finite; it would count as a prediction of class 0.
    """
    import torch
    from tqdm import tqdm

    from src.data.batches import iterate_batches
    from src.training.devices import autocast

    examples = np.arange(num_examples)[share(num_examples)]
    batches = np.array_split(examples, max(1, -(-len(examples) // batch_size)))
    logits = torch.empty(len(examples), num_logits, device=device)  # (N, C)
    done = 0
    kept: list[np.ndarray] = []
    was_training = model.training
    model.eval()
    hidden = True if progress is None else None  # None: hidden without a terminal
    bar = tqdm(total=len(examples), desc=progress, unit="img", leave=False, disable=hidden)
    with torch.inference_mode(), bar:
        for batch, positions in iterate_batches(images, batches, device):
            with autocast(device, precision):
                if with_features:
                    features = model.features(batch)  # (B, D)
                    output = model.head(features)  # (B, C)
                    kept.append(features.half().cpu().numpy())
                else:
                    output = model(batch)
            logits[done : done + len(positions)] = output.float()
            done += len(positions)
            bar.update(len(positions))
            if stop():
                return None
    model.train(was_training)
    if len(examples) == num_examples:  # else whoever gathers the shares checks all of them
        check_finite(logits, precision)
    return Pass(logits.cpu().numpy(), np.concatenate(kept) if with_features else None)


def check_finite(logits: Any, precision: str) -> None:
    """Raise a UserError if an output (N, C) is not finite."""
    bad = int((~logits.isfinite().all(dim=1)).sum())
    if bad:
        other = (
            "" if precision == "fp32" else f", or try exp.train.precision=fp32 (now {precision})"
        )
        raise UserError(
            f"the network's output is not finite for {bad:,} of {len(logits):,} examples: lower "
            f"exp.optimizer.lr{other}"
        )


class RunEvaluator:
    """Evaluates the checkpoints of one run; `open_evaluator` in src/api.py makes it.

    Args:
        groupings: those that the run was trained with.
        open_data: opens the data set.
        load_model: (state dict) -> the network on the CPU.
        device, precision: of the pass, as in exp.train.
        moved: the data may be other data than the run's: results get names of their own then.
    """

    def __init__(
        self,
        run: Run,
        groupings: Sequence[Grouping],
        open_data: Callable[[], Dataset],
        load_model: Callable[[dict], Any],
        device: str,
        precision: str,
        batch_size: int,
        moved: bool = False,
    ):
        self.run, self.groupings = run, list(groupings)
        self.tasks = tuple(grouping.task for grouping in self.groupings)
        self.num_classes = tuple(grouping.num_classes for grouping in self.groupings)
        self._open_data, self._load_model = open_data, load_model
        self.device, self.precision, self.batch_size = device, precision, batch_size
        self.moved = moved
        self._dataset: Dataset | None = None

    @property
    def dataset(self) -> Dataset:
        if self._dataset is None:
            self._dataset = self._open_data()
        return self._dataset

    def rows(self, split: str) -> Table:
        return self.dataset.split(split)

    def logits(self, checkpoint: str, split: str) -> Logits:
        """Return the logits of a checkpoint (a number, `last`, or a rule) on a split.

        Saved ones are used if they come from the same weights and the same data.
        """
        return self._logits_and_features(checkpoint, split, with_features=False)[0]

    def logits_path(self, checkpoint: str, split: str) -> Path:
        """Return the file that holds what `logits` returns."""
        epoch = find_best_ckpt(self.run, checkpoint)
        return self.run.logits(split, f"{epoch}{self._tag(split)}")

    def features(self, checkpoint: str, split: str) -> Features:
        """Return the features of a checkpoint on a split, saved as `logits` are."""
        return self._logits_and_features(checkpoint, split, with_features=True)[1]

    def _logits_and_features(
        self, checkpoint: str, split: str, with_features: bool
    ) -> tuple[Logits, Features | None]:
        epoch = find_best_ckpt(self.run, checkpoint)
        rows = self.rows(split)
        identity = rows_identity(rows.names, rows.codes), self._image_identity(split)
        tag = self._tag(split)
        logits_path = self.run.logits(split, f"{epoch}{tag}")
        features_path = self.run.features(split, f"{epoch}{tag}")
        features = None
        logits = saved_logits(self.run, split, epoch, *identity, tag)
        if with_features:
            features = _saved(load_features, features_path, self.run, epoch, *identity)
        if logits is not None and (features is not None or not with_features):
            return logits, features
        base = None if with_features or tag else self._base_features(split, identity)
        if base is not None:
            passed, source = self._head_alone(epoch, base)
        else:
            passed, source = self._pass(epoch, split, with_features)
        if identity[1] is not None:
            self._record_data(split)
        logits = Logits(passed.logits, self.tasks, self.num_classes, source)
        save_logits(logits_path, logits)
        if with_features:
            features = Features(passed.features, source)
            save_features(features_path, features)
        return logits, features

    def _image_identity(self, split: str) -> str | None:
        """Return the identity of a split's images; None if they are not at hand."""
        try:
            return image_identity(self.dataset.images(split))
        except UserError:
            return None

    def _tag(self, split: str) -> str:
        """Return what is added to the names of files about other data than the run's."""
        if not self._is_other_data(split):
            return ""
        rows = self.rows(split)
        both = f"{rows_identity(rows.names, rows.codes)} {self._image_identity(split)}"
        return f"-{hashlib.sha256(both.encode()).hexdigest()[:8]}"

    @cache  # noqa: B019 (lives as long as one call)
    def _is_other_data(self, split: str) -> bool:
        """Whether val or this split is not the one that the run was trained or evaluated with."""
        if not self.moved or not self.run.provenance.exists():
            return False
        known = read_json(self.run.provenance, Provenance).data
        # Images of train may have been whole frames.
        compared = {"val", split} & known.keys() - {"train"}
        now = {name: self._data_identity(name) for name in sorted(compared)}
        return bool(differences(known, now))

    def _data_identity(self, split: str) -> DataIdentity:
        return data_identity(self.rows(split), self.dataset.images(split))

    def _record_data(self, split: str) -> None:
        """Record the identity of a split at its first evaluation, for `_is_other_data`."""
        if self.moved or not self.run.provenance.exists():
            return
        known = read_json(self.run.provenance, Provenance)
        if split not in known.data:
            known.data[split] = self._data_identity(split)
            write_json(self.run.provenance, known.model_dump())

    def _base_features(self, split: str, identity: tuple[str, str | None]) -> Features | None:
        """Return saved features of the network whose head this run replaced, if it has one."""
        if not head_file(self.run).exists():
            return None
        info = read_json(head_file(self.run), HeadInfo)
        base = Run(info.base)
        saved = _saved(load_features, base.features(split, info.epoch), base, info.epoch, *identity)
        return saved if saved is not None and saved.source.checkpoint == info.weights else None

    def _head_alone(self, epoch: int | str, features: Features) -> tuple[Pass, Source]:
        """Predict from saved features, without the images."""
        import torch

        from src.training.checkpoints import load_checkpoint, model_hash

        weights = load_checkpoint(self.run.checkpoint(epoch))["model"]
        head = self.network(epoch, weights).head.eval()
        with torch.inference_mode():
            logits = head(torch.from_numpy(features.values.astype(np.float32))).numpy()
        source = replace(features.source, epoch=str(epoch), checkpoint=model_hash(weights))
        return Pass(logits), source

    def _pass(self, epoch: int | str, split: str, features: bool) -> tuple[Pass, Source]:
        from src.training.checkpoints import load_checkpoint, model_hash
        from src.training.devices import choose_device, choose_precision

        device = choose_device(self.device)
        precision = choose_precision(self.precision, device)
        state = load_checkpoint(self.run.checkpoint(epoch))
        num_logits = sum(1 if classes == 2 else classes for classes in self.num_classes)
        rows, images = self.rows(split), self.dataset.images(split)
        passed = predict(
            self.network(epoch, state["model"]).to(device),
            *(images, len(rows), num_logits),
            *(device, precision, self.batch_size),
            progress=split,
            with_features=features,
        )
        name = str(epoch) if epoch != "last" else f"last (step {state['step']})"
        # A first-edition checkpoint was hashed under the old names of its weights.
        weights = state.get("hash") or model_hash(state["model"])
        identity = rows_identity(rows.names, rows.codes), image_identity(images)
        source = Source(split, name, weights, *identity, precision, device.type)
        return passed, source

    def network(self, epoch: int | str, weights: dict[str, Any]) -> Any:
        """Return the run's network with the weights of an epoch, on the CPU.

        Raises:
            UserError: they are weights of another network.
        """
        import torch

        try:
            return self._load_model(weights).to(memory_format=torch.channels_last)
        except (RuntimeError, TypeError, AttributeError) as error:
            reason = str(error).splitlines()[-1].strip()[:200]
            raise UserError(
                f"{self.run.checkpoint(epoch)} does not hold this run's network ({reason})"
            ) from error

    def evaluate(
        self,
        checkpoint: str,
        split: str,
        groupings: Sequence[Grouping] | None = None,
        adjustment: tuple[float, str] | None = None,
    ) -> dict[str, Any]:
        """Evaluate a checkpoint for any groupings of the run's tasks, and write the JSON.

        Args:
            adjustment: tau and level (class or group) of a logit adjustment by train's priors.
        """
        if groupings is None:
            groupings = self.groupings
        else:  # with the classes of this data set
            names = [grouping.name for grouping in groupings]
            groupings = parse_groupings(names, columns=self.dataset.columns)
        unknown = [grouping.name for grouping in groupings if grouping.task not in self.tasks]
        if unknown:
            raise UserError(
                f"{self.run.path} was not trained for {', '.join(unknown)}: "
                f"its tasks are {', '.join(self.tasks)}"
            )
        self.check_classes(groupings)
        logits = self.logits(checkpoint, split)
        name = f"{checkpoint}{self._tag(split)}"
        if adjustment is not None:
            tau, by = adjustment
            logits = adjust(logits, self._one_per_task(groupings), self.rows("train"),
                            self.rows(split), tau, by)  # fmt: skip
            name += f"-adjusted-by-{by}-{tau:g}"
        figures = evaluate(logits, groupings, self.rows(split))
        result = evaluation_json(self.run.path, logits, checkpoint, figures)
        if adjustment is not None:
            result["logit_adjustment"] = {"tau": tau, "by": by}
        write_json(self.run.stats(split, name), result)
        return result

    def check_classes(self, groupings: Sequence[Grouping]) -> None:
        """Check that the columns have the same classes, in the same order, as in training.

        Raises:
            UserError: labels of other classes would be compared with the run's logits.
        """
        trained = {c: names for g in self.groupings for c, names in zip(g.columns, g.classes)}
        problems = []
        for column in dict.fromkeys(c for grouping in groupings for c in grouping.columns):
            now = self.dataset.columns.get(column)
            if column in trained and isinstance(now, tuple) and now != trained[column]:
                problems.append(
                    f"column '{column}' has the classes {', '.join(now)}, but {self.run.path} was "
                    f"trained with {', '.join(trained[column])}: use the data it was trained on"
                )
        if problems:
            raise UserError(problems)

    def _one_per_task(self, groupings: Sequence[Grouping]) -> list[Grouping]:
        """Return the first grouping of each task of the logits; else the run's own."""
        first = {grouping.task: grouping for grouping in [*self.groupings, *reversed(groupings)]}
        return [first[task] for task in self.tasks]


def image_identity(images: Any) -> str:
    """Return what identifies the pixels of an image source: `crc:...` or `files:...`."""
    return " ".join(f"{kind}:{value}" for kind, value in images.fingerprint.items())


def saved_logits(
    run: Run, split: str, epoch: int | str, rows: str, images: str | None, tag: str = ""
) -> Logits | None:
    """Return saved logits of an epoch, if they come from its weights and from these data.

    Args:
        rows: identity of the split's rows.
        images: identity of its images; None does not check it.
    """
    return _saved(load_logits, run.logits(split, f"{epoch}{tag}"), run, epoch, rows, images)


def _saved(
    load: Callable, path: Path, run: Run, epoch: int | str, rows: str, images: str | None
) -> Any:
    """Load a file if it exists and fits the weights that validation noted, and the data."""
    noted = run.epoch_stats(epoch)
    if not (path.exists() and noted.exists()):
        return None
    try:
        saved = load(path)
    except UserError as error:
        print(f"warning: {error}", flush=True)
        return None
    weights = read_evaluation(noted)["checkpoint"]["hash"]
    images = saved.source.images if images is None else images
    return saved if saved.source.fits(weights, rows, images) else None
