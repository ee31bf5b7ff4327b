"""The choices of each layer of the objective, and their options.

A layer's code is in the module of its name (example.py, task.py, across.py). This module imports no
torch, so that command lines are checked fast.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Options(BaseModel):
    """A section of the configuration: unknown keys, other types, inf and NaN are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class FocalOptions(Options):
    """Focal loss (Lin et al. 2017)."""

    gamma: float = Field(1.0, ge=0, description="(1 - p) ** gamma weighs an example; 0: plain")


class LDAMOptions(Options):
    """LDAM (Cao et al. 2019): a larger margin for rarer classes; needs exp.model.head=cosine."""

    max_margin: float = Field(0.5, gt=0, description="margin of the rarest class")
    scale: float = Field(30.0, gt=0, description="s: of the logits, which are cosines")
    drw_from_epoch: int | None = Field(
        None, ge=1, description="DRW: from this epoch on, weigh classes by effective numbers"
    )
    beta: float = Field(0.9999, ge=0, lt=1, description="of the effective numbers")


class VSOptions(Options):
    """Vector-scaling loss (Kini et al. 2021), in the form with one margin per example."""

    level: Literal["group", "class"] = Field("group", description="whose counts decide")
    gamma: float = Field(0.3, ge=0, description="logits are scaled by (n / n_max) ** gamma")
    tau: float = Field(0.0, ge=0, description="margins are lowered by tau log(n / N)")


class ShiftOptions(Options):
    """Logit adjustment (Menon et al. 2021): train on f + tau log(prior odds), predict with f."""

    tau: float = Field(1.0, ge=0, description="strength; 1: the Bayes-optimal shift")


class LevelWeights(Options):
    """Weights of classes or groups, with mean 1 over the levels; see src/objective/example.py."""

    scheme: Literal["inverse", "sqrt", "effective"] = Field(
        "inverse", description="of the counts n: 1/n, 1/sqrt(n), or (1-beta)/(1-beta**n)"
    )
    beta: float = Field(0.9999, ge=0, lt=1, description="of effective (Cui et al. 2019)")


class GroupDROOptions(Options):
    """Group DRO (Sagawa et al. 2020); see src/objective/task.py."""

    eta: float = Field(0.01, ge=0, description="step size of the group weights q")
    adjustment: float = Field(0.0, ge=0, description="C: adds C/sqrt(n) to a group's loss in q")
    automatic_adjustment: bool = Field(
        False, description="C of each group: its generalisation gap after each epoch"
    )
    gamma: float = Field(0.1, gt=0, le=1, description="rate of the mean losses behind that gap")
    normalize: bool = Field(False, description="divide the losses in q by their sum")
    scope: Literal["per_task", "joint"] = Field(
        "per_task", description="one q per task, or one over the groups of all tasks"
    )
    reference: list[str] | None = Field(
        None,
        description="logits of train, saved by other runs: q follows the excess over their losses",
    )

    @model_validator(mode="after")
    def _check_reference(self) -> "GroupDROOptions":
        if self.reference and self.normalize:
            raise ValueError("normalize divides by a sum that reference can make negative: set one")
        return self


class CVaRGroupsOptions(Options):
    """CVaR over groups (`btl` of Sagawa et al. 2020): the mean of the worst share of groups."""

    alpha: float = Field(0.2, gt=0, le=1, description="share of the examples that counts")
    minimum_weight: float = Field(
        0.0, ge=0, le=1, description="of the plain mean over examples, mixed in"
    )
    adjustment: float = Field(0.0, ge=0, description="C: adds C/sqrt(n) when groups are ranked")
    gamma: float = Field(0.1, gt=0, le=1, description="rate of the mean losses that rank groups")


class CVaROptions(Options):
    """CVaR-DRO (Levy et al. 2020): the mean of the largest losses of the batch."""

    alpha: float = Field(0.1, gt=0, le=1, description="their share; alpha * batch size >= 8")
    unit: Literal["label", "example"] = Field(
        "label", description="rank each task's losses, or the examples' sums over tasks"
    )


class Chi2Options(Options):
    """Chi-square DRO (Levy et al. 2020): the worst weights within a chi-square ball."""

    rho: float = Field(0.5, gt=0, description="radius of the ball")


class IRMOptions(Options):
    """IRMv1 (Arjovsky et al. 2019); environments are the attribute's values."""

    strength: float = Field(100.0, ge=0, description="lambda of the penalty")
    anneal_steps: int = Field(500, ge=0, description="steps with strength 1 before that")


class RExOptions(Options):
    """V-REx (Krueger et al. 2021): the variance of the environments' losses."""

    strength: float = Field(10.0, ge=0, description="lambda of the penalty")
    anneal_steps: int = Field(500, ge=0, description="steps with strength 1 before that")


class DWAOptions(Options):
    """DWA (Liu et al. 2019): tasks whose loss falls slowly weigh more."""

    temperature: float = Field(2.0, gt=0, description="large: equal weights")


class STCHOptions(Options):
    """Smooth Tchebycheff scalarisation (Lin et al. 2024): a smooth maximum of the losses."""

    mu: float = Field(1.0, gt=0, description="smoothness; near 0: the largest loss alone")
    warmup_epochs: int = Field(
        0, ge=0, description="minimise sum log S first, then divide by the last mean; 0: by 1"
    )


class TaskDROOptions(Options):
    """DRO over tasks: their weights p follow the losses, as the q of group DRO."""

    eta: float = Field(0.01, ge=0, description="step size of the task weights p")


