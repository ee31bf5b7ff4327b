"""One pass over a split gives logits (N, T); every grouping afterwards is arithmetic on them."""

import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from src.data.groupings import Grouping
from src.data.table import Table
from src.evaluation.metrics import count_groups, log_loss, summarise
from src.io import DAMAGE, UserError, atomic_path, load_arrays, read_json
from src.json_shapes import Number, Or, misfit
from src.runs.folder import is_epoch


@dataclass(frozen=True)
class Logits:
    """What one model says about one split.

    values: (N, T) float32, rows in the order of the split; tasks: the columns' names;
    checkpoint: `checkpoints.model_hash` of the weights; data: `data_identity` of the split.
    """

    values: np.ndarray
    tasks: tuple[str, ...]
    split: str
    epoch: str
    checkpoint: str
    data: str

    def of_task(self, task: str) -> np.ndarray:
        """Logits (N,) of one task."""
        if task not in self.tasks:
            raise UserError(f"task '{task}' is not one of this run's: use {', '.join(self.tasks)}")
        return self.values[:, self.tasks.index(task)]


def predict(
    model: Any,
    images: Any,
    num_examples: int,
    num_tasks: int,
    device: Any,
    precision: str,
    batch_size: int,
    progress: str | None = None,
    stop: Callable[[], Any] = lambda: None,
) -> np.ndarray | None:
    """Logits (N, T) float32 of a split, in eval mode and in the order of its rows.

    Args:
        images: the split's image source (see src/data/batches.py).
        precision: bf16, fp16 or fp32; logits are kept in float32.
        progress: a label for the progress bar; None shows none.
        stop: asked between batches; if it returns something the pass ends and gives None.

    Raises:
        UserError: an output is not finite; it would silently count as a prediction of class 0.
    """
    import torch
    from tqdm import tqdm

    from src.data.batches import iterate_batches
    from src.training.devices import autocast

    batches = np.array_split(np.arange(num_examples), max(1, -(-num_examples // batch_size)))
    logits = torch.empty(num_examples, num_tasks, device=device)  # (N, T)
    was_training = model.training
    model.eval()
    bar = tqdm(total=num_examples, desc=progress, unit="img", leave=False, disable=progress is None)
    with torch.inference_mode(), bar:
        for batch, positions in iterate_batches(images, batches, device):
            with autocast(device, precision):
                output = model(batch)  # (B, T)
            logits[positions[0] : positions[-1] + 1] = output.float()
            bar.update(len(positions))
            if stop():
                return None
    model.train(was_training)
    bad = int((~torch.isfinite(logits).all(dim=1)).sum())
    if bad:
        raise UserError(
            f"the network's output is not finite for {bad:,} of {num_examples:,} examples: lower "
            f"exp.optimizer.lr, or try exp.train.precision=fp32 (now {precision})"
        )
    return logits.cpu().numpy()


def evaluate(logits: Logits, groupings: Sequence[Grouping], rows: Table) -> dict[str, Any]:
    """Evaluations of any groupings of the run's tasks: grouping name to `metrics.summarise`.

    Args:
        rows: the table of the split.
    """
    results = {}
    for grouping in groupings:
        values = logits.of_task(grouping.task)  # (N,)
        labels = grouping.labels(rows)
        correct, total = count_groups(values, labels, grouping.group_ids(rows), grouping.num_groups)
        results[grouping.name] = summarise(grouping, correct, total, log_loss(values, labels))
    return results


def report(run: Path, logits: Logits, name: str, stats: dict[str, Any]) -> dict[str, Any]:
    """An evaluation JSON: where the figures come from, and the figures by grouping."""
    epoch = int(logits.epoch) if is_epoch(logits.epoch) else logits.epoch
    checkpoint = {"name": name, "epoch": epoch, "hash": logits.checkpoint}
    return {"run": str(run), "checkpoint": checkpoint, "split": logits.split, **stats}


def evaluations(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The part of an evaluation JSON that is figures by grouping."""
    return {
        name: figures
        for name, figures in report.items()
        if isinstance(figures, dict) and "groups" in figures
    }


def read_report(path: Path) -> dict[str, Any]:
    """Read an evaluation JSON.

    Raises:
        UserError: missing, damaged, or not an evaluation.
    """
    result = read_json(path, REPORT)
    for name, figures in evaluations(result).items():
        problem = misfit(figures, FIGURES, name)
        if not problem and any(
            not 0 <= group["correct"] <= group["total"] for group in figures["groups"]
        ):
            problem = f"{name}: more correct predictions than examples"
        if problem:
            raise UserError(f"{path} is no evaluation ({problem}); delete it to make it anew")
    return result


_LIMITS = dict.fromkeys(("acc", "low", "high"), Or(Number, None))
REPORT = {"checkpoint": {"name": str, "epoch": Or(int, str), "hash": str}, "split": str}
FIGURES = {
    "avg_acc": Or(Number, None),
    "loss": Or(Number, None),
    "groups": [{"id": int, "name": str, "correct": int, "total": int, **_LIMITS}],
    "worst_group": Or({"id": int, **_LIMITS}, None),
}


def data_identity(names: np.ndarray, attributes: np.ndarray) -> str:
    """SHA-256 of a split's file names and labels: logits of other rows are never mixed in."""
    digest = hashlib.sha256()
    digest.update("\n".join(map(str, names.tolist())).encode())
    digest.update(np.ascontiguousarray(attributes, dtype=np.uint8).data)
    return digest.hexdigest()


def save_logits(path: Path, logits: Logits) -> None:
    """Write logits whole, as plain arrays with a checksum."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            values=logits.values.astype(np.float32),
            tasks=np.array(logits.tasks),
            about=np.array([logits.split, str(logits.epoch), logits.checkpoint, logits.data]),
            crc=np.array(_checksum(logits), dtype=np.uint32),
        )


def load_logits(path: Path) -> Logits:
    """Read logits.

    Raises:
        UserError: missing or damaged.
    """
    try:
        arrays = load_arrays(path)
        split, epoch, checkpoint, data = (str(entry) for entry in arrays["about"])
        tasks = tuple(str(task) for task in arrays["tasks"])
        values = arrays["values"]
        if values.dtype != np.float32 or values.shape[1:] != (len(tasks),):
            raise ValueError("its values are no table of float32 with a column per task")
        logits = Logits(values, tasks, split, epoch, checkpoint, data)
        if int(arrays["crc"]) != _checksum(logits):
            raise ValueError("its checksum is wrong")
        if not np.isfinite(values).all():  # NaN would count as a prediction of class 0
            raise ValueError("not all values are finite")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except DAMAGE as error:
        raise UserError(f"{path} is damaged ({error}): delete it and it is made anew") from error
    return logits


def _checksum(logits: Logits) -> int:
    about = "|".join(
        [*logits.tasks, logits.split, str(logits.epoch), logits.checkpoint, logits.data]
    )
    return zlib.crc32(
        np.ascontiguousarray(logits.values, dtype=np.float32).data, zlib.crc32(about.encode())
    )
