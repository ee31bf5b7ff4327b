"""Text tables of a name and small whole numbers per row, read with whole-file numpy operations.

Blanks, tabs, commas and double quotes separate, so that the official `.txt` files and the `.csv`
forms are the same thing; 202,599 rows of 40 values take about a second.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.io import UserError

_SEPARATES = np.zeros(256, bool)
_SEPARATES[:33] = _SEPARATES[[ord(","), ord('"')]] = True
_UNREADABLE = 99  # stands for a value that is not one digit with an optional minus
_SHOWN = 10
_LONGEST = 300  # of a name in a message; no file name and no attribute is longer


def shortened(names: np.ndarray | list) -> str:
    """The first few names of a long list."""
    return ", ".join(map(_text, names[:5])) + (", ..." if len(names) > 5 else "")


def _text(name: bytes | str) -> str:
    text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


@dataclass(frozen=True)
class FileRows:
    """Rows of a file."""

    path: Path
    names: np.ndarray  # (N,) bytes
    values: np.ndarray  # (N, C) int8 or uint8
    lines: np.ndarray  # (N,) line number in the file, from 1

    def decoded_names(self) -> np.ndarray:
        """Names (N,) as str.

        Raises:
            UserError: a name is not UTF-8.
        """
        try:
            return np.char.decode(self.names, "utf-8")
        except UnicodeDecodeError as error:
            name = _text(error.object)
            raise UserError(f"{self.path}: the name '{name}' is not UTF-8 text") from error

    def check_values(self, allowed: tuple[int, ...], columns: list[str]) -> None:
        """Raise a UserError that names the lines with other values."""
        wrong = ~np.isin(self.values, allowed)
        if not wrong.any():
            return
        problems = [
            f"{self.path} line {self.lines[row]}: {columns[column]} is "
            + (
                "not a number"
                if self.values[row, column] == _UNREADABLE
                else str(self.values[row, column])
            )
            + f": allowed are {', '.join(map(str, allowed))}"
            for row, column in np.argwhere(wrong)[:_SHOWN]
        ]
        raise UserError(_with_rest(problems, int(wrong.sum())))


class TextTable:
    """A file as positions of its tokens and lines.

    Raises:
        UserError: the file cannot be read or is empty.
    """

    def __init__(self, path: Path):
        try:
            data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        self.path = path
        # With a line end on either side every token has two edges and every line two ends.
        self.buffer = np.frombuffer(b"\n" + data + b"\n", np.uint8)
        gap = _SEPARATES[self.buffer]
        edges = np.flatnonzero(gap[1:] != gap[:-1]) + 1
        self.starts, ends = edges[0::2], edges[1::2]
        self.sizes = ends - self.starts
        first = np.searchsorted(self.starts, np.flatnonzero(self.buffer == ord("\n")))
        counts = np.diff(first)
        self.line_numbers = np.flatnonzero(counts) + 1
        self.first, self.counts = first[:-1][counts > 0], counts[counts > 0]
        if not len(self.counts):
            raise UserError(f"{path}: the file is empty; fetch it again")

    def line(self, row: int) -> list[str]:
        """Tokens of the row-th line that is not blank; none behind the last line."""
        if row >= len(self.first):
            return []
        tokens = slice(self.first[row], self.first[row] + self.counts[row])
        return [
            _text(self.buffer[start : start + size].tobytes())
            for start, size in zip(self.starts[tokens], self.sizes[tokens])
        ]

    def rows(self, skip: int, columns: int) -> FileRows:
        """The lines from `skip` on as a table: a name and `columns` values each.

        Raises:
            UserError: no rows, rows of another length, names that are not plain or come twice.
        """
        counts, lines = self.counts[skip:], self.line_numbers[skip:]
        if not len(counts):
            raise UserError(f"{self.path}: no rows; fetch the file again")
        wrong = np.flatnonzero(counts != columns + 1)
        if len(wrong):
            problems = [
                f"{self.path} line {lines[row]}: {counts[row] - 1} values where a name and "
                f"{columns} values belong"
                for row in wrong[:_SHOWN]
            ]
            raise UserError(_with_rest(problems, len(wrong)))
        starts = self.starts[self.first[skip] :].reshape(-1, columns + 1)
        sizes = self.sizes[self.first[skip] :].reshape(-1, columns + 1)
        names = self._names(starts[:, 0], sizes[:, 0], lines)
        return FileRows(self.path, names, self._values(starts[:, 1:], sizes[:, 1:]), lines)

    def _names(self, starts: np.ndarray, sizes: np.ndarray, lines: np.ndarray) -> np.ndarray:
        """Names (N,) as fixed-width bytes, each a plain file name and different from the others."""
        width = int(sizes.max())
        if width > 255:
            raise UserError(
                f"{self.path} line {lines[sizes.argmax()]}: a file name of {width} bytes"
            )
        column = np.arange(width)
        characters = self.buffer[np.minimum(starts[:, None] + column, len(self.buffer) - 1)]
        characters[column >= sizes[:, None]] = 0  # (N, width)
        names = characters.view(f"S{width}")[:, 0]
        leaves = ((characters == ord("/")) | (characters == ord("\\"))).any(1) | np.isin(
            names, [b".", b".."]
        )
        problems = [
            f"{self.path} line {lines[row]}: '{_text(names[row])}' is not a plain file name"
            for row in np.flatnonzero(leaves)[:_SHOWN]
        ]
        order = np.argsort(names, kind="stable")
        twice = order[1:][names[order[1:]] == names[order[:-1]]]
        problems += [
            f"{self.path} line {lines[row]}: {_text(names[row])} comes a second time"
            for row in np.sort(twice)[:_SHOWN]
        ]
        if problems:
            raise UserError(_with_rest(problems, int(leaves.sum()) + len(twice)))
        return names

    def _values(self, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Values (N, C) int8: one digit with an optional minus, `_UNREADABLE` for other tokens."""
        head = self.buffer[starts]
        minus = (sizes == 2) & (head == ord("-"))
        digit = np.where(minus, self.buffer[starts + 1], head) - np.uint8(ord("0"))
        values = np.where(minus, -digit.astype(np.int8), digit.astype(np.int8))
        values[(digit > 9) | ~(minus | (sizes == 1))] = _UNREADABLE
        return values


def _with_rest(problems: list[str], total: int) -> list[str]:
    rest = total - len(problems)
    return [*problems, f"... and {rest} more"] if rest > 0 else problems
