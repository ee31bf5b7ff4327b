"""Sample attributes from CelebA's measured joint distribution.

The table holds a cell for each combination of sex and hair colours that occurs, with its count.
Within a cell the other 34 attributes follow a Gaussian copula: attribute a is present if a normal
Z_a exceeds the threshold of a in this cell. The Z of one sex share a correlation matrix. A single
40 x 40 copula does not work: hair colours exclude each other, so their matrix of pairwise
correlations is far from positive definite. The counts and the probabilities are exact; the
correlations are those with which the mixture over cells has CelebA's pair probabilities.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from src.data.groupings import ATTRIBUTES, COLUMN

COLOURS = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Bald")
REST = tuple(name for name in ATTRIBUTES if name not in ("Male", *COLOURS))
TABLE_PATH = Path(__file__).with_name("attribute_table.json")

_CELL_COLUMNS = [COLUMN[name] for name in ("Male", *COLOURS)]
_REST_COLUMNS = [COLUMN[name] for name in REST]


@dataclass(frozen=True)
class AttributeTable:
    """The table as arrays: C cells, A = 34 attributes other than sex and hair colour."""

    cells: np.ndarray  # (C, 6) uint8: Male, then COLOURS
    shares: np.ndarray  # (C,) probabilities, sum 1
    probabilities: np.ndarray  # (C, A) of each attribute in each cell
    correlations: np.ndarray  # (2, A, A) for women, men

    @property
    def marginals(self) -> np.ndarray:
        """P(attribute), shape (40,), in the order of ATTRIBUTES."""
        marginals = np.empty(len(ATTRIBUTES))
        marginals[_CELL_COLUMNS] = self.shares @ self.cells
        marginals[_REST_COLUMNS] = self.shares @ self.probabilities
        return marginals


@functools.cache
def load_table() -> AttributeTable:
    """Read `attribute_table.json`, measured once on the complete annotations."""
    table = json.loads(TABLE_PATH.read_text())
    cells = [[c["male"], *(name in c["colours"] for name in COLOURS)] for c in table["cells"]]
    counts = np.array([cell["count"] for cell in table["cells"]])
    probabilities = np.array([cell["probabilities"] for cell in table["cells"]])
    correlations = np.stack([np.eye(len(REST))] * 2)
    for matrix, rows in zip(correlations, table["correlations"]):
        for k, row in enumerate(rows):
            matrix[k, :k] = matrix[:k, k] = row
    shares = counts / counts.sum()
    return AttributeTable(np.array(cells, np.uint8), shares, probabilities, correlations)


def sample_attributes(num: int, seed: int = 0, correlation: float = 1.0) -> np.ndarray:
    """Sample the attributes of `num` faces, (num, 40) uint8 of 0/1.

    Row i is the same for every `num` > i. With probability `correlation` a face comes from the
    joint distribution; otherwise each attribute is drawn independently, with its measured
    probability. The marginals therefore never change, and the covariance of any two attributes is
    `correlation` times the measured one: 1 is CelebA, 0 is independence.
    """
    table = load_table()
    uniform = np.random.default_rng([0, seed]).random((num, 2 + len(ATTRIBUTES)))
    attributes = (uniform[:, 2:] < table.marginals).astype(np.uint8)  # independent
    joint = np.flatnonzero(uniform[:, 0] < correlation)
    attributes[joint] = _sample_joint(table, uniform[joint, 1], uniform[joint, 2:])
    return attributes


def _sample_joint(table: AttributeTable, pick: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Turn uniform numbers (N,) and (N, 40) into attributes (N, 40) of the joint distribution."""
    cell = np.searchsorted(table.shares.cumsum()[:-1], pick, side="right")  # (N,)
    attributes = np.empty(uniform.shape, np.uint8)
    attributes[:, _CELL_COLUMNS] = table.cells[cell]
    normal = ndtri(uniform[:, _REST_COLUMNS])
    for sex in (0, 1):
        rows = np.flatnonzero(table.cells[cell, 0] == sex)
        values, vectors = np.linalg.eigh(table.correlations[sex])
        # The symmetric root does not depend on the signs of the eigenvectors.
        root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
        thresholds = ndtri(1 - table.probabilities[cell[rows]])
        attributes[np.ix_(rows, _REST_COLUMNS)] = normal[rows] @ root > thresholds
    return attributes
