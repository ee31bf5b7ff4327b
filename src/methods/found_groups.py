"""Groups that a method found: environments of the examples, per task, saved with their data.

A task's groups are then (class, environment) in the place of (class, attributes). In the tables of
a run the environments are columns `<task> environment`, so that samplers, objective, validation and
selection handle them like any attribute.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from src.data.dataset import Dataset
from src.data.groupings import Grouping
from src.data.table import Table
from src.evaluation.logits import rows_identity
from src.io import DAMAGE, UserError, atomic_path, load_arrays
from src.methods.stages import Node, Stages
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


def train_on_found_groups(
    stages: Stages,
    inputs: tuple[Node, ...],
    find: Callable[[Callable[[], int | None]], FoundGroups],
    own_step: bool = False,
) -> Node:
    """Return stage 2, which trains on the groups that `find` returns.

    Args:
        find: called with `stop`, after `inputs` are made.
        own_step: see `Stages.train`.
    """
    path = stages.run.path / "found_groups.npz"

    def make(_: object, stop: Callable[[], int | None]) -> None:
        save_found_groups(path, stages.tasks, find(stop))

    found = Node(path.name, path.exists, make, inputs)
    dataloader = {"found_groups": str(path)}
    return stages.train("stage_2", (found,), own_step=own_step, dataloader=dataloader)


def load_found_groups(path: Path, tasks: Sequence[str], dataset: Dataset) -> FoundGroups:
    """Read found groups, their columns in the order of `tasks`.

    Raises:
        UserError: the file is missing or damaged, or belongs to other examples or tasks.
    """
    try:
        arrays = load_arrays(path)
        saved_tasks, sizes = arrays["tasks"].tolist(), arrays["sizes"].tolist()
        splits = [split for split in ("train", "val") if split in arrays]
        found = {split: arrays[split].astype(np.int64) for split in splits}
        data = {split: str(arrays[f"data_{split}"]) for split in splits}
        if "train" not in found or any(e.shape[1] != len(saved_tasks) for e in found.values()):
            raise ValueError("its arrays do not fit together")
    except FileNotFoundError as error:
        raise UserError(f"found groups {path} are missing: train exp=eiil, xrm or ssa") from error
    except (*DAMAGE, TypeError) as error:
        raise UserError(
            f"found groups {path} cannot be read ({error}): delete the file and train again"
        ) from error
    if sorted(saved_tasks) != sorted(tasks):
        raise UserError(
            f"found groups {path} are of the tasks {', '.join(saved_tasks)}, but the run trains "
            f"{', '.join(tasks)}: use a file of the same tasks"
        )
    for split in splits:
        if data[split] != identify(dataset, split):
            raise UserError(
                f"found groups {path} were made from other data (the names or labels of {split} "
                f"differ): use a file of the same data"
            )
    order = [saved_tasks.index(task) for task in tasks]
    return FoundGroups(
        {split: environments[:, order] for split, environments in found.items()},
        tuple(sizes[column] for column in order),
        data,
    )


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
