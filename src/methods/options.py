"""Options of the methods, at exp.<method>.*; this module imports no torch."""

from typing import Literal

from pydantic import Field

from src.objective.options import Options


class MixupOptions(Options):
    """Mixup (Zhang et al. 2018)."""

    alpha: float = Field(0.2, gt=0, description="shares are drawn from Beta(alpha, alpha)")
    per: Literal["example", "batch"] = Field("example", description="one share per ...")


class LisaOptions(Options):
    """LISA (Yao et al. 2022)."""

    alpha: float = Field(2.0, gt=0, description="shares are drawn from Beta(alpha, alpha)")
    same_label: float = Field(
        0.5, ge=0, le=1, description="share of steps that mix one label across attribute values"
    )
    mix: Literal["cutmix", "mixup"] = Field(
        "cutmix", description="paste a rectangle (CelebA), or blend (Waterbirds)"
    )


class LffOptions(Options):
    """Learning from Failure (Nam et al. 2020)."""

    q: float = Field(0.7, gt=0, le=1, description="of the generalised cross-entropy")
    ema: float = Field(0.7, ge=0, lt=1, description="rate of the running mean of each loss")


class PdeOptions(Options):
    """Progressive Data Expansion (Deng et al. 2023)."""

    warmup_epochs: int = Field(16, ge=1, description="on a subset with equal groups")
    interval: int = Field(10, ge=1, description="epochs between two expansions")
    num_added: int = Field(50, ge=0, description="random unused examples at each expansion")
    expand: Literal["same_across_class", "none"] = Field(
        "same_across_class",
        description="after the warm-up: equal classes within each attribute value, or the same",
    )
    lr_factor: float = Field(1.0, gt=0, description="of the learning rate after the warm-up")


# Methods with code of their own, and their options; the others are choices of layers.
METHODS: dict[str, type[Options]] = {
    "mixup": MixupOptions,
    "lisa": LisaOptions,
    "lff": LffOptions,
    "pde": PdeOptions,
    "jtt": Options,
}
STAGED = {"jtt"}  # methods of several stages, see src/methods/stages.py
