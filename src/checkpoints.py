"""Checkpoints: saved whole, checked when read, and only the ones worth keeping stay.

Which epoch a rule chooses is in src/selection.py.

A checkpoint is a dict of plain tensors and numbers that `torch.load(weights_only=True)` reads.
"""

import errno
import hashlib
import io
import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from src.errors import UserError
from src.files import atomic_path
from src.runs import Run
from src.tensor_files import read_tensors


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


def load_newest(run: Run) -> dict[str, Any] | None:
    """The newest sound checkpoint of a run, or None. A damaged one is named and passed over; one
    that only cannot be read now is not, as the work since the one before would be lost."""
    for name in ["last", *reversed(run.saved_epochs())]:
        path = run.checkpoint(name)
        if path.exists():
            try:
                return load_checkpoint(path)
            except Damaged as error:
                print(f"warning: {error}", flush=True)
    return None


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
