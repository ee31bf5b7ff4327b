"""Run a network over a split: logits, and features if wanted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from src.config.schema import ModelConfig
from src.evaluation.logits import num_columns
from src.io import UserError


@dataclass(frozen=True)
class Pass:
    """What one pass over a split gives, rows in split order."""

    logits: np.ndarray  # (N, C) float32
    features: np.ndarray | None = None  # (N, D) float16


def predict(
    model: Any,
    images: Any,
    num_examples: int,
    num_logits: int,
    device: Any,
    precision: str,
    batch_size: int,
    progress: str | None = None,
    stop: Callable[[], Any] = lambda: None,
    with_features: bool = False,
    share: Callable[[int], slice] = lambda count: slice(0, count),
) -> Pass | None:
    """Run a network over a split in eval mode.

    Args:
        images: image source of the split; see src/data.
        precision: bf16, fp16 or fp32; logits are kept in float32.
        progress: label of the progress bar; None shows none.
        stop: asked between batches; if it returns something, the pass ends and returns None.
        with_features: also keep the features, as float16.
        share: which of the N examples to run over; by default all. The result has their rows.

    Raises:
        UserError: an output is not finite; it would count as a prediction of class 0.
    """
    import torch
    from tqdm import tqdm

    from src.data.batches import iterate_batches
    from src.training.devices import autocast

    examples = np.arange(num_examples)[share(num_examples)]
    batches = np.array_split(examples, max(1, -(-len(examples) // batch_size)))
    logits = torch.empty(len(examples), num_logits, device=device)  # (N, C)
    done = 0
    kept: list[np.ndarray] = []
    was_training = model.training
    model.eval()
    hidden = True if progress is None else None  # None: hidden without a terminal
    bar = tqdm(total=len(examples), desc=progress, unit="img", leave=False, disable=hidden)
    with torch.inference_mode(), bar:
        for batch, positions in iterate_batches(images, batches, device):
            with autocast(device, precision):
                if with_features:
                    features = model.features(batch)  # (B, D)
                    output = model.head(features)  # (B, C)
                    kept.append(features.half().cpu().numpy())
                else:
                    output = model(batch)
            logits[done : done + len(positions)] = output.float()
            done += len(positions)
            bar.update(len(positions))
            if stop():
                return None
    model.train(was_training)
    if len(examples) == num_examples:  # else whoever gathers the shares checks all of them
        check_finite(logits, precision)
    return Pass(logits.cpu().numpy(), np.concatenate(kept) if with_features else None)


def load_network(model: ModelConfig, num_classes: Sequence[int], weights: dict[str, Any]) -> Any:
    """Return the network of a run with its weights, on the CPU; see `RunEvaluator.network`."""
    import torch

    from src.models.build import build_model
    from src.models.prototypes import PrototypeEnsemble

    head = "linear" if model.head == "prototypes" else model.head
    shape = num_columns(num_classes), False, None, 0, head
    network = build_model(model.name, *shape, inputs=model.inputs)
    # LfF also saves its biased network.
    own = {key: value for key, value in weights.items() if key.startswith(("backbone.", "head."))}
    if model.head == "prototypes":
        members, _, size = own["head.prototypes"].shape[1:]
        network.head = PrototypeEnsemble(list(num_classes), members, size)
    network.load_state_dict(own)
    return network.to(memory_format=torch.channels_last)


def check_finite(logits: Any, precision: str) -> None:
    """Raise a UserError if an output (N, C) is not finite."""
    bad = int((~logits.isfinite().all(dim=1)).sum())
    if bad:
        other = (
            "" if precision == "fp32" else f", or try exp.train.precision=fp32 (now {precision})"
        )
        raise UserError(
            f"the network's output is not finite for {bad:,} of {len(logits):,} examples: lower "
            f"exp.optimizer.lr{other}"
        )


def image_identity(images: Any) -> str:
    """Return what identifies the pixels of an image source: `crc:...` or `files:...`."""
    return " ".join(f"{kind}:{value}" for kind, value in images.fingerprint.items())
