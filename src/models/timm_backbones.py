"""Backbones of timm, the library of image models: `timm/resnet50.a1_in1k`."""

import difflib
from typing import Any

import torch
from torch import Tensor, nn

from src.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from src.io import UserError, first_line

PREFIX = "timm/"


def check_timm_name(name: str) -> None:
    """Raise a UserError if timm is not installed, or has no model of this name."""
    timm, short = _timm(), name.removeprefix(PREFIX)
    if not timm.is_model(short.partition(".")[0]):
        near = difflib.get_close_matches(short.partition(".")[0], timm.list_models(), 1)
        hint = f"did you mean '{PREFIX}{near[0]}'?" if near else "see timm.list_models()"
        raise UserError(f"exp.model.name='{name}': timm has no such model; {hint}")


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise UserError("exp.model.name=timm/... needs timm: `pip install timm`") from error
    return timm


def create(name: str, pretrained: bool) -> tuple[nn.Module, int, str]:
    """Return a timm model without its head, its width D, and the name of the head it had.

    Raises:
        UserError: the weights cannot be downloaded, or timm does not know the tag.
    """
    timm, short = _timm(), name.removeprefix(PREFIX)
    try:
        model = timm.create_model(short, pretrained=pretrained, num_classes=0)
    except Exception as error:  # timm and its hub raise many kinds
        reason = first_line(error)
        raise UserError(
            f"exp.model.name={name} cannot be made ({reason}): start from random weights with "
            f"exp.model.pretrained=false, or give a file with exp.model.weights=PATH"
        ) from error
    with torch.no_grad():
        height, width = model.pretrained_cfg.get("input_size", (3, 224, 224))[1:]
        features = model.eval()(torch.zeros(1, 3, height, width)).shape[1]
    return model.train(), features, str(model.pretrained_cfg.get("classifier") or "head")


class OwnNormalisation(nn.Module):
    """Turn images normalised as for ImageNet into those that a model's weights were made for."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        mean, std, own_mean, own_std = (
            torch.tensor(values)[:, None, None]
            for values in (IMAGENET_MEAN, IMAGENET_STD, mean, std)
        )  # (3, 1, 1) each
        self.register_buffer("scale", std / own_std, persistent=False)
        self.register_buffer("shift", (mean - own_mean) / own_std, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return images * self.scale + self.shift


def with_own_normalisation(model: nn.Module) -> nn.Module:
    """Put a model behind its own normalisation, unless that is ImageNet's."""
    mean, std = (tuple(model.pretrained_cfg[key]) for key in ("mean", "std"))
    if (mean, std) == (IMAGENET_MEAN, IMAGENET_STD):
        return model
    return nn.Sequential(OwnNormalisation(mean, std), model)


def describe(name: str, model: nn.Module) -> str:
    """Return the data configuration of a model's weights, for people to compare with theirs."""
    config = model.pretrained_cfg
    height, width = config.get("input_size", (3, 224, 224))[1:]
    return (
        f"{name}: weights made for {height}x{width} pixels, {config.get('interpolation')} "
        f"(here bilinear), mean {config.get('mean')}, std {config.get('std')} (applied)"
    )
