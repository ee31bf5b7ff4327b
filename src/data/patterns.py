"""Labels in the names of files and folders: `{age:int}_{gender}_{race}_{date}.jpg`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from src.data.text_files import shortened
from src.io import UserError

if TYPE_CHECKING:
    import pandas as pd

_FIELD = re.compile(r"\{(\w+)(:int)?\}")


def read_by_pattern(root: Path, pattern: str) -> "pd.DataFrame":
    """Return a table of all files below `root` whose path fits: filename, and a column per field.

    A field is any text without `/`, or digits with `:int`; a pattern with folders, such as
    `{split}/{label}/{file}.jpg`, is compared with the whole path below the root.

    Raises:
        UserError: the pattern has no fields, or no file fits.
    """
    import pandas as pd

    form, fields = compile_pattern(pattern)
    depth = pattern.count("/")
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    rows, others = [], []
    for path in paths:
        own = path if depth else path.rpartition("/")[2]
        match = form.fullmatch(own)
        if match:
            rows.append((path, *match.groups()))
        else:
            others.append(path)
    if not rows:
        raise UserError(
            f"exp.dataset.filename_pattern={pattern}: none of {len(paths):,} files below {root} "
            f"fits, such as {shortened(paths) or 'none'}"
        )
    if others:
        print(f"{len(others):,} files do not fit {pattern}: {shortened(others)}", flush=True)
    return pd.DataFrame(rows, columns=["filename", *fields])


def compile_pattern(pattern: str) -> tuple[re.Pattern, list[str]]:
    """Return the regular expression of a pattern, and the names of its fields."""
    fields = [match.group(1) for match in _FIELD.finditer(pattern)]
    if not fields or len(set(fields)) < len(fields) or "filename" in fields:
        raise UserError(
            f"exp.dataset.filename_pattern={pattern}: name each field once in braces, such as "
            f"'{{age:int}}_{{gender}}.jpg'; `filename` is taken"
        )
    parts, end = [], 0
    for match in _FIELD.finditer(pattern):
        parts.append(re.escape(pattern[end : match.start()]))
        parts.append(r"(\d+)" if match.group(2) else "([^/]+?)")
        end = match.end()
    return re.compile("".join([*parts, re.escape(pattern[end:])])), fields
