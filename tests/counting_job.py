"""A command that behaves like a training run and takes no time to load: it counts.

python tests/counting_job.py FOLDER STEPS [--seconds S] [--fail K] [--code C] [--die]

It goes on where it was, and on a signal ends with 128 + its number. `trace` gets a line per step,
`starts` a line per start. The first K starts fail with exit code C, or by SIGKILL.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("steps", type=int)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--fail", type=int, default=0)
    parser.add_argument("--code", type=int, default=1)
    parser.add_argument("--die", action="store_true")
    args = parser.parse_args()
    came = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda signum, frame: came.append(signum))

    args.folder.mkdir(parents=True, exist_ok=True)
    gpu, threads = os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("OMP_NUM_THREADS")
    starts = append(args.folder / "starts", f"{os.getpid()} gpu={gpu} threads={threads}")
    if starts <= args.fail:
        print("about to fail\nthe last words", flush=True)
        if args.die:
            os.kill(os.getpid(), signal.SIGKILL)
        sys.exit(args.code)
    trace = args.folder / "trace"
    done = len(trace.read_text().splitlines()) if trace.exists() else 0
    for step in range(done + 1, args.steps + 1):
        time.sleep(args.seconds)
        append(trace, f"step {step}")
        if came:
            print(f"saved at step {step}", flush=True)
            sys.exit(128 + came[0])
    print("counted", flush=True)


def append(path: Path, line: str) -> int:
    """Write a line; returns how many there are now."""
    with path.open("a+") as file:
        file.write(line + "\n")
        file.flush()
        file.seek(0)
        return len(file.readlines())


if __name__ == "__main__":
    main()
