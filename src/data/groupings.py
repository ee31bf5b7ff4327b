"""Groupings `Task:Attr+Attr`: the task that is predicted and the attributes it may lean on.

Group ids are the bits (y, a1, ..., ak) read as a binary number, task first, attributes in the order
written: for `Blond_Hair:Male`, g0=(y0,a0) g1=(y0,a1) g2=(y1,a0) g3=(y1,a1).
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from src.io import UserError

# The 40 binary attributes of CelebA (Liu et al. 2015), in the order of list_attr_celeba.txt.
ATTRIBUTES = (
    "5_o_Clock_Shadow",
    "Arched_Eyebrows",
    "Attractive",
    "Bags_Under_Eyes",
    "Bald",
    "Bangs",
    "Big_Lips",
    "Big_Nose",
    "Black_Hair",
    "Blond_Hair",
    "Blurry",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Chubby",
    "Double_Chin",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "High_Cheekbones",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Oval_Face",
    "Pale_Skin",
    "Pointy_Nose",
    "Receding_Hairline",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
    "Young",
)
LONGEST = 1000  # letters of a grouping: all 40 names make 500
MOST_ATTRIBUTES = 10  # of a grouping: 2,048 groups; each more doubles them
COLUMN = {name: column for column, name in enumerate(ATTRIBUTES)}


@dataclass(frozen=True)
class Grouping:
    """A task and the attributes whose values, with its own, form its groups.

    Without attributes the groups are the task's two classes.
    """

    task: str
    attributes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As written in a config: `Attractive:Male+Young`."""
        return self.task + (":" + "+".join(self.attributes) if self.attributes else "")

    @property
    def slug(self) -> str:
        """As part of a file name: `Attractive-Male+Young`."""
        return self.name.replace(":", "-")

    @property
    def num_groups(self) -> int:
        return 2 ** (1 + len(self.attributes))

    @property
    def group_names(self) -> list[str]:
        """Names in the order of the group ids: `Blond_Hair=0 Male=0`, ..."""
        columns = (self.task, *self.attributes)
        return [
            " ".join(
                f"{name}={group >> (len(columns) - 1 - bit) & 1}"
                for bit, name in enumerate(columns)
            )
            for group in range(self.num_groups)
        ]

    def labels(self, attributes: np.ndarray) -> np.ndarray:
        """Labels y (N,) uint8 of the task, from the attribute table (N, 40) of 0/1."""
        return np.ascontiguousarray(attributes[:, COLUMN[self.task]])

    def group_ids(self, attributes: np.ndarray) -> np.ndarray:
        """Group ids g (N,) int64, from the attribute table (N, 40) of 0/1."""
        groups = attributes[:, COLUMN[self.task]].astype(np.int64)
        for name in self.attributes:
            groups <<= 1
            groups |= attributes[:, COLUMN[name]]
        return groups


def parse_grouping(text: str) -> Grouping:
    """Read one grouping, e.g. `Blond_Hair:Male`.

    Raises:
        UserError: an unknown attribute (with the nearest valid name), an attribute given twice or
            equal to its task, or an empty part; each message names the grouping.
    """
    task, colon, rest = str(text).partition(":")
    attributes = rest.split("+") if colon else []
    where = f"grouping '{text}'"
    if len(where) > LONGEST:
        raise UserError(f"{where[:60]}...': a text of {len(text):,} letters; write Task:Attr")
    if not task or (colon and not all(attributes)):
        raise UserError(f"{where}: an empty part; write Task, Task:Attr or Task:Attr+Attr")
    for name in (task, *attributes):
        if name not in COLUMN:
            raise UserError(f"{where}: unknown attribute '{name}'{did_you_mean(name, ATTRIBUTES)}")
    if task in attributes:
        raise UserError(f"{where}: attribute '{task}' is the task itself; name another attribute")
    if len(set(attributes)) < len(attributes):
        twice = next(name for name in attributes if attributes.count(name) > 1)
        raise UserError(f"{where}: attribute '{twice}' is given twice; name it once")
    if len(attributes) > MOST_ATTRIBUTES:
        raise UserError(
            f"{where}: {len(attributes)} attributes make {2 ** (1 + len(attributes)):,} groups; "
            f"name at most {MOST_ATTRIBUTES}, which make {2 ** (1 + MOST_ATTRIBUTES):,}"
        )
    return Grouping(task, tuple(attributes))


def parse_groupings(texts: Iterable[str], training: bool = False) -> list[Grouping]:
    """Read a list of groupings and check it as a whole.

    Args:
        texts: groupings as written, e.g. `["Blond_Hair:Male", "Gray_Hair:Young"]`.
        training: each task may then occur once only (a network has one logit per task), and bare
            tasks may not be mixed with `Task:Attr` (the usual cause is a comma inside a grouping).

    Raises:
        UserError: all problems of the list at once.
    """
    groupings, problems = [], []
    for text in texts:
        try:
            groupings.append(parse_grouping(text))
        except UserError as error:
            problems += error.problems
    if not groupings and not problems:
        problems.append("groupings is empty: name at least one, such as Blond_Hair:Male")
    if training and not problems:
        problems += _training_problems(groupings)
    if problems:
        raise UserError(problems)
    return groupings


def _training_problems(groupings: Sequence[Grouping]) -> list[str]:
    problems = []
    tasks = [grouping.task for grouping in groupings]
    for task in dict.fromkeys(task for task in tasks if tasks.count(task) > 1):
        names = ", ".join(grouping.name for grouping in groupings if grouping.task == task)
        problems.append(f"task '{task}' is given twice ({names}): a network has one logit per task")
    bare = [grouping.name for grouping in groupings if not grouping.attributes]
    full = [grouping.name for grouping in groupings if grouping.attributes]
    if bare and full:
        problems.append(
            f"groupings mix bare tasks ({', '.join(bare)}) with Task:Attr ({', '.join(full)}); "
            f"several attributes of one task are joined by '+': {full[0]}+{bare[0]}"
        )
    return problems


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """`: did you mean 'Blond_Hair'?` for a near miss, else the start of what is allowed."""
    allowed, name = list(allowed), name[:100]  # the comparison is slow for long texts
    nearest = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    if not nearest:
        by_case = {candidate.lower(): candidate for candidate in allowed}
        nearest = difflib.get_close_matches(name.lower(), by_case, n=1, cutoff=0.5)
        nearest = [by_case[match] for match in nearest]
    if nearest:
        return f": did you mean '{nearest[0]}'?"
    shown = ", ".join(allowed[:8]) + (", ..." if len(allowed) > 8 else "")
    return f"; allowed: {shown}"
