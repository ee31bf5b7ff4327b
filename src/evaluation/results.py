"""The evaluation of one checkpoint: figures of each grouping, and the JSON that holds them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from src.data.groupings import Grouping
from src.data.table import Table
from src.evaluation.logits import Logits, log_losses, predictions
from src.evaluation.metrics import count_groups, summarise
from src.io import UserError, read_json
from src.runs.folder import Run, is_epoch


def evaluate(logits: Logits, groupings: Sequence[Grouping], rows: Table) -> dict[str, Any]:
    """Return the figures of any groupings of the run's tasks: grouping name to `summarise`.

    Examples of unknown label do not count, those of unknown group only in the average.
    """
    results = {}
    for grouping in groupings:
        values, labels = logits.of_task(grouping.task), grouping.labels(rows)
        right = predictions(values) == labels  # (N,)
        members, groups = grouping.members(rows)
        correct, total = count_groups(right[members], groups, grouping.num_groups)
        known = labels >= 0
        count = int(known.sum())
        loss = float(log_losses(values[known], labels[known]).mean()) if count else None
        figures = summarise(grouping, correct, total, loss)
        if count:
            figures["avg_acc"] = int(right[known].sum()) / count
        results[grouping.name] = figures
    return results


def evaluation_json(
    run: Path, logits: Logits, name: str, figures: dict[str, Any]
) -> dict[str, Any]:
    """Return an evaluation as it is written: where the figures come from, and the figures."""
    source = logits.source
    epoch = int(source.epoch) if is_epoch(source.epoch) else source.epoch
    return {
        "run": str(run),
        "checkpoint": {"name": name, "epoch": epoch, "hash": source.checkpoint},
        "split": source.split,
        "data": {"rows": source.rows, "images": source.images},
        "made_with": {"precision": source.precision, "device": source.device},
        **figures,
    }


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class _Limits(_Open):
    acc: float | None
    low: float | None
    high: float | None


class _Group(_Limits):
    id: int
    name: str
    correct: int
    total: int


class _Worst(_Limits):
    id: int


class Figures(_Open):
    """The figures of one grouping."""

    avg_acc: float | None
    loss: float | None
    groups: list[_Group]
    worst_group: _Worst | None


class _Checkpoint(_Open):
    name: str
    epoch: int | str
    hash: str


class Evaluation(_Open):
    """An evaluation JSON; the figures stand beside these keys, by the name of the grouping."""

    checkpoint: _Checkpoint
    split: str


def read_evaluation(path: Path) -> dict[str, Any]:
    """Read and check an evaluation JSON.

    Raises:
        UserError: the file is missing, damaged, or not an evaluation.
    """
    result = read_json(path, Evaluation).model_dump()
    for name, figures in task_figures(result).items():
        try:
            Figures.model_validate(figures)
        except ValueError as error:
            reason = str(error).splitlines()[1]
            raise UserError(f"{path}: {name} is damaged ({reason}); delete the file") from error
    return result


def task_figures(evaluation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the part of an evaluation JSON that holds figures, by the name of the grouping."""
    return {
        name: figures
        for name, figures in evaluation.items()
        if isinstance(figures, dict) and "groups" in figures
    }


def load_if_same(
    load: Callable[[Path], Any],
    path: Path,
    run: Run,
    epoch: int | str,
    rows: str,
    images: str | None = None,
) -> Any:
    """Load logits or features of an epoch if they come from its weights and from these data.

    Args:
        load: `load_logits` or `load_features`.
        rows: identity of the split's rows.
        images: identity of its images; None does not check it.

    Returns:
        None if the file is missing, damaged (with a warning) or of other weights or data.
    """
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
