"""Checkpoints: written whole, checked when read, and only the useful ones kept.

A checkpoint is a dict of plain tensors and numbers that `torch.load(weights_only=True)` reads.
src/runs/selection.py says which epoch a rule selects.
"""

import errno
import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.io import UserError, atomic_path, first_line
from src.models.weights import read_tensors
from src.runs.folder import Run


class Damaged(UserError):
    """A file that can be read but does not hold a checkpoint (any more)."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint whole; on a full disk, keep the old one and raise a UserError.

    Equal states make equal files: given a path, torch.save would write its name into the file.
    """
    packed = io.BytesIO()
    torch.save(state, packed)
    with atomic_path(path) as temporary:
        temporary.write_bytes(packed.getbuffer())


def link_checkpoint(source: Path, name: Path) -> None:
    """Give a checkpoint a second name, without a copy if the file system has hard links."""
    with atomic_path(name) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:
            temporary.write_bytes(source.read_bytes())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; see `upgrade` for those of the first edition.

    Raises:
        Damaged: the file is truncated, or a byte of it changed.
        UserError: the file is missing, or the disk or the memory failed and it may be sound.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: no such checkpoint; a running training may just have replaced it: try again"
        )
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("not a file of torch.save, or truncated")
        state = read_tensors(path)
        if not isinstance(state, dict) or "model" not in state:
            raise ValueError("it holds no model")
    except Exception as error:  # zip, pickle and torch raise many kinds for a damaged file
        reason = first_line(error)
        # A damaged table of parts can ask for a place before the start of the file.
        seek = isinstance(error, OSError) and error.errno == errno.EINVAL
        if isinstance(error, (OSError, MemoryError)) and not seek:
            raise UserError(
                f"{path} could not be read ({reason}) and may be sound: check the disk and start "
                f"the same command again; if that does not help, delete the file"
            ) from error
        raise Damaged(
            f"{path} cannot be read ({reason}): delete it; training continues from another one"
        ) from error
    return upgrade(state)


def upgrade(state: dict[str, Any]) -> dict[str, Any]:
    """Rename a first-edition checkpoint's weights: today they are `backbone` and `head`."""
    weights = state["model"]
    if any(name.startswith("backbone.") for name in weights):
        return state
    # The head was the last linear layer: `fc`, `classifier.6`, `heads.head`, ...
    matrices = [name for name, value in weights.items() if value.ndim == 2 and ".weight" in name]
    head = matrices[-1].removesuffix(".weight") if matrices else "fc"
    renamed = {
        name.replace(head, "head", 1) if name.startswith(f"{head}.") else f"backbone.{name}": value
        for name, value in weights.items()
    }
    return state | {"model": renamed, "hash": model_hash(weights)}


def load_newest(
    run: Run, use: Callable[[dict[str, Any]], Any] = lambda state: None
) -> dict[str, Any] | None:
    """Hand the newest sound checkpoint of a run to `use`, and return it; None if there is none.

    A damaged checkpoint is reported and passed over. An I/O error stops the run; it does not fall
    back to an older checkpoint, as that would lose work.

    Raises:
        UserError: an I/O error, or a sound checkpoint of something else that `use` cannot take.
    """
    for name in ["last", *reversed(run.saved_epochs())]:
        path = run.checkpoint(name)
        if not path.exists():
            continue
        try:
            state = load_checkpoint(path)
        except Damaged as error:
            print(f"warning: {error}", flush=True)
            continue
        try:
            use(state)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[-1].strip()[:200]
            raise UserError(
                f"{path} does not hold this run's state ({reason}): put the run's own file back, "
                f"or delete this one; training then continues from another checkpoint"
            ) from error
        return state
    return None


def prune(run: Run, keep: Iterable[int]) -> None:
    """Delete all numbered checkpoints but those of the epochs in `keep`."""
    keep = set(keep)
    for epoch in run.saved_epochs():
        if epoch not in keep:
            run.checkpoint(epoch).unlink()


def model_hash(state: dict[str, Tensor]) -> str:
    """Return the SHA-256 of names, shapes and bytes of a model's tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
