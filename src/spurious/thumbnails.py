"""A few example faces that between them show every group of every pair."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from src.data.layout import ImageFiles
from src.data.pixels import open_image
from src.io import UserError
from src.spurious.results import Labels, TaskResult

SIDE = 72  # pixels
# Among more images than these the choice gets slow and hardly better.
_CANDIDATES = 4000


def choose_thumbnails(
    results: Sequence[TaskResult], labels: Labels, per_group: int, root: Path | None = None
) -> list[dict[str, Any]]:
    """Example faces of the evaluated split, as the explorer page takes them.

    Args:
        per_group: faces wanted of every combination of two attributes' values, where there are as
            many.
        root: the data set's folder; None is where it was when the matrix was made.

    Returns:
        One dict per face: `src`, a data: URL; `attributes` (40 characters 0/1); `right`, a 0 or 1
        per task.

    Raises:
        UserError: the images are not there, or one cannot be read.
    """
    images = ImageFiles(root or labels.root)
    rng = np.random.default_rng(0)
    drawn = rng.permutation(len(labels.names))[:_CANDIDATES]
    rare = np.flatnonzero(_rarity(labels.attributes) < 2 * per_group)
    candidates = np.unique(np.concatenate([drawn, rare]))
    chosen = candidates[cover(labels.attributes[candidates], per_group)]
    return [
        {
            "src": _data_url(images, str(labels.names[row])),
            "attributes": "".join(map(str, labels.attributes[row])),
            "right": "".join("01"[int(result.right[row])] for result in results),
        }
        for row in chosen
    ]


def _rarity(attributes: np.ndarray) -> np.ndarray:
    """How many examples share the rarest combination of two values that an example has (N,)."""
    values = _one_hot(attributes)  # (N, 2A)
    counts = values.T @ values  # (2A, 2A) examples of each combination
    return np.array([counts[np.ix_(row > 0, row > 0)].min() for row in values])


def _one_hot(attributes: np.ndarray) -> np.ndarray:
    return np.concatenate([1 - attributes, attributes], axis=1).astype(np.float32)


def cover(attributes: np.ndarray, per_group: int) -> np.ndarray:
    """Few examples that show each combination of two attributes' values `per_group` times.

    Greedy: each next example is the one with the most combinations that still lack examples.

    Args:
        attributes: (N, A) 0/1.

    Returns:
        positions in the order of their choice; a combination with fewer examples gets all of them.
    """
    values = _one_hot(attributes)  # (N, 2A)
    available = values.T @ values
    lacking = np.minimum(available, per_group)  # (2A, 2A)
    left = np.ones(len(values), bool)
    chosen = []
    while lacking.any() and left.any():
        gain = np.einsum("na,na->n", values @ (lacking > 0).astype(np.float32), values)  # (N,)
        best = int(np.argmax(np.where(left, gain, -1)))
        left[best] = False
        chosen.append(best)
        shown = np.outer(values[best], values[best])
        lacking = np.maximum(lacking - shown, 0)
    return np.array(chosen, np.int64)


def _data_url(images: ImageFiles, name: str) -> str:
    try:
        with open_image(images.read(name)) as image:
            width, height = image.size
            side = min(width, height)
            left, top = (width - side) // 2, (height - side) // 2
            square = image.convert("RGB").crop((left, top, left + side, top + side))
    except Exception as error:  # decoders raise whatever they like on rubbish
        raise UserError(f"{images.path(name)} cannot be read as an image ({error})") from error
    packed = io.BytesIO()
    square.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=3).save(
        packed, "JPEG", quality=78
    )
    return "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode()
