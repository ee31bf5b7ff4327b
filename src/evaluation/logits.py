"""Logits and features of a split, saved with where they come from."""

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from src.io import DAMAGE, UserError, atomic_path, load_arrays

UNKNOWN = ""  # what files of the first edition do not say


@dataclass(frozen=True)
class Source:
    """Where the logits or features of a split come from.

    Attributes:
        split: train, val, test or another split of the table.
        epoch: of the checkpoint.
        checkpoint: `model_hash` of its weights.
        rows: `rows_identity` of the split: file names and labels.
        images: fingerprint of the pixels; see src/data.
        precision: of the forward pass: fp32, bf16 or fp16.
        device: cpu or cuda.
    """

    split: str
    epoch: str
    checkpoint: str
    rows: str
    images: str = UNKNOWN
    precision: str = UNKNOWN
    device: str = UNKNOWN

    def fits(self, checkpoint: str, rows: str, images: str) -> bool:
        """Return whether these weights on this data would give the same (to rounding)."""
        same_images = self.images in (images, UNKNOWN)
        return (self.checkpoint, self.rows) == (checkpoint, rows) and same_images


@dataclass(frozen=True)
class Logits:
    """Logits of a split.

    Attributes:
        values: (N, C) float32, rows in the order of the split.
        tasks: names of the T tasks.
        num_classes: K of each task; a binary task has one column, others K.
        source: where they come from.
    """

    values: np.ndarray
    tasks: tuple[str, ...]
    num_classes: tuple[int, ...]
    source: Source

    def select(self, rows: np.ndarray) -> "Logits":
        """Return the logits of a boolean mask (N,) or of an index array."""
        return replace(self, values=self.values[rows])

    def of_task(self, task: str) -> np.ndarray:
        """Return the logits of a task, (N,) if it is binary, else (N, K)."""
        if task not in self.tasks:
            raise UserError(f"task '{task}' is not one of this run's: use {', '.join(self.tasks)}")
        place = self.tasks.index(task)
        start, end = (num_columns(self.num_classes[:to]) for to in (place, place + 1))
        own = self.values[:, start:end]
        return own[:, 0] if end - start == 1 else own


def num_columns(num_classes: Sequence[int]) -> int:
    """Return how many logits tasks have: a binary task has one, others one per class."""
    return sum(1 if classes == 2 else classes for classes in num_classes)


def rows_identity(names: np.ndarray, codes: np.ndarray) -> str:
    """Return the SHA-256 of a split's file names (N,) and class codes (N, C)."""
    digest = hashlib.sha256()
    digest.update("\n".join(map(str, names.tolist())).encode())
    kind = np.uint8 if codes.max(initial=0) < 255 else np.uint16  # -1 is the largest number
    digest.update(np.ascontiguousarray(codes).astype(kind).data)
    return digest.hexdigest()


def save_logits(path: Path, logits: Logits) -> None:
    """Write logits as plain arrays; each has a CRC32."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            values=logits.values.astype(np.float32),
            tasks=np.array(logits.tasks),
            num_classes=np.array(logits.num_classes),
            about=_about(logits.source),
        )


def load_logits(path: Path) -> Logits:
    """Read logits, also those of the first edition.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        arrays = load_arrays(path)
        values, tasks = arrays["values"], tuple(str(task) for task in arrays["tasks"])
        num_classes = tuple(arrays.get("num_classes", np.full(len(tasks), 2)).tolist())
        if values.dtype != np.float32 or values.shape[1:] != (num_columns(num_classes),):
            raise ValueError("its values do not fit its tasks")
        if not np.isfinite(values).all():  # NaN would count as a prediction of class 0
            raise ValueError("not all values are finite")
        return Logits(values, tasks, num_classes, Source(*map(str, arrays["about"])))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (*DAMAGE, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}): delete it and it is made again") from error


@dataclass(frozen=True)
class Features:
    """Features of a split, what the head sees: values (N, D) float16, rows in split order."""

    values: np.ndarray
    source: Source


def save_features(path: Path, features: Features) -> None:
    """Write features as one array that can be read without loading all of it."""
    from safetensors.numpy import save_file

    values = np.ascontiguousarray(features.values, np.float16)
    about = dict(zip(_FIELDS, _about(features.source).tolist()))
    about["crc"] = str(zlib.crc32(values.data))
    with atomic_path(path) as temporary:
        save_file({"features": values}, temporary, about)


def load_features(path: Path) -> Features:
    """Read features.

    Raises:
        UserError: the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            about, values = file.metadata(), file.get_tensor("features")
        if zlib.crc32(np.ascontiguousarray(values).data) != int(about["crc"]):
            raise ValueError("its checksum is wrong")
        return Features(values, Source(*(about[name] for name in _FIELDS)))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (*DAMAGE, SafetensorError) as error:
        raise UserError(f"{path} is damaged ({error}): delete it and it is made again") from error


_FIELDS = tuple(Source.__dataclass_fields__)


def _about(source: Source) -> np.ndarray:
    return np.array([getattr(source, name) for name in _FIELDS])


def predictions(logits: np.ndarray) -> np.ndarray:
    """Return the predicted classes (N,) of a task's logits, (N,) if it is binary, else (N, K)."""
    return (logits > 0).astype(np.int64) if logits.ndim == 1 else logits.argmax(axis=1)


def log_losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the cross-entropy (N,) float64 of a task's logits, see `predictions`."""
    logits = logits.astype(np.float64)
    if logits.ndim == 1:
        return np.logaddexp(0, logits) - logits * labels
    true = np.take_along_axis(logits, labels[:, None], 1)[:, 0]
    return np.logaddexp.reduce(logits, axis=1) - true
