"""Random shares of the rows of a split, each a function of the seed.

Orders and draws are functions of (seed, epoch) or (seed, step), too: there is no state to save.
"""

import numpy as np

# Keep the draws of one seed apart.
SUBSET_STREAM, EPOCH_STREAM, DROPOUT_STREAM, HALVES_STREAM = 1, 2, 3, 4
MIX_STREAM, PAIR_STREAM, EXPAND_STREAM, SHARE_STREAM = 5, 6, 7, 8
TASK_STREAM, KNOWN_STREAM, CONTRAST_STREAM, FOLD_STREAM = 9, 10, 11, 12


def train_share(num_examples: int, fraction: float, seed: int) -> np.ndarray:
    """Return the positions of a random share of the train split, ascending; all for 1."""
    shuffled = np.random.default_rng([seed, SHARE_STREAM]).permutation(num_examples)
    return np.sort(shuffled[: round(fraction * num_examples)])


def stratified_halves(groups: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split the rows of a split in two halves, each with half of every joint group.

    The halves of validation are `val_fit` (to fit on) and `val_select` (to select with). Of a group
    of odd size, `val_fit` gets one more.

    Args:
        groups: (N, T) int64.

    Returns:
        Positions of both halves, ascending.
    """
    _, cell, counts = np.unique(groups, axis=0, return_inverse=True, return_counts=True)
    rng = np.random.default_rng([seed, HALVES_STREAM])
    fit = draw_members(cell.ravel(), counts, (counts + 1) // 2, rng)  # NumPy 2.0 adds an axis
    return fit, np.setdiff1d(np.arange(len(groups)), fit)


def known_share(groups: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return groups (N, T) with -1 for all rows but a random share of each joint group.

    Of each joint group the share is rounded up, so that no group is lost; 0 hides all.
    """
    _, cell, counts = np.unique(groups, axis=0, return_inverse=True, return_counts=True)
    rng = np.random.default_rng([seed, KNOWN_STREAM])
    known = draw_members(cell.ravel(), counts, np.ceil(share * counts).astype(np.int64), rng)
    hidden = np.full_like(groups, -1)
    hidden[known] = groups[known]
    return hidden


def draw_members(
    cell: np.ndarray, counts: np.ndarray, kept: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw `kept` (C,) of the `counts` (C,) members of each cell; positions in ascending order."""
    shuffled = rng.permutation(len(cell))
    narrow = cell.astype(np.min_scalar_type(len(counts)))  # a radix sort, where 16 bits are enough
    by_cell = shuffled[np.argsort(narrow[shuffled], kind="stable")]
    rank = np.arange(len(cell)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(by_cell[rank < np.repeat(kept, counts)])
