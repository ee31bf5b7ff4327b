"""Options of the methods, at exp.<method>.*; this module imports no torch."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

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


class DfrOptions(Options):
    """DFR (Kirichenko et al. 2023)."""

    fit: Literal["val", "train"] = Field("val", description="split that the head is fitted on")
    refit: Literal["half", "all"] = Field(
        "all",
        description="all: the last fit uses all of validation, which then has no held-out figure; "
        "half: only val_fit",
    )
    num_retrains: int = Field(20, ge=1, description="balanced subsets whose heads are averaged")
    max_iter: int = Field(100, ge=1, description="of liblinear")


class AfrOptions(Options):
    """AFR (Qiu et al. 2023)."""

    train_fraction: float = Field(0.8, gt=0, lt=1, description="of train, for stage 1")
    gamma_min: float = Field(1.0, ge=0)
    gamma_max: float = Field(3.0, ge=0)
    num_gammas: int = Field(10, ge=1, description="values tried from gamma_min to gamma_max")
    strengths: list[Annotated[float, Field(ge=0)]] = Field(
        [1e-3, 1e-2, 1e-1], min_length=1, description="values tried of lambda"
    )
    lr: float = Field(2e-2, gt=0)
    steps: int = Field(1000, ge=1)
    evaluate_every: int = Field(10, ge=1, description="steps between two looks at validation")

    @model_validator(mode="after")
    def _check_gammas(self) -> "AfrOptions":
        if self.gamma_min > self.gamma_max:
            raise ValueError(
                f"gamma_min={self.gamma_min:g} is above gamma_max={self.gamma_max:g}: swap them"
            )
        return self


class CrtOptions(Options):
    """CRT and ReWeightCRT (Kang et al. 2020)."""

    kind: Literal["sampler", "reweight"] = Field(
        "sampler", description="draw levels equally often (CRT), or weight them (ReWeightCRT)"
    )
    balance: Literal["group", "class"] = Field("group", description="levels: groups or classes")


class SelfOptions(Options):
    """SELF with early-stop disagreement (LaBonte et al. 2023)."""

    early_epochs: list[Annotated[int, Field(ge=1)]] = Field(
        [2, 4, 10], min_length=1, description="epochs tried as the early checkpoint"
    )
    num_rows: list[Annotated[int, Field(ge=2)]] = Field(
        [20, 100, 500], min_length=1, description="numbers tried of rows to fine-tune on"
    )
    lrs: list[Annotated[float, Field(gt=0)]] = Field(
        [1e-4, 1e-3, 1e-2], min_length=1, description="learning rates tried"
    )
    steps: int = Field(250, ge=1)


class EiilOptions(Options):
    """EIIL (Creager et al. 2021)."""

    solver: Literal["exact", "adam"] = Field(
        "exact", description="of the environments; adam: the authors' search, for comparison"
    )
    lr: float = Field(1e-3, gt=0, description="of adam")
    steps: int = Field(10_000, ge=1, description="of adam")


class CncOptions(Options):
    """CnC (Zhang et al. 2022)."""

    temperature: float = Field(0.05, gt=0, description="tau of the contrastive loss")
    contrastive_weight: float = Field(
        0.75, ge=0, le=1, description="of the contrastive loss; the rest is that of the objective"
    )
    rows: int = Field(
        64, ge=1, description="of a unit: anchors, positives, negatives, easy negatives, each"
    )
    units: int = Field(32, ge=1, description="of a step; the batch is units * 4 * rows images")
    anchor_share: float = Field(
        0.1, gt=0, le=1, description="share of the anchors that an epoch has units of"
    )
    max_units: int | None = Field(None, ge=1, description="of an epoch, at most")
    batch_norm: Literal["eval", "train"] = Field(
        "eval", description="eval: the backbone keeps its first statistics, as in their code"
    )


class SsaOptions(Options):
    """SSA (Nam et al. 2022)."""

    folds: int = Field(3, ge=2, description="parts of train, with a network each")
    steps: int = Field(2000, ge=1, description="of each of these networks")
    interval: int = Field(200, ge=1, description="steps between two validations")
    threshold: float = Field(
        0.95, gt=0, le=1, description="confidence that predictions of the smallest group need"
    )
    fold: int = Field(0, ge=0, description="set by the method: the part of this network")


class XrmOptions(Options):
    """XRM (Pezeshki et al. 2024)."""

    settings: int = Field(10, ge=1, description="settings of the twins that are tried")
    steps: int = Field(10_001, ge=1, description="of each pair of twins")


class DpeOptions(Options):
    """DPE (To et al. 2025)."""

    members: int = Field(15, ge=1, description="heads of each task")
    balance: Literal["class", "group"] = Field(
        "class", description="each member's subset has equally large classes or groups"
    )
    entropic_scale: float = Field(30.0, gt=0, description="of the scores in the loss")
    diversity: float = Field(5e5, ge=0, description="weight of the similarity to earlier members")
    refit: Literal["half", "all"] = Field(
        "half", description="half: fit on val_fit, select on val_select; all: both on validation"
    )


# Methods with code of their own, and their options; the others are choices of layers.
METHODS: dict[str, type[Options]] = {
    "mixup": MixupOptions,
    "lisa": LisaOptions,
    "lff": LffOptions,
    "pde": PdeOptions,
    "jtt": Options,
    "dfr": DfrOptions,
    "afr": AfrOptions,
    "crt": CrtOptions,
    "self": SelfOptions,
    "dpe": DpeOptions,
    "eiil": EiilOptions,
    "xrm": XrmOptions,
    "ssa": SsaOptions,
    "cnc": CncOptions,
}
# Methods of several stages (src/methods/stages.py), and which of them train a network.
STAGED = {
    "jtt": ("stage_1", "stage_2"),
    "dfr": ("stage_1",),
    "afr": ("stage_1",),
    "crt": ("stage_1",),
    "self": ("stage_1",),
    "dpe": ("stage_1",),
    "eiil": ("stage_1", "stage_2"),
    "xrm": ("stage_2",),
    "cnc": ("stage_1", "stage_2"),
    "ssa": ("stage_2",),
}
# Those whose last stage trains on groups that another stage found.
FIND_GROUPS = {"eiil", "xrm", "ssa"}
