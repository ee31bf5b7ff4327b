"""Keep a backbone, or its batch norm, as it is while the rest trains."""

from types import MethodType

from torch import nn


def freeze(backbone: nn.Module, what: bool | str) -> None:
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
