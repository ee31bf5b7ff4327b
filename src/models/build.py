"""Networks by name: a torchvision backbone and one linear head with a row per logit."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from types import MethodType

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from src.data.features import FEATURE_MODELS
from src.io import UserError, first_line
from src.models import timm_backbones
from src.models.weights import download_weights, load_backbone, read_weights

# What torchvision calls the last layer of its families.
HEADS = ("fc", "classifier", "head", "heads")
HIDDEN = 512  # units of the hidden layer of `mlp`


class Network(nn.Module):
    """A backbone and a linear head.

    Args:
        backbone: images (B, 3, H, W) to features (B, D).
        head: features to logits (B, C).
    """

    def __init__(self, backbone: nn.Module, head: nn.Module):
        super().__init__()
        self.backbone, self.head = backbone, head

    def features(self, images: Tensor) -> Tensor:
        """Return what the head sees, (B, D)."""
        return self.backbone(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


class CosineHead(nn.Linear):
    """A linear head on normalised features with normalised rows and no bias: logits are cosines."""

    def __init__(self, in_features: int, out_features: int):
        super().__init__(in_features, out_features, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.linear(normalize(features), normalize(self.weight))


HEAD_KINDS = {"linear": nn.Linear, "cosine": CosineHead}


def build_model(
    name: str,
    num_logits: int,
    pretrained: bool,
    weights: str | None,
    seed: int,
    head: str = "linear",
    inputs: int | None = None,
    freeze: bool | str = False,
) -> Network:
    """Build a network with `num_logits` logits.

    Args:
        name: a torchvision classifier, such as resnet50, or `timm/` and a model of timm.
        pretrained: start from torchvision's ImageNet weights (IMAGENET1K_V1 if there are several).
        weights: a local .safetensors or .pt backbone in torchvision's names, used instead.
        seed: of the random initial weights (always of the head, of all without `pretrained`).
        head: linear or cosine.
        inputs: width of the features that `linear` and `mlp` see instead of images.
        freeze: true to train the head only, `bn` to keep batch norm as it is.

    Raises:
        UserError: an unknown name, no network connection and no file, or a file that does not fit.
    """
    check_name(name)
    if inputs is None and not name.startswith(timm_backbones.PREFIX):
        network = _from_torchvision(name, num_logits, pretrained, weights, seed, head)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if inputs is None:
                backbone, width = _from_timm(name, pretrained, weights)
            elif name == "linear":
                backbone, width = nn.Identity(), inputs
            else:
                backbone, width = nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU()), HIDDEN
            torch.manual_seed(seed)
            network = Network(backbone, HEAD_KINDS[head](width, num_logits))
    if freeze:
        freeze_backbone(network.backbone, freeze)
    return network


def _from_timm(name: str, pretrained: bool, weights: str | None) -> tuple[nn.Module, int]:
    """Return a backbone of timm and its width."""
    backbone, width, head_name = timm_backbones.create(name, pretrained and weights is None)
    if weights is not None:
        load_backbone(backbone, head_name, read_weights(Path(weights)), source=weights)
    if pretrained or weights is not None:
        print(timm_backbones.describe(name, backbone), flush=True)
    return timm_backbones.with_own_normalisation(backbone), width


def _from_torchvision(
    name: str, num_logits: int, pretrained: bool, weights: str | None, seed: int, head: str
) -> Network:
    """Build a network from a classifier of torchvision."""
    import torchvision.models as zoo

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # Some families (inception, googlenet) return extra outputs in training unless disabled.
        extra = {"aux_logits": False} if name in ("inception_v3", "googlenet") else {}
        init = {"init_weights": True} if extra else {}
        backbone = zoo.get_model(name, weights=None, **extra, **init)
        head_name, old_head = find_head(backbone)
        new_head = HEAD_KINDS[head](old_head.in_features, num_logits)
    if weights is not None:
        load_backbone(backbone, head_name, read_weights(Path(weights)), source=weights)
    elif pretrained:
        source = "torchvision's ImageNet weights"
        load_backbone(backbone, head_name, download_weights(name), source)
    parent, _, leaf = head_name.rpartition(".")
    setattr(backbone.get_submodule(parent), leaf, nn.Identity())
    return Network(backbone, new_head)


def check_name(name: str) -> None:
    """Raise a UserError for a name that `build_model` does not know."""
    import torchvision.models as zoo

    if name.startswith(timm_backbones.PREFIX):
        return timm_backbones.check_timm_name(name)
    names = zoo.list_models(module=zoo)
    if name not in (*names, *FEATURE_MODELS):
        near = difflib.get_close_matches(name, names, n=1)
        hint = (
            f"did you mean '{near[0]}'?" if near else "use resnet18, resnet50, convnext_tiny, ..."
        )
        raise UserError(f"exp.model.name='{name}': no torchvision classifier has this name; {hint}")


def check_resolution(model: nn.Module, name: str, resolution: Sequence[int]) -> None:
    """Try a network on one black image of `resolution` (height, width), without changing it.

    Raises:
        UserError: the network does not take such images.
    """
    height, width = resolution
    device = next(model.parameters()).device
    training = model.training
    model.eval()  # batch norm counts nothing, dropout draws nothing
    try:
        with torch.no_grad():
            model(torch.zeros(1, 3, height, width, device=device))
    except torch.OutOfMemoryError:
        raise  # says nothing about the network
    except (RuntimeError, AssertionError) as error:  # torchvision asserts, torch raises
        reason = first_line(error)[:200]
        raise UserError(
            f"exp.model.name={name} takes no images of {height}x{width} ({reason}): choose another "
            f"exp.dataset.target_resolution, such as [224,224], or another network"
        ) from error
    finally:
        model.train(training)


def find_head(model: nn.Module) -> tuple[str, nn.Linear]:
    """Find the last linear layer of a torchvision model: (its dotted name, the layer)."""
    for path, module in reversed(list(model.named_modules())):
        if isinstance(module, nn.Linear) and path.split(".")[0] in HEADS:
            return path, module
    raise UserError(
        f"{type(model).__name__} has no linear head to replace; choose another exp.model.name"
    )


def freeze_backbone(backbone: nn.Module, what: bool | str) -> None:
    """Freeze weights, and running statistics, which batch norm changes in training mode.

    Args:
        what: true for the whole backbone, `bn` for its batch norm layers.
    """
    kinds = nn.modules.batchnorm._BatchNorm
    layers = [backbone] if what is True else [m for m in backbone.modules() if isinstance(m, kinds)]
    for layer in layers:
        layer.requires_grad_(False).eval()
        layer.train = MethodType(_stay, layer)


def _stay(layer: nn.Module, mode: bool = True) -> nn.Module:
    """Stand in for `train` of a frozen layer, which stays in eval mode."""
    return layer