class FAMOOptions(Options):
    """FAMO (Liu et al. 2023): all losses shall fall at the same relative rate."""

    lr: float = Field(0.025, gt=0, description="of the Adam that learns the weights")
    weight_decay: float = Field(1e-3, ge=0, description="gamma: pulls the weights together")
    next_batch: bool = Field(
        False, description="compare with the next batch's losses; false: a second forward pass"
    )


class GramianOptions(Options):
    """Which gradients a solver sees; see src/objective/gradient.py."""

    gramian: Literal["features", "adapter"] | None = Field(
        None,
        description="gradients by the features, or by a virtual layer before the heads; null: "
        "features, with cells the adapter",
    )
    cells: bool = Field(False, description="weigh the groups of all tasks, not the tasks")


class SolverOptions(GramianOptions):
    """A solver whose weights are 1/T without conflict."""

    rescale: bool = Field(True, description="times T, so that a learning rate of a sum still fits")


class CAGradOptions(SolverOptions):
    """CAGrad (Liu et al. 2021)."""

    c: float = Field(0.5, ge=0, lt=1, description="how far from the mean gradient; 0: the mean")


AGGREGATORS = (
    *("UPGrad", "DualProj", "AlignedMTL", "CAGrad", "ConFIG", "FairGrad", "GradDrop", "GradVac"),
    *("IMTLG", "Mean", "MGDA", "NashMTL", "PCGrad", "Random", "Sum", "TrimmedMean"),
)


class TorchJDOptions(Options):
    """Aggregators of TorchJD on full Jacobians; see src/objective/jacobian.py."""

    aggregator: Literal[AGGREGATORS] = Field("UPGrad", description="pip install torchjd")
    rescale: bool = Field(True, description="times T where its scale is that of a mean")
    c: float = Field(0.5, ge=0, lt=1, description="of CAGrad")
    alpha: float = Field(1.0, gt=0, description="of FairGrad")
    beta: float = Field(0.5, ge=0, le=1, description="of GradVac")
    trim_number: int = Field(1, ge=0, description="of TrimmedMean: rows left out at each end")


SOLVERS = ("upgrad", "pcgrad", "mgda", "cagrad", "imtl_g", "aligned_mtl")
GRADIENT = (*SOLVERS, "torchjd")
ACROSS = ("static", "lbtw", "uw", "dwa", "rlw", "gls", "log", "imtl_l", "stch", "task_dro", "famo")
TASK = ("mean", "group_mean", "environment_mean", "dro", "cvar_groups", "worst", "cvar", "chi2")
# Choices that need the groups of train examples.
NEED_GROUPS = {"group_shift", "group_weights", "group_mean", "environment_mean", "dro"}
NEED_GROUPS |= {"cvar_groups", "worst", "irm", "rex"}


class ObjectiveOptions(Options):
    """From logits to the scalar that is minimised, in five layers. ERM is all defaults."""

    example: Literal["bce", "focal", "ldam", "vs"] = Field("bce", description="loss of an example")
    shift: Literal["none", "class_shift", "group_shift"] = Field(
        "none", description="added to the logits in training only"
    )
    weights: Literal["none", "class_weights", "group_weights"] = Field(
        "none", description="weight of an example's loss, per task"
    )
    task: Literal[TASK] = Field("mean", description="losses of a task to one number")
    penalty: Literal["none", "irm", "rex"] = Field("none", description="added to the scalar")
    across: Literal[ACROSS] | None = Field(
        None, description="tasks to one number; null: lbtw or static, as exp.dataset says"
    )
    gradient: Literal[("none", *GRADIENT)] = Field(
        "none", description="weigh tasks by the angles between their gradients"
    )
    focal: FocalOptions = Field(default_factory=FocalOptions)
    ldam: LDAMOptions = Field(default_factory=LDAMOptions)
    vs: VSOptions = Field(default_factory=VSOptions)
    class_shift: ShiftOptions = Field(default_factory=ShiftOptions)
    group_shift: ShiftOptions = Field(default_factory=ShiftOptions)
    class_weights: LevelWeights = Field(default_factory=LevelWeights)
    group_weights: LevelWeights = Field(default_factory=LevelWeights)
    dro: GroupDROOptions = Field(default_factory=GroupDROOptions)
    cvar_groups: CVaRGroupsOptions = Field(default_factory=CVaRGroupsOptions)
    cvar: CVaROptions = Field(default_factory=CVaROptions)
    chi2: Chi2Options = Field(default_factory=Chi2Options)
    irm: IRMOptions = Field(default_factory=IRMOptions)
    rex: RExOptions = Field(default_factory=RExOptions)
    dwa: DWAOptions = Field(default_factory=DWAOptions)
    stch: STCHOptions = Field(default_factory=STCHOptions)
    task_dro: TaskDROOptions = Field(default_factory=TaskDROOptions)
    famo: FAMOOptions = Field(default_factory=FAMOOptions)
    upgrad: SolverOptions = Field(default_factory=SolverOptions)
    pcgrad: GramianOptions = Field(default_factory=GramianOptions)
    mgda: SolverOptions = Field(default_factory=SolverOptions)
    cagrad: CAGradOptions = Field(default_factory=CAGradOptions)
    imtl_g: SolverOptions = Field(default_factory=SolverOptions)
    aligned_mtl: SolverOptions = Field(default_factory=SolverOptions)
    torchjd: TorchJDOptions = Field(default_factory=TorchJDOptions)

    def chosen(self) -> dict[str, Any]:
        """Return the choices, and of all options only those of the chosen."""
        values = self.model_dump()
        if self.dro.reference is None:  # as in runs that were saved before there was one
            del values["dro"]["reference"]
        names = {value for value in values.values() if isinstance(value, str)}
        return {k: v for k, v in values.items() if not isinstance(v, dict) or k in names}
