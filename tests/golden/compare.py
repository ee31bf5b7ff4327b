"""Compare two recordings of the golden losses.

python -m tests.golden.compare A B [--tolerance 1e-4]

Hashes must be equal. Losses must be equal bit by bit, or within a relative tolerance.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any


def differences(a: dict[str, Any], b: dict[str, Any], tolerance: float = 0.0) -> list[str]:
    """What differs, a line for each run and kind; a run that only one side knows is named, too."""
    lines = [f"{name}: recorded on one side only" for name in sorted(a.keys() ^ b.keys())]
    for name in sorted(a.keys() & b.keys()):
        for kind in ("indices", "pixels"):
            if a[name][kind] != b[name][kind]:
                lines.append(f"{name}: other {kind}")
        ours, theirs = a[name]["losses"], b[name]["losses"]
        if [len(row) for row in ours] != [len(row) for row in theirs]:
            lines.append(f"{name}: {len(ours)} steps against {len(theirs)}, or other tasks")
            continue
        for step, (row, other) in enumerate(zip(ours, theirs), start=1):
            if not all(
                math.isclose(x, y, rel_tol=tolerance, abs_tol=tolerance) for x, y in zip(row, other)
            ):
                lines.append(f"{name}: step {step}: losses {row} against {other}")
                break
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("a", type=Path)
    parser.add_argument("b", type=Path)
    parser.add_argument("--tolerance", type=float, default=0.0)
    args = parser.parse_args()
    a, b = (json.loads(path.read_text()) for path in (args.a, args.b))
    lines = differences(a, b, args.tolerance)
    print("\n".join(lines) or f"{len(a)} runs are equal")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
