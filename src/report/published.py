"""Published results to hold our own against: CelebA Blond_Hair:Male, ResNet-50, test split."""

from collections.abc import Mapping
from typing import Any

GROUPING, NETWORK, SPLIT = "Blond_Hair:Male", "resnet50", "test"

# Fractions; std over seeds, None where the source gives none.
PUBLISHED: dict[str, dict[str, Any]] = {
    "erm": {
        "worst_group": 0.469,
        "std": 0.028,
        "average": 0.953,
        "source": "Kirichenko et al. 2023 (DFR)",
    },
    "rwy": {
        "worst_group": 0.829,
        "std": 0.022,
        "average": None,
        "source": "Idrissi et al. 2022",
    },
    "rwg": {
        "worst_group": 0.843,
        "std": 0.018,
        "average": None,
        "source": "Idrissi et al. 2022",
    },
    "subg": {
        "worst_group": 0.856,
        "std": 0.023,
        "average": None,
        "source": "Idrissi et al. 2022",
    },
    "jtt": {"worst_group": 0.811, "std": None, "average": 0.880, "source": "Liu et al. 2021"},
}


def reference(
    method: str,
    groupings: list[str],
    network: str,
    split: str,
    dataset: str,
    rule: str,
    worst: float,
) -> Mapping[str, Any] | None:
    """The published result that a mean worst-group accuracy can be held against, or None.

    Returns:
        the entry of PUBLISHED with `difference` and `verdict`: within two published standard
        deviations or not, and the difference only where none is published, or where the epoch was
        not chosen by worst-group accuracy as it was in the papers.
    """
    found = PUBLISHED.get(method)
    comparable = groupings == [GROUPING] and network == NETWORK and split == SPLIT
    if found is None or not comparable or dataset != "celeba":
        return None
    difference = worst - found["worst_group"]
    verdict = "difference only"
    if found["std"] is not None and rule == "best-group":
        verdict = "within 2 std" if abs(difference) <= 2 * found["std"] else "outside"
    return found | {"difference": difference, "verdict": verdict}
