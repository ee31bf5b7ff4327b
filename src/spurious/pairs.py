"""The table of spurious pairs, and groupings taken from it.

`@outputs/svd/spurious_correlations.csv:top5` in a list of groupings means the five strongest pairs
of that table. Options after the path, in any order: `topN` (default top5), and one of `disjoint`
(no column occurs in two groupings, as task or as attribute) and `shared` (all groupings have the
attribute of the first grouping of the list, or else of the strongest pair).
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from src.data.groupings import Grouping
from src.io import UserError, expand, write_atomic

COLUMNS = ["task", "attribute", "delta", "signed_delta", "se", "p", "q", "n0", "n1", "n2", "n3"]
COLUMNS += ["phi", "risk_difference", "tested", "split"]
_OPTION = re.compile(r"top[0-9]{1,9}|disjoint|shared")


def write_table(path: Path, pairs: Iterable[dict[str, Any]], split: str) -> None:
    """Write the pairs of a matrix, strongest first; None is an empty field.

    Tested pairs come first, then those with a small group, then undefined ones: a large delta over
    three examples is no finding.
    """
    import pandas as pd

    def rank(pair: dict[str, Any]) -> tuple:
        return (not pair["tested"], -(pair["delta"] or 0.0), pair["task"], pair["attribute"])

    rows = [
        pair | {"split": split} | {f"n{group['id']}": group["total"] for group in pair["groups"]}
        for pair in sorted(pairs, key=rank)
    ]
    table = pd.DataFrame(rows, columns=COLUMNS).astype({"tested": int})
    write_atomic(path, table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def read_pairs(path: Path) -> list[Grouping]:
    """Read the tested pairs of a table, strongest first.

    Raises:
        UserError: the table is missing or damaged, or was made on the test split, which must not
            choose what is trained.
    """
    import pandas as pd

    try:
        table = pd.read_csv(expand(path), dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(
            f"{path} does not exist; python -m scripts.spurious_eval writes it. Its path may be "
            f"followed by topN, disjoint and shared: @{path}:top5"
        ) from error
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{path} cannot be read as a table ({error})") from error
    if not len(table) or not {"task", "attribute", "tested", "split"} <= {*table.columns}:
        raise UserError(f"{path} is not a table of pairs as scripts.spurious_eval writes it")
    if "test" in set(table["split"]):
        raise UserError(
            f"{path} was made on the test split, which is for reporting only: make the matrix on "
            "val to choose groupings by it"
        )
    rows = table[table["tested"] == "1"]
    return [Grouping(task, (attribute,)) for task, attribute in zip(rows.task, rows.attribute)]


def expand_groupings(texts: list[str], say: Callable[[str], None] = print) -> list[str]:
    """Replace each `@table:options` in a list of groupings by pairs of the table.

    A pair is skipped if its task has a grouping already. `say` gets a line for each skipped pair,
    and one if the table has fewer than N fitting pairs.
    """
    chosen = [_pair(text) for text in texts if not text.startswith("@")]
    expanded: list[str] = []
    for text in texts:
        if not text.startswith("@"):
            expanded.append(text)
            continue
        path, count, sharing = _parse_entry(text)
        found = _choose(read_pairs(path), chosen, count, sharing, say)
        if len(found) < count:
            say(f"{text}: only {len(found)} pairs fit")
        chosen += found
        expanded += [grouping.name for grouping in found]
    return expanded


def _pair(text: str) -> Grouping:
    task, _, attributes = text.partition(":")
    return Grouping(task, tuple(attributes.split("+")) if attributes else ())


def _parse_entry(text: str) -> tuple[Path, int, str | None]:
    """Split `@path:top5:disjoint` into path, 5 and `disjoint`."""
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
