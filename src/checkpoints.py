"""Checkpoints: saved whole, checked when read, and only the ones worth keeping stay.

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
from src.evaluation import evaluations, read_report
from src.files import atomic_path, write_json
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
    numbered = sorted(saved_epochs(run), reverse=True)
    for name in ["last", *numbered]:
        path = run.checkpoint(name)
        if path.exists():
            try:
                return load_checkpoint(path)
            except Damaged as error:
                print(f"warning: {error}", flush=True)
    return None


def saved_epochs(run: Run) -> list[int]:
    """Epochs whose checkpoints are kept."""
    names = (path.name.split(".")[1] for path in run.ckpts.glob("ckpt.*.pt"))
    return sorted(int(name) for name in names if name.isdigit())


def model_hash(state: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names, shapes and bytes of a model's tensors: what its logits depend on."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


# ---------------------------------------------------------------------------- which one is best


def scores(stats: dict[str, Any], by_group: bool) -> dict[str, float]:
    """What each selection rule maximises, from one epoch's validation figures.

    Args:
        stats: grouping name to its evaluation (see `metrics.summarise`), one grouping per task.
        by_group: whether groups exist; without, the rules that need them are absent.

    best-avg: mean over tasks of average accuracy; best-group: mean over tasks of worst-group
    accuracy; for several tasks also best-worst (the minimum) and one rule per task.
    """
    average = {name.partition(":")[0]: figures["avg_acc"] for name, figures in stats.items()}
    rules = {"best-avg": sum(average.values()) / len(average)}
    several = len(stats) > 1
    if several:
        rules |= {f"best-avg-{task}": value for task, value in average.items()}
    if by_group:
        worst = {
            name.partition(":")[0]: figures["worst_group"]["acc"] for name, figures in stats.items()
        }
        rules["best-group"] = sum(worst.values()) / len(worst)
        if several:
            rules["best-worst"] = min(worst.values())
            rules |= {f"best-group-{task}": value for task, value in worst.items()}
    return rules


def record_validation(run: Run, epoch: int, rules: dict[str, float]) -> dict[str, Any]:
    """Add an epoch to val_stats.json and choose anew; of equal epochs the first stays chosen.

    Epochs after `epoch` are dropped: they belong to a past that is being repeated. Earlier ones
    that it does not tell of (it was deleted) come from their own files.
    """
    known = run.history()["epochs"] if run.val_stats.exists() else {}
    epochs = {e: values for e, values in known.items() if e < epoch}
    for e in range(1, epoch):
        if e not in epochs and run.epoch_stats(e).exists():
            stats = evaluations(read_report(run.epoch_stats(e)))
            epochs[e] = scores(stats, by_group="best-group" in rules)
    epochs = dict(sorted(epochs.items())) | {epoch: rules}
    selected = {rule: max(epochs, key=lambda e: (epochs[e][rule], -e)) for rule in rules}
    history = {"epochs": epochs, "selected": selected}
    write_json(run.val_stats, history)
    return history


def prune(run: Run, selected: dict[str, int], last: int) -> None:
    """Delete numbered checkpoints that no rule has chosen; the last one stays."""
    for epoch in saved_epochs(run):
        if epoch != last and epoch not in selected.values():
            run.checkpoint(epoch).unlink()


def find_best_ckpt(run: Run, rule: str) -> int | str:
    """The epoch that a name stands for: a number, `last`, or a rule such as best-group.

    Raises:
        UserError: no such checkpoint or rule; the message lists what there is.
    """
    rule = "best-avg" if rule == "best" else str(rule)
    if rule == "last":
        done = run.status()["state"] == "done" and saved_epochs(run)
        return max(saved_epochs(run)) if done else "last"
    if rule.isdigit():
        if int(rule) not in saved_epochs(run):
            kept = ", ".join(map(str, saved_epochs(run))) or "none"
            raise UserError(
                f"{run.path}: the checkpoint of epoch {rule} is not kept (there are: {kept}); "
                f"train with exp.train.keep_ckpts=all to keep every epoch"
            )
        return int(rule)
    if not run.val_stats.exists():
        raise UserError(f"{run.path} has no validated epoch yet, so nothing is {rule}")
    selected = run.history()["selected"]
    if rule not in selected:
        allowed = ", ".join(["a number", "last", "best", *selected])
        raise UserError(f"checkpoint '{rule}' of {run.path}: use {allowed}")
    return selected[rule]
