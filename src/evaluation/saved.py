"""Load saved logits or features, if they are those of a checkpoint and of a data set."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from src.evaluation.results import read_evaluation
from src.io import UserError
from src.runs.folder import Run


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
        None if there are none. A damaged file counts as none, with a warning.
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
