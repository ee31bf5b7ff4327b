"""What probes of the features of a run say, kept in its folder; see src/spurious/probes.py."""

from pydantic import BaseModel


class HeadFigures(BaseModel):
    """How a last layer does: accuracies are fractions."""

    average: float
    worst: float
    low: float
    high: float
    worst_group: str


class Probes(BaseModel):
    """What the probes of one grouping say.

    Attributes:
        accuracies: of a linear probe of each column, averaged over its classes (0.5 is chance).
        own, balanced: the network's last layer, and one fitted on equally large groups.
        group_size: rows of each group that the latter was fitted on.
        p_value: of the change on the network's worst group (McNemar's exact test).
    """

    grouping: str
    accuracies: dict[str, float]
    own: HeadFigures
    balanced: HeadFigures
    group_size: int
    p_value: float
    verdict: str


class ProbeFile(BaseModel):
    """The contents of results/probes_{checkpoint}.json; features of `fit` fit, `measured` judge."""

    epoch: int | str
    fit: str
    measured: str
    probes: list[Probes]
