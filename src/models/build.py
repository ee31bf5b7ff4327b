"""Networks by name: a torchvision backbone and one linear head with a row per logit."""

import difflib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from src.data.features import FEATURE_MODELS
from src.io import UserError
from src.models import freezing, timm_backbones
from src.models.on_features import feature_backbone
from src.models.tensor_files import read_tensors

# What torchvision calls the last layer of its families.
HEADS = ("fc", "classifier", "head", "heads")
# Prefixes that wrappers put before each name: DataParallel, torch.compile, and our own Network.
WRAPPERS = ("module.", "_orig_mod.", "backbone.")


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
        if inputs is not None:
            backbone, width = feature_backbone(name, inputs, seed)
        else:
            backbone, width = _from_timm(name, pretrained, weights, seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = Network(backbone, HEAD_KINDS[head](width, num_logits))
    if freeze:
        freezing.freeze(network.backbone, freeze)
    return network


def _from_timm(
    name: str, pretrained: bool, weights: str | None, seed: int
) -> tuple[nn.Module, int]:
    """Return a backbone of timm and its width."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
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


def model_names() -> list[str]:
    """List the names that `build_model` knows."""
    import torchvision.models as zoo

    return zoo.list_models(module=zoo)


def check_name(name: str) -> None:
    """Raise a UserError for a name that `build_model` does not know."""
    if name.startswith(timm_backbones.PREFIX):
        return timm_backbones.check_timm_name(name)
    names = model_names()
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
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
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
    """Read the tensors of a .safetensors or .pt file, or of a checkpoint of this project."""
    if not path.is_file():
        raise UserError(f"exp.model.weights={path}: no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = read_tensors(path)
    except Exception as error:  # each library has its own errors for a broken file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"exp.model.weights={path}: cannot be read ({reason})") from error
    for key in ("model", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"exp.model.weights={path}: holds no table of tensors by name")
    return state


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
    unknown = [name for name in sorted(state.keys() - own.keys() - ignored) if not _auxiliary(name)]
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


def _auxiliary(name: str) -> bool:
    """Return whether a weight belongs to the side classifiers of Inception and GoogLeNet."""
    return name.lower().startswith("aux")
