"""The table of spurious pairs, and groupings taken from it.

`@outputs/svd/spurious_correlations.csv:top5` in a list of groupings stands for the five strongest
pairs of that table. The one function for a configuration is

    expand_groupings(texts: list[str], say: Callable[[str], None] = print) -> list[str]

which gives back a list without `@` entries, to be called before the configuration is saved. Options
after the path, in any order: `topN` (default top5), and one of `disjoint` (no attribute occurs in
two groupings, neither as task nor as attribute) and `shared` (all groupings lean on one attribute:
that of the first grouping of the list, or of the strongest pair).
"""

import csv
import io
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from src.data.groupings import LONGEST, Grouping, parse_grouping
from src.io import UserError, write_atomic

COLUMNS = ["task", "attribute", "delta", "signed_delta", "se", "p", "q", "n0", "n1", "n2", "n3"]
COLUMNS += ["phi", "risk_difference", "tested", "split"]
_OPTION = re.compile(r"top[0-9]{1,9}|disjoint|shared")


def write_table(path: Path, pairs: Iterable[dict[str, Any]]) -> None:
    """Write pairs (dicts with COLUMNS), strongest first.

    Tested pairs come before those with a small group, and those before undefined ones: a large
    delta over three examples is no finding. None is an empty field.
    """

    def rank(pair: dict[str, Any]) -> tuple:
        return (not pair["tested"], -(pair["delta"] or 0.0), pair["task"], pair["attribute"])

    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for pair in sorted(pairs, key=rank):
        writer.writerow({name: _field(pair[name]) for name in COLUMNS})
    write_atomic(path, text.getvalue())


def _field(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def read_pairs(path: Path) -> list[Grouping]:
    """The tested pairs of a table, strongest first.

    Raises:
        UserError: no such table, or it was made on the test split, which must not choose what is
            trained.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such table; python -m scripts.spurious_eval writes it. What may follow "
            f"its path is topN, disjoint and shared: @{path}:top5"
        ) from error
    except (OSError, csv.Error, ValueError) as error:
        raise UserError(f"{path} cannot be read as a table ({error})") from error
    if not rows or not {"task", "attribute", "tested", "split"} <= rows[0].keys():
        raise UserError(f"{path} is no table of pairs: the columns {', '.join(COLUMNS)} are needed")
    splits = {row["split"] for row in rows}
    if "test" in splits:
        raise UserError(
            f"{path} was made on the test split, which is for reporting only: make the matrix on "
            "val to choose groupings by it"
        )
    pairs = []
    for number, row in enumerate(rows, start=2):
        if row["split"] not in ("train", "val") or row["tested"] not in ("0", "1"):
            raise UserError(f"{path} row {number}: split is train or val, and tested 0 or 1")
        try:
            pair = parse_grouping(f"{row['task']}:{row['attribute']}")
        except UserError as error:
            raise UserError(f"{path} row {number}: {error}") from error
        if row["tested"] == "1":
            pairs.append(pair)
    return pairs


def expand_groupings(texts: list[str], say: Callable[[str], None] = print) -> list[str]:
    """Replace each `@table:options` in a list of groupings by pairs of the table.

    A pair whose task has a grouping already is skipped, and `say` names it; the next ones follow
    until N are found, and `say` tells if the table ran out.
    """
    chosen = [parse_grouping(text) for text in texts if not text.startswith("@")]
    expanded: list[str] = []
    for text in texts:
        if not text.startswith("@"):
            expanded.append(text)
            continue
        if len(text) > LONGEST:
            raise UserError(f"'{text[:60]}...': {len(text):,} letters; write @TABLE.csv:topN")
        path, count, sharing = _parse_entry(text)
        found = _choose(read_pairs(path), chosen, count, sharing, say)
        if len(found) < count:
            say(f"{text}: only {len(found)} pairs fit")
        chosen += found
        expanded += [grouping.name for grouping in found]
    return expanded


def _parse_entry(text: str) -> tuple[Path, int, str | None]:
    """`@path:top5:disjoint` as path, 5, `disjoint`."""
    path, options = text.removeprefix("@"), []
    while (parts := path.rpartition(":"))[1] and _OPTION.fullmatch(parts[2]):
        path = parts[0]
        options.append(parts[2])
    counts = [int(option[3:]) for option in options if option.startswith("top")]
    sharing = [option for option in options if not option.startswith("top")]
    if not path or len(counts) > 1 or len(sharing) > 1 or 0 in counts:
        raise UserError(
            f"'{text}': write @TABLE.csv:topN with N of 1 or more, then :disjoint or :shared"
        )
    return Path(path), counts[0] if counts else 5, sharing[0] if sharing else None


def _choose(
    pairs: list[Grouping],
    chosen: list[Grouping],
    count: int,
    sharing: str | None,
    say: Callable[[str], None],
) -> list[Grouping]:
    found: list[Grouping] = []
    for pair in pairs:
        if len(found) == count:
            break
        so_far = [*chosen, *found]
        if any(pair.task == other.task for other in so_far):
            say(f"{pair.name} is skipped: its task {pair.task} has a grouping already")
            continue
        if sharing == "disjoint" and any(_names(pair) & _names(other) for other in so_far):
            continue
        if sharing == "shared" and so_far and pair.attributes != so_far[0].attributes:
            continue
        found.append(pair)
    return found


def _names(grouping: Grouping) -> set[str]:
    return {grouping.task, *grouping.attributes}
