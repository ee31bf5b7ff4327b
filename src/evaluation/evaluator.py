"""Evaluate the checkpoints of a run: saved logits if they fit, else one pass of the network."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from src.data.dataset import Dataset
from src.data.groupings import Grouping, parse_groupings
from src.data.table import Table
from src.evaluation.adjustment import adjust, with_known_groups
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
from src.evaluation.predict import Pass, image_identity, predict
from src.evaluation.results import evaluate, evaluation_json
from src.evaluation.saved import load_if_same
from src.io import UserError, read_json, write_json
from src.runs.folder import Run
from src.runs.head_info import HeadInfo, head_file
from src.runs.provenance import is_other_data, record_split
from src.runs.selection import find_best_ckpt


class RunEvaluator:
    """Evaluates the checkpoints of one run; `open_evaluator` in src/api.py makes it.

    Args:
        groupings: those that the run was trained with.
        open_data: opens the data set.
        load_model: (state dict) -> the network on the CPU.
        device, precision: of the pass, as in exp.train.
        known, seed: the share of train whose groups the run knew, and what selected it.
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
        known: float = 1.0,
        seed: int = 0,
        moved: bool = False,
    ):
        self.run, self.groupings = run, list(groupings)
        self.tasks = tuple(grouping.task for grouping in self.groupings)
        self.num_classes = tuple(grouping.num_classes for grouping in self.groupings)
        self._open_data, self._load_model = open_data, load_model
        self.device, self.precision, self.batch_size = device, precision, batch_size
        self.known, self.seed, self.moved = known, seed, moved

    @cached_property
    def dataset(self) -> Dataset:
        return self._open_data()

    def rows(self, split: str) -> Table:
        return self.dataset.split(split)

    def logits(self, checkpoint: str, split: str) -> Logits:
        """Return the logits of a checkpoint (a number, `last`, or a rule) on a split.

        Saved ones are used if they come from the same weights and the same data.
        """
        return self._outputs(checkpoint, split, with_features=False)[0]

    def features(self, checkpoint: str, split: str) -> Features:
        """Return the features of a checkpoint on a split, saved as `logits` are."""
        return self._outputs(checkpoint, split, with_features=True)[1]

    def logits_path(self, checkpoint: str, split: str) -> Path:
        """Return the file that holds what `logits` returns."""
        return self.run.logits(split, f"{find_best_ckpt(self.run, checkpoint)}{self.tag(split)}")

    def _outputs(self, checkpoint: str, split: str, with_features: bool) -> tuple[Logits, Any]:
        epoch, rows = find_best_ckpt(self.run, checkpoint), self.rows(split)
        identity = rows_identity(rows.names, rows.codes), self._image_identity(split)
        tag, about = self.tag(split), (self.run, epoch, *identity)
        logits_path = self.run.logits(split, f"{epoch}{tag}")
        features_path = self.run.features(split, f"{epoch}{tag}")
        logits = load_if_same(load_logits, logits_path, *about)
        features = load_if_same(load_features, features_path, *about) if with_features else None
        if logits is not None and (features is not None or not with_features):
            return logits, features
        base = None if with_features or tag else self._base_features(split, identity)
        if base is not None:
            passed, source = self._head_alone(epoch, base)
        else:
            passed, source = self._pass(epoch, split, with_features)
        if identity[1] is not None and not self.moved:
            record_split(self.run, self.dataset, split)
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

    @cache  # noqa: B019 (lives as long as one call)
    def tag(self, split: str) -> str:
        """Return the end of the names of files about other data than the run's; else no text."""
        if not (self.moved and is_other_data(self.run, self.dataset, split)):
            return ""
        rows = self.rows(split)
        both = f"{rows_identity(rows.names, rows.codes)} {self._image_identity(split)}"
        return f"-{hashlib.sha256(both.encode()).hexdigest()[:8]}"

    def _base_features(self, split: str, identity: tuple[str, str | None]) -> Features | None:
        """Return saved features of the network whose head this run replaced, if it has one."""
        if not head_file(self.run).exists():
            return None
        info = read_json(head_file(self.run), HeadInfo)
        base = Run(info.base)
        path = base.features(split, info.epoch)
        saved = load_if_same(load_features, path, base, info.epoch, *identity)
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

    def _pass(self, epoch: int | str, split: str, with_features: bool) -> tuple[Pass, Source]:
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
            with_features=with_features,
        )
        name = str(epoch) if epoch != "last" else f"last (step {state['step']})"
        # A first-edition checkpoint was hashed under the old names of its weights.
        weights = state.get("hash") or model_hash(state["model"])
        identity = rows_identity(rows.names, rows.codes), image_identity(images)
        return passed, Source(split, name, weights, *identity, precision, device.type)

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
        logits, name = self.logits(checkpoint, split), f"{checkpoint}{self.tag(split)}"
        if adjustment is not None:
            tau, by = adjustment
            train = self.rows("train")
            if by == "group":
                train = with_known_groups(train, self.groupings, self.known, self.seed)
            # The first grouping of each task that is asked for, or the run's own.
            first = {own.task: own for own in [*self.groupings, *reversed(groupings)]}
            one_per_task = [first[task] for task in self.tasks]
            logits = adjust(logits, one_per_task, train, self.rows(split), tau, by)
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
