"""Checkpoints: saved whole, checked when read, and only the ones worth keeping stay.

Which epoch a rule chooses is in src/runs/selection.py.

A checkpoint is a dict of plain tensors and numbers that `torch.load(weights_only=True)` reads.
"""

import errno
import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from src.io import UserError, atomic_path
from src.json_shapes import TOO_LARGE
from src.runs.folder import Run
from src.training.tensor_files import read_tensors

COUNTERS = ("epoch", "batch", "step")  # finished ones, as the training loop counts them


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint whole; on a full disk the old one stays and a UserError says so.

    Equal states make equal files: given a path, torch.save would put its name into the file.
    """
    packed = io.BytesIO()
    torch.save(state, packed)
    with atomic_path(path) as temporary:
        temporary.write_bytes(packed.getbuffer())


def link_checkpoint(source: Path, name: Path) -> None:
    """Give a checkpoint a second name without a second copy where the file system can."""
    with atomic_path(name) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:
            temporary.write_bytes(source.read_bytes())


class Damaged(UserError):
    """The file is there and can be read, but what is in it is no checkpoint (any more)."""


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        Damaged: truncated, or a byte of it changed (each part's CRC32 is checked, which torch.load
            itself does not do).
        UserError: missing, or the disk or the memory failed: the file may be sound.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: no such checkpoint; if the run trains, a better one took its place: try again"
        )
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no file of torch.save, or cut short")
        state = read_tensors(path)
        if not isinstance(state, dict) or "model" not in state:
            raise ValueError("it holds no model")
        # An epoch's own checkpoint is known by its number; the last one only by its step.
        if path.name == "ckpt.last.pt" and "step" not in state:
            raise ValueError("it holds no step")
        for name in COUNTERS:
            value = state.get(name, 0)
            if type(value) is not int or not 0 <= value < TOO_LARGE:
                raise ValueError(f"its {name} is no number of at least 0")
        return state
    except Exception as error:  # zip, pickle and torch raise many kinds for a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        # A place before the start of the file is what a damaged table of parts asks for.
        seek = isinstance(error, OSError) and error.errno == errno.EINVAL
        if isinstance(error, (OSError, MemoryError)) and not seek:
            raise UserError(
                f"{path} could not be read ({reason}), and may be sound: see to that and start the "
                f"same command again; if it cannot be helped, delete the file"
            ) from error
        raise Damaged(
            f"{path} cannot be read ({reason}): delete it; training goes on from another checkpoint"
        ) from error


def load_newest(
    run: Run, use: Callable[[dict[str, Any]], Any] = lambda state: None
) -> dict[str, Any] | None:
    """The newest sound checkpoint of a run, or None, handed to `use` first. A damaged one is named
    and passed over; one that only cannot be read now is not, as the work since the one before would
    be lost.

    Raises:
        UserError: such a one, or `use` could not: the checkpoint is sound, but of something else.
    """
    for name in ["last", *reversed(run.saved_epochs())]:
        path = run.checkpoint(name)
        if path.exists():
            try:
                state = load_checkpoint(path)
            except Damaged as error:
                print(f"warning: {error}", flush=True)
                continue
            with _named(path):
                use(state)
            return state
    return None


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say which file it was whose state could not be taken over."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise  # the file may be sound
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[-1].strip()[:200]
        reason = f"it lacks {reason}" if isinstance(error, KeyError) else reason
        raise UserError(
            f"{path} does not hold this run's state ({reason}): put the run's own file back, or "
            f"delete this one; training then goes on from another checkpoint"
        ) from error


def prune(run: Run, selected: dict[str, int], last: int) -> None:
    """Delete numbered checkpoints that no rule has chosen; the last one stays."""
    for epoch in run.saved_epochs():
        if epoch != last and epoch not in selected.values():
            run.checkpoint(epoch).unlink()


def model_hash(state: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names, shapes and bytes of a model's tensors: what its logits depend on."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
