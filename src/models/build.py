"""Torchvision classifiers by name, with one logit per task."""

import difflib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from src.io import UserError
from src.training.tensor_files import read_tensors

# What torchvision calls the last layer of its families; its rows are the classes, here the tasks.
HEADS = ("fc", "classifier", "head", "heads")


def build_model(
    name: str, num_tasks: int, pretrained: bool, weights: str | None, seed: int
) -> nn.Module:
    """A classifier with `num_tasks` logits.

    Args:
        name: a torchvision classifier, such as resnet50.
        pretrained: start from torchvision's ImageNet weights (IMAGENET1K_V1 where there are two).
        weights: a local .safetensors or .pt backbone in torchvision's names, used instead.
        seed: of the random initial weights (the new head always, all without `pretrained`).

    Raises:
        UserError: unknown name, no network and no file, or a file that does not fit.
    """
    import torchvision.models as zoo

    names = zoo.list_models(module=zoo)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        raise UserError(
            f"exp.model.name='{name}' is no torchvision classifier"
            + (f": did you mean '{near[0]}'?" if near else "; resnet18, resnet50, ... are")
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # Some families (inception, googlenet) return extra outputs in training unless told not to.
        extra = {"aux_logits": False} if name in ("inception_v3", "googlenet") else {}
        init = {"init_weights": True} if extra else {}
        model = zoo.get_model(name, weights=None, **extra, **init)
        replace_head(model, num_tasks)
    if weights is not None:
        load_backbone(model, read_weights(Path(weights)), source=weights)
    elif pretrained:
        load_backbone(model, download_weights(name), source="torchvision's ImageNet weights")
    return model


def check_resolution(model: nn.Module, name: str, resolution: Sequence[int]) -> None:
    """Try a network on one black image, on the device where it is. Nothing of it changes: in eval
    mode batch norm counts nothing and dropout draws nothing.

    Raises:
        UserError: it takes no images of `resolution`, (height, width).
    """
    height, width = resolution
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(torch.zeros(1, 3, height, width, device=device))
    except torch.OutOfMemoryError:
        raise  # says nothing about the network
    except (RuntimeError, AssertionError) as error:  # torchvision asserts, torch raises
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(
            f"exp.model.name={name} takes no images of {height}x{width} ({reason}): choose another "
            f"exp.dataset.target_resolution, such as [224,224], or another network"
        ) from error
    finally:
        model.train(training)


def head_of(model: nn.Module) -> tuple[nn.Module, str, nn.Linear]:
    """The last linear layer: (its parent, its name within the parent, itself)."""
    for path, module in reversed(list(model.named_modules())):
        if isinstance(module, nn.Linear) and path.split(".")[0] in HEADS:
            parent, _, leaf = path.rpartition(".")
            return model.get_submodule(parent), leaf, module
    raise UserError(
        f"{type(model).__name__} has no linear head to replace; choose another exp.model.name"
    )


def replace_head(model: nn.Module, num_tasks: int) -> None:
    """Put a new linear layer with one logit per task in the place of the ImageNet head."""
    parent, leaf, old = head_of(model)
    setattr(parent, leaf, nn.Linear(old.in_features, num_tasks))


def download_weights(name: str) -> dict[str, torch.Tensor]:
    """Torchvision's ImageNet weights, from its cache or the network."""
    import torchvision.models as zoo

    versions = zoo.get_model_weights(name)
    # V1 is what the published numbers of this field start from.
    version = versions["IMAGENET1K_V1"] if "IMAGENET1K_V1" in versions.__members__ else None
    version = version or versions["DEFAULT"]
    try:
        return version.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"the ImageNet weights of {name} are not in torch's cache and cannot be downloaded "
            f"({error}): give a local file with exp.model.weights=PATH (.safetensors or .pt in "
            f"torchvision's names), or start from random weights with exp.model.pretrained=false"
        ) from error


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a .safetensors or .pt file; no pickled code is ever run."""
    if not path.is_file():
        raise UserError(f"exp.model.weights={path}: no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = read_tensors(path)
    except Exception as error:  # each library has errors of its own for a broken file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"exp.model.weights={path}: cannot be read ({reason})") from error
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]  # a checkpoint of this project
    if not isinstance(state, dict) or not all(
        isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in state.items()
    ):
        raise UserError(f"exp.model.weights={path}: holds no table of tensors by name")
    return state


def load_backbone(model: nn.Module, state: dict[str, torch.Tensor], source: str) -> None:
    """Load all of the backbone; the head stays new. Every tensor must match by name and shape."""
    parent, leaf, _ = head_of(model)
    head = {
        name
        for name, parameter in model.named_parameters()
        if any(parameter is own for own in getattr(parent, leaf).parameters())
    }
    own = {name: tensor for name, tensor in model.state_dict().items() if name not in head}
    # Batch norm's counter of batches is absent in weights from other frameworks and unused.
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    missing = sorted(own.keys() - state.keys() - counters)
    unknown = sorted(name for name in state.keys() - own.keys() - head if not _auxiliary(name))
    wrong = [
        f"{name} has shape {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    problems = [f"lacks {name}" for name in missing] + [f"has {name}" for name in unknown] + wrong
    if problems:
        shown = "; ".join(problems[:4]) + (f"; {len(problems) - 4} more" if problems[4:] else "")
        raise UserError(f"{source} does not fit {type(model).__name__}: it {shown}")
    taken = {name: state[name].float() for name in own.keys() & state.keys() - counters}
    model.load_state_dict(taken, strict=False)


def _auxiliary(name: str) -> bool:
    """Inception's and GoogLeNet's side classifiers, which are built without."""
    return name.lower().startswith("aux")
