"""Weights of backbones: torchvision's, or those in a file."""

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from src.io import UserError, first_line

# Prefixes that wrappers put before each name: DataParallel, torch.compile, and our own Network.
WRAPPERS = ("module.", "_orig_mod.", "backbone.")


def download_weights(name: str) -> dict[str, Tensor]:
    """Return torchvision's ImageNet weights, from its cache or the network."""
    import torchvision.models as zoo

    versions = zoo.get_model_weights(name)
    # The published numbers of this field start from V1.
    version = versions["IMAGENET1K_V1"] if "IMAGENET1K_V1" in versions.__members__ else None
    version = version or versions["DEFAULT"]
    try:
        return version.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"the ImageNet weights of {name} are not in torch's cache and cannot be downloaded "
            f"({error}): start from random weights with exp.model.pretrained=false, or give a "
            f"local file with exp.model.weights=PATH (.safetensors or .pt in torchvision's names)"
        ) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors or .pt file, or of a checkpoint of this project.

    Raises:
        UserError: no such file, or it cannot be read.
    """
    if not path.is_file():
        raise UserError(f"exp.model.weights={path}: no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = read_tensors(path)
    except Exception as error:  # each library has its own errors for a broken file
        reason = first_line(error)
        raise UserError(f"exp.model.weights={path}: cannot be read ({reason})") from error
    for key in ("model", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"exp.model.weights={path}: holds no table of tensors by name")
    return state


def read_tensors(path: Path) -> Any:
    """Read a file of torch.save onto the CPU; no pickled code runs.

    Raises:
        Exception: zip, pickle and torch raise many kinds for a damaged file; ValueError if the
            CRC32 of a part differs, which torch.load does not check.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as parts:
            damaged, table = parts.testzip(), parts.infolist()
        if damaged is not None:
            raise ValueError(f"its part {damaged} is damaged")
        # torch relies on these fields of the table, which no CRC covers: nothing is compressed, and
        # a part that looks like a folder would be read as uninitialised memory.
        if any(part.compress_size != part.file_size or part.external_attr for part in table):
            raise ValueError("its table of parts is damaged")
    return torch.load(path, map_location="cpu", weights_only=True)


def load_backbone(model: nn.Module, head_name: str, state: dict[str, Tensor], source: str) -> None:
    """Load all weights but the head's; every tensor must match by name and shape."""
    for prefix in WRAPPERS:
        if any(name.startswith(prefix) for name in state):
            print(f"{source}: the names begin with '{prefix}', which is dropped", flush=True)
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    head = {f"{head_name}.weight", f"{head_name}.bias"}
    own = {name: tensor for name, tensor in model.state_dict().items() if name not in head}
    # Weights of other frameworks lack batch norm's counter of batches, which is not used.
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    missing = sorted(own.keys() - state.keys() - counters)
    ignored = head | {"head.weight", "head.bias"}
    # Inception and GoogLeNet have side classifiers, AuxLogits or aux1.
    unknown = [n for n in sorted(state.keys() - own.keys() - ignored) if n.lower()[:3] != "aux"]
    wrong = [
        f"{name} has shape {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    problems = [f"lacks {name}" for name in missing] + [f"has {name}" for name in unknown] + wrong
    if problems:
        more = f"; {len(problems) - 4} more" if problems[4:] else ""
        raise UserError(
            f"{source} does not fit {type(model).__name__}: it {'; '.join(problems[:4])}{more}"
        )
    matching = {name: state[name].float() for name in own.keys() & state.keys() - counters}
    model.load_state_dict(matching, strict=False)
