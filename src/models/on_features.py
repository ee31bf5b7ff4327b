"""Networks on features that another model has made: a linear classifier, or one hidden layer."""

import torch
from torch import nn

HIDDEN = 512  # units of the hidden layer of `mlp`


def feature_backbone(name: str, inputs: int, seed: int) -> tuple[nn.Module, int]:
    """Return what maps features (B, inputs) to the head's input (B, D), and D."""
    if name == "linear":
        return nn.Identity(), inputs
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU()), HIDDEN
