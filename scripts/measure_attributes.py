"""Measure the joint distribution of CelebA's 40 attributes, for the embedded stand-in.

    python -m scripts.measure_attributes --root celeba

writes `src/standin/attribute_table.json`: how often each combination of sex and hair colours occurs
(exactly), how often each of the other 34 attributes occurs in it (exactly), and for each sex the
correlations of a Gaussian copula which give the 34 attributes their pair probabilities.
`src/standin/attribute_table.py` samples from it.
"""

import argparse
import json

import numpy as np
from scipy.special import ndtr, ndtri

from src.data.celeba import ATTRIBUTES, load_annotations
from src.io import exit_on_user_error, expand, write_atomic
from src.standin.attribute_table import COLOURS, REST, TABLE_PATH


def pair_probability(t1: np.ndarray, t2: np.ndarray, r: np.ndarray) -> np.ndarray:
    """P(Z1 > t1, Z2 > t2) of standard normals with correlation r; the arguments broadcast.

    The derivative by r is the bivariate density (Plackett 1954); it is integrated from 0 to r by
    Gauss-Legendre quadrature over arcsin(r), where it is smooth.
    """
    nodes, weights = np.polynomial.legendre.leggauss(40)
    angle = np.arcsin(r)[..., None] * (nodes + 1) / 2
    t1, t2 = np.clip(t1, -9, 9)[..., None], np.clip(t2, -9, 9)[..., None]
    density = np.exp(-(t1**2 + t2**2 - 2 * t1 * t2 * np.sin(angle)) / (2 * np.cos(angle) ** 2))
    return (ndtr(-t1) * ndtr(-t2))[..., 0] + (density @ weights) * np.arcsin(r) / (4 * np.pi)


def fit_correlations(thresholds: np.ndarray, shares: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Correlations (A, A) under which the mixture over cells has the pair probabilities `pairs`.

    Args:
        thresholds: (C, A), of each cell and attribute.
        shares: (C,), probabilities of the cells, with sum 1.
        pairs: (A, A), P(attribute i and attribute j).
    """
    i, j = np.triu_indices(len(pairs), 1)
    low, high = np.full(len(i), -0.999), np.full(len(i), 0.999)
    for _ in range(30):  # bisection: the pair probability rises with the correlation
        middle = (low + high) / 2
        reached = shares @ pair_probability(thresholds[:, i], thresholds[:, j], middle[None])
        low, high = (
            np.where(reached < pairs[i, j], middle, low),
            np.where(reached < pairs[i, j], high, middle),
        )
    possible = np.minimum(pairs.diagonal()[i], pairs.diagonal()[j]) > 0
    correlations = np.eye(len(pairs))
    correlations[i, j] = correlations[j, i] = np.where(possible, (low + high) / 2, 0)
    return nearest_correlations(correlations)


def nearest_correlations(matrix: np.ndarray, floor: float = 1e-3, rounds: int = 200) -> np.ndarray:
    """The nearest correlation matrix with eigenvalues of about `floor` or more (Higham 2002)."""
    correction = np.zeros_like(matrix)
    for _ in range(rounds):
        values, vectors = np.linalg.eigh(matrix - correction)
        positive = (vectors * np.maximum(values, floor)) @ vectors.T
        correction += positive - matrix
        matrix = positive.copy()
        np.fill_diagonal(matrix, 1)
    return matrix


def measure(attributes: np.ndarray) -> dict:
    """The table of `attributes` (N, 40) of 0/1, as it is stored."""
    male = attributes[:, ATTRIBUTES.index("Male")]
    colours = attributes[:, [ATTRIBUTES.index(name) for name in COLOURS]]
    rest = attributes[:, [ATTRIBUTES.index(name) for name in REST]].astype(np.float64)
    code = male * 2 ** len(COLOURS) + colours @ (1 << np.arange(len(COLOURS)))
    cells, correlations = [], []
    for sex in (0, 1):
        members = [code == value for value in np.unique(code[male == sex])]
        counts = np.array([rows.sum() for rows in members])
        means = np.array([rest[rows].mean(axis=0) for rows in members])
        of_sex = rest[male == sex]
        pairs = of_sex.T @ of_sex / len(of_sex)
        matrix = fit_correlations(ndtri(1 - means), counts / counts.sum(), pairs)
        correlations.append([[round(float(r), 3) for r in row[:k]] for k, row in enumerate(matrix)])
        for rows, count, mean in zip(members, counts, means):
            present = [name for name, has in zip(COLOURS, colours[rows.argmax()]) if has]
            probabilities = [round(float(p), 5) for p in mean]
            cells.append(
                {
                    "male": sex,
                    "colours": present,
                    "count": int(count),
                    "probabilities": probabilities,
                }
            )
    origin = f"measured once on the complete CelebA annotations, {len(attributes):,} rows"
    return {
        "origin": origin,
        "attributes": list(REST),
        "cells": cells,
        "correlations": correlations,
    }


def to_text(table: dict) -> str:
    """JSON with one cell and one row of correlations on a line, so that a diff can be read."""

    def lines(items: list) -> str:
        return "[\n" + ",\n".join(json.dumps(item) for item in items) + "\n]"

    female, male = (lines(rows) for rows in table["correlations"])
    origin, names = json.dumps(table["origin"]), json.dumps(table["attributes"])
    return (
        f'{{"origin": {origin},\n"attributes": {names},\n'
        f'"cells": {lines(table["cells"])},\n"correlations": [{female}, {male}]}}\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", required=True, type=expand, help="folder of list_attr_celeba.txt")
    parser.add_argument("--out", default=TABLE_PATH, type=expand, help="default: %(default)s")
    arguments = parser.parse_args()
    table = measure(load_annotations(arguments.root).codes)
    write_atomic(arguments.out, to_text(table))
    print(f"{arguments.out}: {len(table['cells'])} cells, {table['origin']}")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
