"""What probes of the features of a run say, kept in its folder; see src/spurious/probes.py."""

from contextlib import suppress

from pydantic import BaseModel

from src.io import UserError, read_json
from src.runs.folder import Run


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
        verdict: a short answer, a colon, and what follows from it.
    """

    grouping: str
    accuracies: dict[str, float]
    own: HeadFigures
    balanced: HeadFigures
    group_size: int
    p_value: float
    verdict: str


class ProbeFile(BaseModel):
    """The contents of results/{split}_probes_{checkpoint}.json.

    Attributes:
        fit, measured: the splits whose features fit the probes, and judge them.
        other_data: whether they are of other data than the run's.
    """

    epoch: int | str
    fit: str
    measured: str
    other_data: bool
    probes: list[Probes]


def read_probes(run: Run) -> list[ProbeFile]:
    """Return what probes found out about a run on its own data; a damaged file is left out."""
    found = []
    for path in sorted(run.results.glob("*_probes_*.json")):
        with suppress(UserError):
            found.append(read_json(path, ProbeFile))
    return [file for file in found if not file.other_data]
