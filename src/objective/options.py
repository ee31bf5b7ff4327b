"""The choices of each layer of the objective, and their options.

A layer's code is in the module of its name (example.py, task.py, across.py). This module imports no
torch, so that command lines are checked fast.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Options(BaseModel):
    """A section of the configuration: unknown keys, other types, inf and NaN are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class ObjectiveOptions(Options):
    """From logits to the scalar that is minimised, in five layers. ERM is all defaults."""

    example: Literal["bce"] = Field("bce", description="loss of an example")
    weights: Literal["none"] = Field("none", description="weight of an example's loss")
    task: Literal["mean"] = Field("mean", description="losses of a task to one number")
    across: Literal["static", "lbtw"] | None = Field(
        None,
        description="tasks to one number; null: lbtw or static, as exp.dataset says",
    )

    def chosen(self) -> dict[str, Any]:
        """Return the choices, and of all options only those of the chosen."""
        values = self.model_dump()
        names = {value for value in values.values() if isinstance(value, str)}
        return {
            key: value
            for key, value in values.items()
            if not isinstance(value, dict) or key in names
        }
