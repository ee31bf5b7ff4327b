"""Published results to compare our own with; the numbers stand in published.yaml."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from src.report.rows import CUT

FILE = Path(__file__).with_name("published.yaml")


class Published(BaseModel):
    """One published result, in percent; see the head of published.yaml."""

    model_config = ConfigDict(extra="forbid")

    method: str
    variant: str | None = None
    worst: float = Field(ge=0, le=100)
    spread: float | None = None
    average: float | None = Field(None, ge=0, le=100)
    average_spread: float | None = None
    kind: Literal["sd", "se", "unknown"] | None = None
    seeds: int | None
    selection: Literal["best-group", "best-avg", "last"] | None = "best-group"
    labels: Literal["train", "val", "none"]
    backbone: str | None = "resnet50"
    source: str

    @property
    def std(self) -> float | None:
        """The standard deviation over seeds as a fraction, None if the source gives none."""
        if self.spread is None or (self.kind == "se" and self.seeds is None):
            return None
        return self.spread * (self.seeds**0.5 if self.kind == "se" else 1) / 100


class PublishedDataset(BaseModel):
    """Results on the worst group of one grouping."""

    grouping: str
    results: list[Published]


@cache
def published() -> dict[str, PublishedDataset]:
    """Read published.yaml: data set to its results."""
    read = yaml.safe_load(FILE.read_text())
    return {name: PublishedDataset.model_validate(values) for name, values in read.items()}


def reference(
    method: str,
    groupings: list[str],
    settings: Mapping[str, Any],
    split: str,
    dataset: str,
    rule: str,
    worst: float | None,
) -> dict[str, Any] | None:
    """Return the published result that a mean worst-group accuracy is compared with, or None.

    Only full runs on the published input, from ImageNet weights, are compared.

    Args:
        settings: those of the row; see `runs.settings_of`.

    Returns:
        fractions `worst_group`, `std`, `average` and `difference`, the `source`, and `verdict`:
        within two published standard deviations or outside; `difference only` if no deviation is
        published, or if the epochs were selected in another way.
    """
    known = published().get(dataset)
    if worst is None or known is None or split != "test" or groupings != [known.grouping]:
        return None
    if (settings["start"], settings["input"]) != ("pretrained", "224x224") or CUT in settings:
        return None
    wanted = method, settings["network"], None
    entries = [of for of in known.results if (of.method, of.backbone, of.variant) == wanted]
    if not entries:
        return None
    found = next((entry for entry in entries if entry.selection == rule), entries[0])
    difference, std = worst - found.worst / 100, found.std
    verdict = "difference only"
    if std is not None and found.selection == rule:
        verdict = "within 2 std" if abs(difference) <= 2 * std else "outside"
    return {
        "worst_group": found.worst / 100,
        "std": std,
        "average": None if found.average is None else found.average / 100,
        "seeds": found.seeds,
        "source": found.source,
        "difference": difference,
        "verdict": verdict,
    }
