"""Does a network lean on an attribute? Linear probes of its features, and a balanced last layer.

After Kirichenko et al. (2023) and Izmailov et al. (2022): a network that fails on a group may still
have the features that this group needs, and only weigh them wrongly. Then a last layer that is
fitted on equally large groups mends it. If it does not, the features are missing.
"""

import numpy as np
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from src.data.groupings import Grouping
from src.data.table import Table
from src.evaluation.metrics import count_groups, summarise
from src.io import UserError
from src.methods.dfr import balanced
from src.runs.probes import HeadFigures, Probes

MOST_ROWS = 2000  # that a probe is fitted on
STRENGTHS = [1e-3, 1e-2, 1e-1]  # C of the L2 penalty
SUBSETS = 5  # balanced ones, whose last layers are averaged
CLEAR = 0.05  # a smaller gain of accuracy is no evidence
GAP = 0.1  # a smaller distance to the average, or to chance, is no evidence either


def probe(
    grouping: Grouping,
    features: tuple[np.ndarray, np.ndarray],
    rows: tuple[Table, Table],
    own: np.ndarray,
    seed: int = 0,
) -> Probes:
    """Fit the probes on one split, and measure them on another.

    Args:
        grouping: with at least one attribute.
        features: (N, D) of the split to fit on, and of the other one.
        rows: of both splits.
        own: predictions of the network on the second split, (N,).

    Raises:
        UserError: the grouping has no attribute, or a group has too few rows to fit on.
    """
    if not grouping.attributes:
        raise UserError(f"'{grouping.name}' has no attribute to probe: write {grouping.name}:Attr")
    rng = np.random.default_rng(seed)
    groups = grouping.group_ids(rows[0])
    sizes = np.bincount(groups[groups >= 0], minlength=grouping.num_groups)
    if sizes.min() < 10:
        name = grouping.group_names[int(sizes.argmin())]
        raise UserError(
            f"'{grouping.name}': {sizes.min()} rows of '{name}' to fit on, at least 10 are needed"
        )
    accuracies = {}
    for column in grouping.columns:
        fit_labels, labels = (table.column(column).astype(int) for table in rows)
        predicted = fit_balanced(features, fit_labels, fit_labels, rng, 1)
        known = labels >= 0
        accuracies[column] = float(balanced_accuracy_score(labels[known], predicted[known]))
    predicted = fit_balanced(features, grouping.labels(rows[0]), groups, rng, SUBSETS)
    known = grouping.group_ids(rows[1]) >= 0
    labels, groups = grouping.labels(rows[1])[known], grouping.group_ids(rows[1])[known]
    own_right, right = own[known] == labels, predicted[known] == labels
    heads = [figures(grouping, correct, groups) for correct in (own_right, right)]
    worst = groups == grouping.group_names.index(heads[0].worst_group)
    gained, lost = (right & ~own_right & worst).sum(), (own_right & ~right & worst).sum()
    p_value = binomtest(int(gained), int(gained + lost)).pvalue if gained + lost else 1.0
    return Probes(
        grouping=grouping.name,
        accuracies=accuracies,
        own=heads[0],
        balanced=heads[1],
        group_size=int(min(sizes.min(), MOST_ROWS // grouping.num_groups)),
        p_value=float(p_value),
        verdict=verdict(*heads, 1 / grouping.num_classes, float(p_value)),
    )


def fit_balanced(
    features: tuple[np.ndarray, np.ndarray],
    labels: np.ndarray,
    groups: np.ndarray,
    rng: np.random.Generator,
    subsets: int,
) -> np.ndarray:
    """Fit logistic regressions on subsets with equal groups; return predictions of the other split.

    The strength of the L2 penalty is chosen by cross-validation within each subset; probabilities
    of the subsets are averaged.

    Args:
        labels, groups: (N,) of the split to fit on; -1 is left out.
    """
    probabilities = []
    for _ in range(subsets):
        chosen = rng.permutation(balanced(np.where(labels >= 0, groups, -1), rng))[:MOST_ROWS]
        search = GridSearchCV(LogisticRegression(max_iter=500), {"C": STRENGTHS}, cv=3)
        model = make_pipeline(StandardScaler(), search)
        model.fit(features[0][chosen], labels[chosen])
        probabilities.append(model.predict_proba(features[1]))
    return model.classes_[np.mean(probabilities, axis=0).argmax(1)]


def figures(grouping: Grouping, right: np.ndarray, groups: np.ndarray) -> HeadFigures:
    """Summarise right and wrong predictions (N,) of rows in groups (N,)."""
    counts = count_groups(right, groups, grouping.num_groups)
    result = summarise(grouping, *counts, loss=None)
    worst = result["worst_group"]
    return HeadFigures(
        average=result["avg_acc"],
        worst=worst["acc"],
        low=worst["low"],
        high=worst["high"],
        worst_group=grouping.group_names[worst["id"]],
    )


def verdict(own: HeadFigures, fitted: HeadFigures, chance: float, p_value: float) -> str:
    """Say in a sentence what a balanced last layer changes.

    Args:
        chance: accuracy of guessing; a layer that guesses is right as often in every group.
    """
    gain = fitted.worst - own.worst
    lifts = gain >= CLEAR and fitted.worst >= chance + GAP
    if lifts and p_value >= 0.05:
        return (
            f"Too few rows to tell: a balanced last layer lifts the worst group by "
            f"{100 * gain:.0f} points, which could be chance. Measure on more rows."
        )
    if lifts:
        return (
            f"The features are there, the last layer is wrong: a balanced one lifts the worst "
            f"group by {100 * gain:.0f} points. Try exp=dfr on this run."
        )
    if own.average - own.worst >= GAP:
        return (
            f"The features are missing: '{own.worst_group}' is "
            f"{100 * (own.average - own.worst):.0f} points below average, and a balanced last "
            f"layer does not mend it. Train with balanced groups, such as exp=rwg or exp=group_dro."
        )
    return (
        f"No sign that it leans on the attribute: the worst group is within "
        f"{100 * GAP:.0f} points of the average."
    )
