"""The table of methods: `python train.py --list`, and docs/methods.md."""

from typing import NamedTuple

from src.report.published import published


class Method(NamedTuple):
    """What a user wants to know before choosing a method.

    Attributes:
        paper: authors and year.
        labels: where it needs group labels: train, val (to fit or to select), or none.
        stages: number of training runs and fitted heads, one after the other.
        cost: training time relative to ERM, for the same number of epochs.
        what: the idea in a line.
    """

    paper: str
    labels: str
    stages: int
    cost: str
    what: str


METHODS = {
    "erm": Method("-", "none", 1, "1", "minimise the mean loss"),
    "rwy": Method("Idrissi et al. 2022", "none", 1, "1", "draw classes equally often"),
    "rwg": Method("Idrissi et al. 2022", "train", 1, "1", "draw groups equally often"),
    "suby": Method("Idrissi et al. 2022", "none", 1, "< 1", "a subset with equal classes"),
    "subg": Method("Idrissi et al. 2022", "train", 1, "< 0.1", "a subset with equal groups"),
    "class_weights": Method("-", "none", 1, "1", "losses weighted by class size"),
    "group_weights": Method("-", "train", 1, "1", "losses weighted by group size"),
    "group_dro": Method("Sagawa et al. 2020", "train", 1, "1", "minimise the worst group's loss"),
    "cvar_dro": Method("Levy et al. 2020", "none", 1, "1", "mean loss of the worst examples"),
    "chi2_dro": Method("Levy et al. 2020", "none", 1, "1", "losses in a chi-square ball"),
    "focal": Method("Lin et al. 2017", "none", 1, "1", "hard examples count more"),
    "ldam": Method("Cao et al. 2019", "none", 1, "1", "larger margins for rare classes"),
    "balanced_softmax": Method("Ren et al. 2020", "none", 1, "1", "logits shifted by class size"),
    "logit_adjustment": Method("Menon et al. 2021", "train", 1, "1", "logits shifted by groups"),
    "vs": Method("Kini et al. 2021", "train", 1, "1", "logits scaled by groups"),
    "irm": Method("Arjovsky et al. 2019", "train", 1, "1", "one head is best everywhere"),
    "vrex": Method("Krueger et al. 2021", "train", 1, "1", "equal losses in all environments"),
    "mixup": Method("Zhang et al. 2018", "none", 1, "1", "blend pairs of images"),
    "lisa": Method("Yao et al. 2022", "train", 1, "1", "mix across attributes or labels"),
    "lff": Method("Nam et al. 2020", "none", 1, "2", "a biased network shows hard examples"),
    "pde": Method("Deng et al. 2023", "train", 1, "< 1", "start with equal groups, then grow"),
    "jtt": Method("Liu et al. 2021", "val", 2, "1 to 4", "train again, errors count more"),
    "dfr": Method("Kirichenko et al. 2023", "val", 2, "1", "a head fitted on balanced validation"),
    "afr": Method("Qiu et al. 2023", "val", 2, "1", "a head fitted on unsure examples"),
    "crt": Method("Kang et al. 2020", "train", 2, "1", "a new head on balanced draws"),
    "self": Method("LaBonte et al. 2023", "val", 2, "1", "a head fitted where epochs disagree"),
    "eiil": Method("Creager et al. 2021", "val", 2, "1", "group DRO on inferred environments"),
    "xrm": Method("Pezeshki et al. 2024", "none", 2, "1", "group DRO on flips of twin classifiers"),
    "cnc": Method("Zhang et al. 2022", "val", 2, "> 10", "contrast what stage 1 confuses"),
    "ssa": Method("Nam et al. 2022", "val", 2, "1.2", "group DRO on predicted attributes"),
    "dpe": Method("To et al. 2025", "val", 2, "1", "an ensemble of class prototypes"),
}
HEAD = ("exp=", "paper", "group labels", "stages", "cost", "CelebA", "Waterbirds", "idea")


def rows() -> list[tuple[str, ...]]:
    """Return the lines of the table as cells, without the head.

    The published figure is the worst-group accuracy of the first entry.
    """
    return [
        (
            *(name, method.paper, method.labels, str(method.stages), method.cost),
            *(_published(name, data) for data in ("celeba", "waterbirds")),
            method.what,
        )
        for name, method in METHODS.items()
    ]


def _published(method: str, data: str) -> str:
    for entry in published()[data].results:
        if entry.method == method:
            return f"{entry.worst:.1f}"
    return "-"


def markdown() -> str:
    """Return the table for docs/methods.md."""
    lines = [HEAD, ("---",) * len(HEAD), *rows()]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def text() -> str:
    """Return the table for a terminal."""
    table = [HEAD, *rows()]
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in table]
    return "\n".join(line.rstrip() for line in lines)
