"""Use a finished run from Python: pictures or splits in, tables out."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.Image import DecompressionBombError

from src.data.pixels import BadImage, Pixels, open_image, to_rgb
from src.data.table import SPLITS
from src.evaluation.evaluator import RunEvaluator
from src.evaluation.results import task_figures
from src.io import UserError, expand, first_line
from src.runs.selection import find_best_ckpt

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor
    from torch.nn import Module

    from src.objective.logits import LogitLayout

Picture: TypeAlias = "str | Path | Image.Image"
Images: TypeAlias = "Picture | Sequence[Picture] | Tensor"
BATCH = 64  # pictures at once


class TrainedRun:
    """The network of a finished run, for pictures and for the splits of its data set.

    `images` below is one picture (a path or a PIL image), a list of pictures, a batch of tensors
    (B, 3, H, W) made by `transform`, or the name of a split. What is computed for a split is saved
    in the run folder.

    Attributes:
        path: the run folder.
        checkpoint: the name that was asked for, such as best-group.
        epoch: the epoch of this checkpoint.
        tasks: names of the T tasks.
        evaluator: logits, features and figures of splits; see src/evaluation/evaluator.py.
    """

    def __init__(self, evaluator: RunEvaluator, checkpoint: str, pixels: Pixels | None):
        self.evaluator, self.checkpoint, self._pixels = evaluator, checkpoint, pixels
        self.path, self.tasks = evaluator.run.path, evaluator.tasks
        self.epoch = find_best_ckpt(evaluator.run, checkpoint)

    def __repr__(self) -> str:
        return f"TrainedRun({self.path}, epoch {self.epoch}, tasks {', '.join(self.tasks)})"

    @cached_property
    def model(self) -> "Module":
        """The network in eval mode: images (B, 3, H, W) to logits (B, C); see `transform`."""
        from src.training.devices import choose_device

        network, _ = self.evaluator.network(self.epoch)
        return network.to(choose_device(self.evaluator.device)).eval()

    @cached_property
    def layout(self) -> "LogitLayout":
        """Which columns of the logits belong to which task."""
        from src.objective.logits import LogitLayout

        return LogitLayout(self.evaluator.num_classes)

    @property
    def pixels(self) -> Pixels:
        """What the network sees of a picture.

        Raises:
            UserError: it was trained on features, not on pictures.
        """
        if self._pixels is None:
            raise UserError(
                f"{self.path} was trained on exp.dataset.features, so it cannot predict pictures: "
                f"use test.py, or in Python give a split or features (B, D)"
            )
        return self._pixels

    def transform(self, picture: Picture) -> "Tensor":
        """Return a picture as the network sees it, (3, H, W) float32.

        Pictures of the data set's frame are cropped as in training. Of others it is the largest
        central square, so a face should fill about two thirds of it.
        """
        import torch

        from src.data.transforms import normalise

        pixels = torch.from_numpy(self.crop(picture).copy())
        return normalise(pixels[None])[0]

    def crop(self, picture: Picture) -> np.ndarray:
        """Return the pixels (H, W, 3) uint8 of which `transform` makes a tensor.

        Raises:
            UserError: a file is missing, or is no image.
        """
        pixels = self.pixels
        try:
            if isinstance(picture, Image.Image):
                image = to_rgb(picture)
            else:
                image = to_rgb(open_image(expand(picture).read_bytes()))
            if pixels.frame not in (None, (image.height, image.width)):
                pixels = replace(pixels, crop="square", resize=None)
            return pixels.prepare(image)
        except FileNotFoundError as error:
            raise UserError(f"{picture}: no such file") from error
        except UnidentifiedImageError as error:
            raise UserError(f"{picture}: not an image of a known format") from error
        except (OSError, ValueError, SyntaxError, BadImage, DecompressionBombError) as error:
            reason = first_line(error)
            raise UserError(f"{picture}: cannot be read ({reason})") from error

    def predict(self, images: Images) -> "pd.DataFrame":
        """Return probabilities, one row per picture.

        A binary task has one column, the probability of class 1. A task of K > 2 classes has a
        column per class, `Task=class`.
        """
        import pandas as pd
        import torch

        if self._is_split(images):
            names = self.evaluator.rows(images).names.tolist()
            logits = torch.from_numpy(self.evaluator.logits(self.checkpoint, images).values)
        else:
            names, batches = self._read(images)
            logits = self._run(batches, self.model)  # (N, C)
        columns = {}
        for grouping, table in zip(self.evaluator.groupings, self.layout.probabilities(logits)):
            if grouping.num_classes == 2:
                columns[grouping.task] = table[:, 1].numpy()
                continue
            for name, values in zip(grouping.classes[0], table.unbind(1)):
                columns[f"{grouping.task}={name}"] = values.numpy()
        return pd.DataFrame(columns, index=pd.Index(names, name="image"))

    def features(self, images: Images) -> np.ndarray:
        """Return what the head sees, (N, D) float32."""
        if self._is_split(images):
            saved = self.evaluator.features(self.checkpoint, images)
            return saved.values.astype(np.float32)
        return self._run(self._read(images)[1], self.model.features).numpy()

    def _is_split(self, images: Images) -> TypeGuard[str]:
        """Return whether a text names a split of the data set; a path has a slash or a dot."""
        if not isinstance(images, str) or "/" in images or "." in images:
            return False
        return images in SPLITS or images in self.evaluator.dataset.table.splits

    def evaluate(
        self, split: str = "test", groupings: Sequence[str] | None = None
    ) -> "pd.DataFrame":
        """Evaluate a split as test.py does; return a row per group, and one for all.

        Args:
            groupings: of the run's tasks, such as `["Blond_Hair:Young"]`; default those of the
                training.

        Returns:
            Columns grouping, group, correct, total, accuracy, low and high (95 % interval),
            is_worst; accuracies are fractions.
        """
        import pandas as pd

        result, rows = self.evaluator.evaluate(self.checkpoint, split, groupings), []
        for name, figures in task_figures(result).items():
            worst, groups = figures["worst_group"], figures["groups"]
            correct, total = (sum(group[key] for group in groups) for key in ("correct", "total"))
            average = {"name": "average", "correct": correct, "total": total}
            for group in [*groups, average | {"acc": figures["avg_acc"]}]:
                is_worst = worst is not None and worst["id"] == group.get("id")
                rows.append(group | {"grouping": name, "is_worst": is_worst})
        table = pd.DataFrame(rows).rename(columns={"name": "group", "acc": "accuracy"})
        columns = ["grouping", "group", "correct", "total", "accuracy", "low", "high", "is_worst"]
        return table[columns]

    @property
    def metrics(self) -> "pd.DataFrame":
        """What training logged, a row per line of metrics.jsonl; keys that a line lacks are NaN."""
        import pandas as pd

        from src.training.metrics_log import read_metrics

        return pd.DataFrame(read_metrics(self.evaluator.run))

    def _run(self, batches: Iterable["Tensor"], network: Any) -> "Tensor":
        """Return a network's output for batches, (N, ...) float32 on the CPU."""
        import torch

        from src.training.devices import autocast, choose_precision

        device = next(self.model.parameters()).device
        precision = choose_precision(self.evaluator.precision, device)
        with torch.inference_mode(), autocast(device, precision):
            return torch.cat([network(batch.to(device)).float().cpu() for batch in batches])

    def _read(self, images: Images) -> tuple[list[Any], Iterable["Tensor"]]:
        """Return the names of pictures (paths, or else positions), and batches of tensors."""
        import torch

        if isinstance(images, torch.Tensor):
            batch = images[None] if images.ndim in (1, 3) else images
            return list(range(len(batch))), batch.split(BATCH)
        is_one = isinstance(images, (str, Path, Image.Image))
        pictures: list[Picture] = [images] if is_one else list(images)  # type: ignore
        if not pictures:
            raise UserError("there are no pictures: give at least one")
        names = [at if isinstance(p, Image.Image) else str(p) for at, p in enumerate(pictures)]
        parts = (pictures[start : start + BATCH] for start in range(0, len(pictures), BATCH))
        return names, (torch.stack([self.transform(p) for p in part]) for part in parts)
