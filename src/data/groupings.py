"""Groupings `Task:Attr+Attr`: a task to predict and attributes that it may lean on.

Group ids are mixed-radix numbers with the task as the most significant digit and the attributes in
the order written. For `Blond_Hair:Male`: g0=(y0,a0) g1=(y0,a1) g2=(y1,a0) g3=(y1,a1). Binary
columns give the numbering of Sagawa et al. (2020) for Waterbirds and CelebA.

`toxicity:male|female|black` has overlapping groups, as WILDS has for CivilComments: one for each
class and identity, of the examples that name this identity; an example may be in several or none.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from src.data.celeba import ATTRIBUTES
from src.data.table import BINARY, Table
from src.io import UserError, did_you_mean

COLUMN = {name: column for column, name in enumerate(ATTRIBUTES)}
MOST_GROUPS = 2048  # of a grouping: ten binary attributes
MOST_VALUES = 50  # of an attribute
CELEBA = dict.fromkeys(ATTRIBUTES, BINARY)  # class names of each column


@dataclass(frozen=True)
class Grouping:
    """A task and the attributes whose values, with its own, form its groups.

    Attributes:
        task: name of the column to predict.
        attributes: the columns that the groups also depend on; if none, the groups are the classes.
        classes: class names of (task, *attributes); by default all are binary.
        overlapping: each group is a class and one binary attribute that is 1.
    """

    task: str
    attributes: tuple[str, ...] = ()
    classes: tuple[tuple[str, ...], ...] = ()
    overlapping: bool = False

    def __post_init__(self):
        if not self.classes:
            object.__setattr__(self, "classes", (BINARY,) * len(self.columns))

    @property
    def columns(self) -> tuple[str, ...]:
        """The task, then the attributes."""
        return (self.task, *self.attributes)

    @property
    def name(self) -> str:
        """As written in a config: `Attractive:Male+Young`."""
        joined = ("|" if self.overlapping else "+").join(self.attributes)
        return f"{self.task}:{joined}" if joined else self.task

    @property
    def num_classes(self) -> int:
        """Classes of the task."""
        return len(self.classes[0])

    @property
    def num_groups(self) -> int:
        """Product of the numbers of classes of all columns; overlapping: classes x attributes."""
        if self.overlapping:
            return self.num_classes * len(self.attributes)
        return math.prod(map(len, self.classes))

    @property
    def group_names(self) -> list[str]:
        """Names in the order of the group ids: `Blond_Hair=0 Male=0` or `toxic=0 male`."""
        if self.overlapping:
            return [f"{self.task}={y} {name}" for y in self.classes[0] for name in self.attributes]
        return [
            " ".join(f"{column}={value}" for column, value in zip(self.columns, values))
            for values in itertools.product(*self.classes)
        ]

    def without_attributes(self) -> "Grouping":
        """Return the grouping whose groups are the classes of the task."""
        return Grouping(self.task, (), self.classes[:1])

    def labels(self, table: Table) -> np.ndarray:
        """Return the class of the task (N,) int64; -1 where it is unknown."""
        return table.column(self.task).astype(np.int64)

    def group_ids(self, table: Table) -> np.ndarray:
        """Return the group ids (N,) int64; -1 where the label or an attribute is unknown.

        Raises:
            UserError: the groups overlap, so that an example has no single group; see `members`.
        """
        if self.overlapping:
            raise UserError(
                f"grouping '{self.name}': an example may be in several of its groups, but each "
                f"must be in one here: name one attribute at a time"
            )
        groups = np.zeros(len(table), np.int64)
        known = np.ones(len(table), bool)
        for name, classes in zip(self.columns, self.classes):
            codes = table.column(name)
            groups = groups * len(classes) + codes
            known &= codes >= 0
        return np.where(known, groups, -1)

    def members(self, table: Table) -> tuple[np.ndarray, np.ndarray]:
        """Return rows (M,) and their groups (M,): a pair for each group that an example is in."""
        if not self.overlapping:
            groups = self.group_ids(table)
            rows = np.flatnonzero(groups >= 0)
            return rows, groups[rows]
        labels = self.labels(table)
        named = np.stack([table.column(name) == 1 for name in self.attributes], axis=1)  # (N, A)
        rows, attributes = np.nonzero(named & (labels >= 0)[:, None])
        return rows, labels[rows] * len(self.attributes) + attributes


def absent_classes(groupings: Sequence[Grouping], train: Table, all_rows: Table) -> list[str]:
    """List the classes of which other splits have labelled examples, and train has none.

    Raises:
        UserError: all labelled train examples of a task are of one class.
    """
    warnings = []
    for grouping in groupings:
        names = grouping.classes[0]
        labels = grouping.labels(train), grouping.labels(all_rows)
        own, total = (np.bincount(y[y >= 0], minlength=len(names)) for y in labels)  # (K,) each
        if np.count_nonzero(own) < 2:
            shown = ", ".join(f"{name} {count:,}" for name, count in zip(names[:8], own))
            raise UserError(
                f"task '{grouping.task}': train has examples of fewer than two classes ({shown}): "
                f"name another task, or split the data again"
            )
        absent = [names[k] for k in np.flatnonzero((own == 0) & (total > 0))]
        if absent:
            warnings.append(
                f"warning: task '{grouping.task}': no train example is of class "
                f"{', '.join(absent[:8])}, so it cannot be learned"
            )
    return warnings


Columns = Mapping[str, Sequence[str] | str]


def parse_grouping(text: str, columns: Columns | None = None) -> Grouping:
    """Read one grouping, such as `Blond_Hair:Male`.

    Args:
        columns: class names of each column that exists, or why it has no classes. None: any name
            is accepted, and all columns count as binary.

    Raises:
        UserError: an unknown or unusable column, an attribute given twice or equal to its task, an
            empty part, or too many groups.
    """
    task, colon, rest = str(text).partition(":")
    overlapping = "|" in rest
    attributes = rest.split("|" if overlapping else "+") if colon else []
    names, where = (task, *attributes), f"grouping '{text}'"
    if not task or (colon and not all(attributes)):
        raise UserError(
            f"{where}: an empty part; write Task, Task:Attr, Task:Attr+Attr or Task:Attr|Attr"
        )
    for name in names if columns is not None else ():
        if name not in columns:
            raise UserError(f"{where}: unknown attribute '{name}'{did_you_mean(name, columns)}")
        if isinstance(columns[name], str):
            raise UserError(f"{where}: {columns[name]}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice == task:
        raise UserError(f"{where}: attribute '{task}' is the task itself; name another attribute")
    if twice:
        raise UserError(f"{where}: attribute '{twice}' is given twice; name it once")
    classes = tuple(tuple(columns[name]) for name in names) if columns else ()
    for name, values in zip(attributes, classes[1:]):
        if len(values) > MOST_VALUES:
            raise UserError(
                f"{where}: attribute '{name}' has {len(values)} values, at most {MOST_VALUES} make "
                f"sense: cut numbers into classes with exp.dataset.bins.{name}=[20,40,60], or name "
                f"another attribute"
            )
        if overlapping and len(values) > 2:
            raise UserError(f"{where}: '{name}' is not binary, as attributes joined by '|' must be")
    grouping = Grouping(task, tuple(attributes), classes, overlapping)
    count = grouping.num_groups
    if count > MOST_GROUPS:
        raise UserError(
            f"{where}: {count:,} groups; name fewer attributes (at most {MOST_GROUPS:,})"
        )
    return grouping


def parse_groupings(
    texts: Iterable[str], training: bool = False, columns: Columns | None = None
) -> list[Grouping]:
    """Read a list of groupings and check it as a whole.

    Args:
        texts: groupings as written, such as `["Blond_Hair:Male", "Gray_Hair:Young"]`.
        training: each task may then occur only once (a network has one head per task), and bare
            tasks may not be mixed with `Task:Attr` (the usual cause is a comma in a grouping).
        columns: see `parse_grouping`.

    Raises:
        UserError: all problems of the list at once.
    """
    groupings, problems = [], []
    for text in texts:
        try:
            groupings.append(parse_grouping(text, columns))
        except UserError as error:
            problems += error.problems
    if not groupings and not problems:
        problems.append("groupings is empty: name at least one, such as Blond_Hair:Male")
    if training and not problems:
        tasks = [grouping.task for grouping in groupings]
        for task in dict.fromkeys(task for task in tasks if tasks.count(task) > 1):
            problems.append(f"task '{task}' is given twice: a network has one head per task")
        bare = [grouping.name for grouping in groupings if not grouping.attributes]
        full = [grouping.name for grouping in groupings if grouping.attributes]
        if bare and full:
            problems.append(
                f"groupings mix bare tasks ({', '.join(bare)}) with Task:Attr ({', '.join(full)}); "
                f"several attributes of one task are joined by '+': {full[0]}+{bare[0]}"
            )
    if problems:
        raise UserError(problems)
    return groupings
