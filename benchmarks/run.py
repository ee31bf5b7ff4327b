"""make bench: this project beside the conventional loop of the field, one row a line.

    python -m benchmarks.run                        all rows of this machine
    python -m benchmarks.run --only startup input   rows whose key begins so
    python -m benchmarks.run --device cuda --out outputs/bench

Each row is written when it is measured (OUT/bench.jsonl), so a run that is cut keeps what it has;
with --resume it goes on. OUT/bench.json and OUT/bench.png hold all rows.
"""

import argparse
import json
import os
import platform
import time
from dataclasses import asdict
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="rows whose key begins so")
    parser.add_argument("--list", action="store_true", help="show the keys of the rows")
    parser.add_argument("--out", type=Path, default=Path("outputs/bench"))
    parser.add_argument("--data", type=Path, help="faces and caches; default: OUT/data")
    parser.add_argument(
        "--workers", type=int, help="of the conventional loop; default: 4, or cores"
    )
    parser.add_argument("--resume", action="store_true", help="leave out rows that are there")
    arguments = parser.parse_args()

    os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is imported
    from src.training.devices import choose_device

    device = choose_device(arguments.device)
    rows = table(device.type)
    if arguments.list:
        print("\n".join(rows))
        return
    chosen = [key for key in rows if not arguments.only or key.startswith(tuple(arguments.only))]
    if not chosen:
        parser.error(f"no row begins with {' or '.join(arguments.only)}: {', '.join(rows)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    measure(rows, chosen, device, arguments)


def table(device: str) -> dict:
    """Key to (function of a Bench) of all rows of a device."""
    import torch

    from benchmarks import rows_data, rows_run, rows_tasks, rows_train

    rows = rows_data.ROWS | rows_train.CPU_ROWS | rows_tasks.CPU_ROWS | rows_run.ROWS
    if device == "cpu":
        return rows
    several = rows_train.SEVERAL_GPU_ROWS if torch.cuda.device_count() > 1 else {}
    return rows_train.GPU_ROWS | several | rows_data.INPUT_ROWS


def measure(rows: dict, chosen: list[str], device, arguments: argparse.Namespace) -> None:
    from benchmarks.ours import Bench
    from benchmarks.picture import draw, show

    sizes = (768, 128, 512) if device.type == "cpu" else (8192, 256, 8192)
    workers = arguments.workers or min(4, len(os.sched_getaffinity(0)))
    data = (arguments.data or arguments.out / "data").resolve()
    data.mkdir(parents=True, exist_ok=True)
    bench = Bench(data, device, sizes, workers)
    lines = arguments.out / "bench.jsonl"
    results = read_lines(lines) if arguments.resume or arguments.only else {}
    if not results:
        lines.unlink(missing_ok=True)
    failed: dict[str, str] = {}
    for key in chosen:
        if arguments.resume and key in results:
            continue
        load, start = os.getloadavg()[0], time.perf_counter()
        try:
            row = rows[key](bench)
        except Exception as error:  # one row must not cost the others
            failed[key] = f"{type(error).__name__}: {error}"
            print(f"{key}: failed: {failed[key]}", flush=True)
            continue
        took = time.perf_counter() - start
        entry = {"key": key, **asdict(row), "met": row.met, "score": row.score}
        entry |= {"load": round(load, 2), "took": round(took, 1)}
        results[key] = entry
        with lines.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        print(f"{key}: {row.value:.4g} ({took:.0f} s)", flush=True)
    report = {"machine": machine(device), "rows": list(results.values()), "failed": failed}
    (arguments.out / "bench.json").write_text(json.dumps(report, indent=1) + "\n")
    draw(report, arguments.out / "bench.png")
    show(report)
    if failed:
        raise SystemExit(f"not measured: {', '.join(failed)}")


def read_lines(path: Path) -> dict[str, dict]:
    """Rows measured before; the last of each key counts."""
    entries = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # the line at which the run was cut
        entries[entry["key"]] = entry
    return entries


def machine(device) -> dict[str, str | int]:
    """What the figures were measured on."""
    import torch

    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    about = {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}
    about |= {"torch": torch.__version__, "device": device.type}
    if device.type == "cuda":
        about["gpu"] = torch.cuda.get_device_name(device)
    return about


if __name__ == "__main__":
    main()
