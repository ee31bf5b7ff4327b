"""Evaluate the checkpoints of a run: saved logits if they fit, else one pass of the network."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from src.config.compose import load_saved_config
from src.config.dataset import dataset_options
from src.data.dataset import Dataset, open_dataset
from src.data.groupings import Grouping, parse_groupings
from src.data.table import Table
from src.evaluation.adjustment import adjust_run
from src.evaluation.logits import (
    Features,
    Logits,
    Source,
    load_features,
    load_logits,
    num_columns,
    rows_identity,
    save_features,
    save_logits,
)
from src.evaluation.predict import Pass, image_identity, load_network, predict
from src.evaluation.results import evaluate, evaluation_json, load_if_same
from src.io import UserError, expand, read_json, write_json
from src.runs.folder import Run
from src.runs.head_info import HeadInfo, head_file
from src.runs.provenance import is_other_data, record_split
from src.runs.selection import find_best_ckpt


class RunEvaluator:
    """Evaluates the checkpoints of one run.

    Args:
        root: folder of the data set, if it has moved; other data get results of their own names.
        device, batch_size: of the pass; None takes the run's own settings.

    Attributes:
        groupings: those that the run was trained with; classes only if it knew no groups.
    """

    def __init__(
        self,
        run: Run,
        root: str | Path | None = None,
        device: str | None = None,
        batch_size: int | None = None,
    ):
        self.run, self.root = run, root
        self.config = config = load_saved_config(run.config)
        self.groupings = parse_groupings(config.dataset.groupings, columns=run.classes())
        if not config.dataset.subgroup_labels:
            self.groupings = [grouping.without_attributes() for grouping in self.groupings]
        self.tasks = tuple(grouping.task for grouping in self.groupings)
        self.num_classes = tuple(grouping.num_classes for grouping in self.groupings)
        self.device, self.precision = device or config.train.device, config.train.precision
        self.batch_size = batch_size or config.dataloader.eval_batch_size

    @cached_property
    def dataset(self) -> Dataset:
        options = dataset_options(self.config.dataset)
        if self.root is not None:
            options["root"] = str(expand(self.root))
        return open_dataset(**options, workers=self.config.dataloader.num_workers)

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

    def _outputs(self, checkpoint: str, split: str, with_features: bool) -> tuple[Logits, Any]:
        epoch, identity = find_best_ckpt(self.run, checkpoint), self._identity(split)
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
        if identity[1] is not None and self.root is None:
            record_split(self.run, self.dataset, split)
        logits = Logits(passed.logits, self.tasks, self.num_classes, source)
        save_logits(logits_path, logits)
        if with_features:
            features = Features(passed.features, source)
            save_features(features_path, features)
        return logits, features

    @cache  # noqa: B019 (lives as long as one call)
    def _identity(self, split: str) -> tuple[str, str | None]:
        """Return the identities of a split's rows and images; None for images not at hand."""
        rows = self.rows(split)
        try:
            images = image_identity(self.dataset.images(split))
        except UserError:
            images = None
        return rows_identity(rows.names, rows.codes), images

    def tag(self, split: str) -> str:
        """Return the end of the names of files about other data than the run's; else no text."""
        if self.root is None or not is_other_data(self.run, self.dataset, split):
            return ""
        identity = hashlib.sha256(" ".join(map(str, self._identity(split))).encode())
        return f"-{identity.hexdigest()[:8]}"

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

        network, state = self.network(epoch)
        with torch.inference_mode():
            inputs = torch.from_numpy(features.values.astype(np.float32))
            logits = network.head.eval()(inputs).numpy()
        return Pass(logits), replace(features.source, epoch=str(epoch), checkpoint=state["hash"])

    def _pass(self, epoch: int | str, split: str, with_features: bool) -> tuple[Pass, Source]:
        from src.training.devices import choose_device, choose_precision

        device = choose_device(self.device)
        precision = choose_precision(self.precision, device)
        network, state = self.network(epoch)
        images, count = self.dataset.images(split), len(self.rows(split))
        passed = predict(
            network.to(device),
            *(images, count, num_columns(self.num_classes)),
            *(device, precision, self.batch_size),
            progress=split,
            with_features=with_features,
        )
        name = str(epoch) if epoch != "last" else f"last (step {state['step']})"
        about = (*self._identity(split), precision, device.type)
        return passed, Source(split, name, state["hash"], *about)

    def network(self, epoch: int | str) -> tuple[Any, dict[str, Any]]:
        """Return the run's network after an epoch, on the CPU, and its checkpoint with `hash`.

        Raises:
            UserError: the checkpoint holds another network.
        """
        from src.training.checkpoints import load_checkpoint, model_hash

        state = load_checkpoint(self.run.checkpoint(epoch))
        # A first-edition checkpoint was hashed under the old names of its weights.
        state["hash"] = state.get("hash") or model_hash(state["model"])
        try:
            return load_network(self.config.model, self.num_classes, state["model"]), state
        except (KeyError, RuntimeError, TypeError, AttributeError) as error:
            reason = str(error).splitlines()[-1].strip()[:200]
            raise UserError(
                f"{self.run.checkpoint(epoch)} does not hold this run's network ({reason})"
            ) from error

    def read_groupings(self, names: Sequence[str] | None) -> list[Grouping]:
        """Return groupings of the data set, by default those of the training.

        Raises:
            UserError: another task, or labels of other classes than the logits.
        """
        names = names or [grouping.name for grouping in self.groupings]
        found = parse_groupings(names, columns=self.dataset.columns)
        trained = {c: names for g in self.groupings for c, names in zip(g.columns, g.classes)}
        for grouping in found:
            if grouping.task not in self.tasks:
                own = f"its tasks are {', '.join(self.tasks)}"
                raise UserError(f"{self.run.path} was not trained for {grouping.name}: {own}")
            for column, now in zip(grouping.columns, grouping.classes):
                if now != trained.get(column, now):
                    raise UserError(
                        f"column '{column}' has the classes {', '.join(now)}, but {self.run.path} "
                        f"was trained with {', '.join(trained[column])}: use that data"
                    )
        return found

    def evaluate(
        self,
        checkpoint: str,
        split: str,
        names: Sequence[str] | None = None,
        adjustment: tuple[float, str] | None = None,
    ) -> dict[str, Any]:
        """Evaluate a checkpoint for any groupings of the run's tasks, and write the JSON.

        Args:
            names: of the groupings; default those of the training.
            adjustment: tau and level (class or group) of a logit adjustment by train's priors.
        """
        groupings = self.read_groupings(names)
        logits, name = self.logits(checkpoint, split), f"{checkpoint}{self.tag(split)}"
        if adjustment is not None:
            tau, by = adjustment
            logits = adjust_run(self, logits, groupings, split, tau, by)
            name += f"-adjusted-by-{by}-{tau:g}"
        figures = evaluate(logits, groupings, self.rows(split))
        result = evaluation_json(self.run.path, logits, checkpoint, figures)
        if adjustment is not None:
            result["logit_adjustment"] = {"tau": tau, "by": by}
        write_json(self.run.stats(split, name), result)
        return result
