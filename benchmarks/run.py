"""make bench: this project beside the conventional loop of the field.

    python -m benchmarks.run                        all rows of this machine
    python -m benchmarks.run --only startup input   rows whose key begins so, into the same table

OUT/bench.json is written after each row, so a run that is stopped keeps what it measured.
"""

import argparse
import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="rows whose key begins so")
    parser.add_argument("--list", action="store_true", help="show the keys of the rows")
    parser.add_argument("--out", type=Path, default=Path("outputs/bench"))
    arguments = parser.parse_args()

    os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is imported
    from src.training.devices import choose_device

    device = choose_device(arguments.device)
    rows = table(device.type)
    chosen = [key for key in rows if not arguments.only or key.startswith(tuple(arguments.only))]
    if arguments.list or not chosen:
        print("\n".join(rows))
        return
    measure({key: rows[key] for key in chosen}, device, arguments.out, bool(arguments.only))


def table(device: str) -> dict:
    """Return the rows of a device: key to function of a Bench."""
    import torch

    from benchmarks import rows_data, rows_tasks, rows_train

    if device == "cpu":
        return rows_data.ROWS | rows_train.CPU_ROWS | rows_tasks.CPU_ROWS
    several = rows_train.SEVERAL_GPU_ROWS if torch.cuda.device_count() > 1 else {}
    return rows_train.GPU_ROWS | several | rows_data.INPUT_ROWS


def measure(rows: dict, device: Any, out: Path, add: bool) -> None:
    """Measure rows and show the table; `add` keeps what bench.json has of others."""
    from benchmarks.ours import Bench
    from src.runs.provenance import describe_session

    data, path = out.resolve() / "data", out / "bench.json"
    data.mkdir(parents=True, exist_ok=True)
    sizes = (768, 128, 512) if device.type == "cpu" else (8192, 256, 8192)
    bench = Bench(data, device, sizes, workers=min(4, len(os.sched_getaffinity(0))))
    machine = describe_session(device, "auto")
    known = json.loads(path.read_text())["rows"] if add and path.exists() else []
    results, failed = {row["key"]: row for row in known}, {}
    for key, row_of in rows.items():
        load, start = os.getloadavg()[0], time.perf_counter()
        try:
            row = row_of(bench)
        except Exception as error:  # one row must not cost the others
            failed[key] = f"{type(error).__name__}: {error}"
            print(f"{key}: failed: {failed[key]}", flush=True)
            continue
        took = time.perf_counter() - start
        print(f"{key}: {row.value:.4g} ({took:.0f} s)", flush=True)
        results[key] = {"key": key, **asdict(row), "score": row.score, "load": load}
        report = {"machine": machine, "rows": [*results.values()], "failed": failed}
        path.write_text(json.dumps(report, indent=1) + "\n")
    if results:
        columns = ["name", "value", "ours", "theirs", "unit", "target", "score"]
        rows = pd.DataFrame(results.values())[columns]
        print(rows.to_string(index=False, float_format="{:.4g}".format, na_rep=""))
    if failed:
        raise SystemExit(f"not measured: {', '.join(failed)}")


if __name__ == "__main__":
    main()
