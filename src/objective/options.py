"""The choices of each layer of the objective, and their options.

A layer's code is in the module of its name (example.py, task.py, across.py). This module imports no
torch, so that command lines are checked fast.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Options(BaseModel):
    """A section of the configuration: unknown keys, other types, inf and NaN are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


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
    normalize: bool = Field(False, description="divide the losses in q by their sum")
    scope: Literal["per_task", "joint"] = Field(
        "per_task", description="one q per task, or one over the groups of all tasks"
    )


# Choices that need the groups of train examples.
NEED_GROUPS = {"group_weights", "dro"}


class ObjectiveOptions(Options):
    """From logits to the scalar that is minimised, in five layers. ERM is all defaults."""

    example: Literal["bce"] = Field("bce", description="loss of an example")
    weights: Literal["none", "class_weights", "group_weights"] = Field(
        "none", description="weight of an example's loss, per task"
    )
    task: Literal["mean", "dro"] = Field("mean", description="losses of a task to one number")
    across: Literal["static", "lbtw"] | None = Field(
        None,
        description="tasks to one number; null: lbtw or static, as exp.dataset says",
    )
    class_weights: LevelWeights = Field(default_factory=LevelWeights)
    group_weights: LevelWeights = Field(default_factory=LevelWeights)
    dro: GroupDROOptions = Field(default_factory=GroupDROOptions)

    def chosen(self) -> dict[str, Any]:
        """Return the choices, and of all options only those of the chosen."""
        values = self.model_dump()
        names = {value for value in values.values() if isinstance(value, str)}
        return {k: v for k, v in values.items() if not isinstance(v, dict) or k in names}
