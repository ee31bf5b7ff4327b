"""Groups that a method found: environments of the examples, per task, saved with their data.

A task's groups are then (class, environment) in the place of (class, attributes). In the tables of
a run the environments are columns `<task> environment`, so that samplers, objective, validation and
selection handle them like any attribute.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from src.data.dataset import Dataset
from src.data.groupings import Grouping
from src.data.table import Table
from src.evaluation.logits import rows_identity
from src.io import DAMAGE, UserError, atomic_path, load_arrays
from src.sampling.draws import known_share
from src.sampling.plans import stack_groups


@dataclass(frozen=True)
class FoundGroups:
    """Environments that a method found.

    Attributes:
        environments: by split, (N, T) int16; -1 = unknown. Without `val`, validation keeps the
            groups of the data set.
        sizes: (T,) number of environments of each task.
        data: by split, identity of the rows (names and labels).
    """

    environments: dict[str, np.ndarray]
    sizes: tuple[int, ...]
    data: dict[str, str]


def identify(dataset: Dataset, split: str) -> str:
    """Return the identity of a split's rows."""
    rows = dataset.split(split)
    return rows_identity(rows.names, rows.codes)


def save_found_groups(path: Path, tasks: Sequence[str], found: FoundGroups) -> None:
    """Write found groups as .npz."""
    arrays = {"tasks": np.array(list(tasks)), "sizes": np.array(found.sizes)}
    for split, environments in found.environments.items():
        arrays[split] = environments.astype(np.int16)
        arrays[f"data_{split}"] = np.array(found.data[split])
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_found_groups(path: Path, tasks: Sequence[str], dataset: Dataset) -> FoundGroups:
    """Read found groups, their columns in the order of `tasks`.

    Raises:
        UserError: the file is missing or damaged, or belongs to other examples or tasks.
    """
    what, remedy = f"found groups {path}", "train exp=eiil, xrm or ssa"
    arrays, order = load_columns(path, tasks, ["sizes", "train"], what, remedy)
    splits = [split for split in ("train", "val") if split in arrays]
    data = {split: str(arrays[f"data_{split}"]) for split in splits}
    for split in splits:
        if data[split] != identify(dataset, split):
            raise UserError(
                f"{what} were made from other data (the names or labels of {split} differ): use a "
                f"file of the same data"
            )
    environments = {split: arrays[split].astype(np.int64)[:, order] for split in splits}
    return FoundGroups(environments, tuple(arrays["sizes"][order].tolist()), data)


def load_columns(
    path: Path, tasks: Sequence[str], names: Sequence[str], what: str, remedy: str
) -> tuple[dict[str, np.ndarray], list[int]]:
    """Read arrays with a column per task, and return them with the columns of `tasks`.

    Args:
        names: arrays that the file must have, besides `tasks`.
        what: the file's name in messages.
        remedy: how to make the file.

    Raises:
        UserError: the file is missing or damaged, or of other tasks.
    """
    try:
        arrays = load_arrays(path)
        lacking = {"tasks", *names} - arrays.keys()
        if lacking:
            raise ValueError(f"it has no {', '.join(sorted(lacking))}")
        saved = arrays["tasks"].tolist()
    except FileNotFoundError as error:
        raise UserError(f"{what} is missing: {remedy}") from error
    except DAMAGE as error:
        raise UserError(f"{what} cannot be read ({error}): delete it, then {remedy}") from error
    if sorted(saved) != sorted(tasks):
        raise UserError(
            f"{what} is of the tasks {', '.join(saved)}, but the run trains {', '.join(tasks)}: "
            f"use a file of the same tasks, or {remedy}"
        )
    return arrays, [saved.index(task) for task in tasks]


def with_environments(
    rows: Table, groupings: Sequence[Grouping], environments: np.ndarray, sizes: Sequence[int]
) -> tuple[Table, list[Grouping]]:
    """Return rows with a column of environments per task, and groupings of (class, environment)."""
    names = [f"{grouping.task} environment" for grouping in groupings]
    classes = tuple(tuple(map(str, range(size))) for size in sizes)
    table = replace(
        rows,
        codes=np.concatenate([rows.codes.astype(np.int16), environments.astype(np.int16)], axis=1),
        columns=(*rows.columns, *names),
        classes=(*rows.classes, *classes),
    )
    found = [
        Grouping(grouping.task, (name,), (grouping.classes[0], values))
        for grouping, name, values in zip(groupings, names, classes)
    ]
    return table, found


class GroupLabels:
    """The group labels that a run may use: those of the data set, found ones, or none.

    Args:
        groupings: as configured.
        use: false for no group labels of the data set at all; groups are the classes then.
        known: share of the train split whose groups are known; the others are -1.
        found: a file of found groups that replace those of the data set.
        seed: selects the known share.
    """

    def __init__(
        self,
        dataset: Dataset,
        groupings: Sequence[Grouping],
        use: bool = True,
        known: float = 1.0,
        found: Path | None = None,
        seed: int = 0,
    ):
        self.dataset, self.use, self.known, self.seed = dataset, use, known, seed
        self.own = [g if use else g.without_attributes() for g in groupings]
        tasks = [grouping.task for grouping in groupings]
        self.found = None if found is None else load_found_groups(found, tasks, dataset)

    def split(self, split: str) -> tuple[Table, list[Grouping]]:
        """Return the rows of a split, and the groupings whose columns they have."""
        rows, found = self.dataset.split(split), self.found
        if found is None or split not in found.environments:
            return rows, self.own
        return with_environments(rows, self.own, found.environments[split], found.sizes)

    def groups(self, split: str) -> np.ndarray:
        """Return the group ids (N, T) int64 of a split; -1 = unknown."""
        groups = stack_groups(*self.split(split))
        if split == "train" and self.found is None and self.use:
            return known_share(groups, self.known, self.seed)
        return groups

    def has_groups(self, split: str) -> bool:
        """Return whether a split has groups that are more than the classes of the tasks."""
        if self.found is not None and split in self.found.environments:
            return True
        return self.use and (split != "train" or self.known > 0)
