"""The measured joint distribution of CelebA's 40 attributes, and samples from it.

The table holds a cell for each combination of sex and hair colours that occurs, with its count.
Given the cell, the other 34 attributes follow a Gaussian copula: attribute a is present where a
normal Z_a exceeds the cell's threshold of a, and the Z are correlated by one matrix per sex. A
single 40 x 40 copula cannot do it: hair colours exclude each other, and its matrix of pairwise
correlations is far from positive definite.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from src.data.celeba import ATTRIBUTES
from src.io import UserError

COLOURS = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Bald")
REST = tuple(name for name in ATTRIBUTES if name != "Male" and name not in COLOURS)
TABLE_PATH = Path(__file__).with_name("attribute_table.json")

COLUMN = {name: column for column, name in enumerate(ATTRIBUTES)}
_REST_COLUMNS = [COLUMN[name] for name in REST]


@dataclass(frozen=True)
class AttributeTable:
    """The table as arrays: C cells, A = 34 attributes beside sex and hair colour."""

    cells: np.ndarray  # (C, 6) uint8: Male, then COLOURS
    shares: np.ndarray  # (C,) probabilities, sum 1
    probabilities: np.ndarray  # (C, A) of each attribute in each cell
    correlations: np.ndarray  # (2, A, A) for women, men

    @property
    def marginals(self) -> np.ndarray:
        """P(attribute) (40,) in the order of ATTRIBUTES."""
        marginals = np.empty(len(ATTRIBUTES))
        marginals[[COLUMN["Male"], *(COLUMN[name] for name in COLOURS)]] = self.shares @ self.cells
        marginals[_REST_COLUMNS] = self.shares @ self.probabilities
        return marginals


@functools.cache
def load_table() -> AttributeTable:
    """Read `attribute_table.json`, which `scripts/measure_attributes.py` wrote."""
    table = json.loads(TABLE_PATH.read_text())
    cells = [[c["male"], *(name in c["colours"] for name in COLOURS)] for c in table["cells"]]
    counts = np.array([cell["count"] for cell in table["cells"]])
    correlations = np.zeros((2, len(REST), len(REST)))
    for matrix, rows in zip(correlations, table["correlations"]):
        for k, row in enumerate(rows):
            matrix[k, :k] = matrix[:k, k] = row
            matrix[k, k] = 1
    return AttributeTable(
        cells=np.array(cells, np.uint8),
        shares=counts / counts.sum(),
        probabilities=np.array([cell["probabilities"] for cell in table["cells"]]),
        correlations=correlations,
    )


def sample_attributes(num: int, seed: int = 0, correlation: float = 1.0) -> np.ndarray:
    """Attributes (num, 40) uint8 of 0/1 of `num` faces; row i is the same for every `num` > i.

    With probability `correlation` a face is drawn from the measured joint distribution, otherwise
    each of its attributes on its own with the measured probability. So the marginals never change,
    and the covariance of every two attributes is `correlation` times the measured one: at 1 as in
    CelebA, at 0 all attributes are independent.

    Raises:
        UserError: `correlation` is not between 0 and 1.
    """
    if not 0 <= correlation <= 1:
        raise UserError(
            f"correlation={correlation}: give a number from 0 (independent) to 1 (CelebA)"
        )
    table = load_table()
    uniform = np.random.default_rng([0, seed]).random((num, 2 + len(ATTRIBUTES)))
    attributes = (uniform[:, 2:] < table.marginals).astype(np.uint8)  # independent
    joint = np.flatnonzero(uniform[:, 0] < correlation)
    attributes[joint] = _sample_joint(table, uniform[joint, 1], uniform[joint, 2:])
    return attributes


def _sample_joint(table: AttributeTable, pick: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Attributes (N, 40) of the joint distribution from uniform numbers (N,) and (N, 40)."""
    chosen = np.searchsorted(table.shares.cumsum()[:-1], pick, side="right")  # (N,) cell
    attributes = np.empty(uniform.shape, np.uint8)
    attributes[:, [COLUMN["Male"], *(COLUMN[name] for name in COLOURS)]] = table.cells[chosen]
    normal = ndtri(uniform[:, _REST_COLUMNS])
    for sex in (0, 1):
        rows = np.flatnonzero(table.cells[chosen, 0] == sex)
        values, vectors = np.linalg.eigh(table.correlations[sex])
        root = (
            vectors * np.sqrt(np.maximum(values, 0))
        ) @ vectors.T  # symmetric, so no sign is free
        thresholds = ndtri(1 - table.probabilities[chosen[rows]])
        attributes[np.ix_(rows, _REST_COLUMNS)] = normal[rows] @ root > thresholds
    return attributes
