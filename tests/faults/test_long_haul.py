"""500 epochs leave nothing behind in the process; 1,000 runs are listed in seconds."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from src.io import write_json
from src.runs.folder import Run
from tests.faults.tools import make_run
from tests.tiny_training import make_trainer

REPOSITORY = Path(__file__).parent.parent.parent


def measure(folder: Path) -> None:
    """Train 500 epochs; print open files, threads and memory after 50 and 500 epochs."""
    figures = {}

    def look(trainer) -> None:
        if trainer.epoch in (*range(50, 55), *range(495, 500)):
            resident = int(Path("/proc/self/statm").read_text().split()[1])
            now = {
                "files": len([*Path("/proc/self/fd").iterdir()]),
                "threads": threading.active_count(),
                "megabytes": resident * os.sysconf("SC_PAGE_SIZE") / 1e6,
            }
            # The least of some: a thread that reads ahead may not be quite over yet.
            when = "early" if trainer.epoch < 100 else "late"
            known = figures.setdefault(when, now)
            figures[when] = {name: min(value, known[name]) for name, value in now.items()}

    options = {"keep_ckpts": "best", "trackers": ["tensorboard"]}
    make_trainer(folder, total_epochs=500, hook=look, **options).train()
    print(json.dumps(figures))


def test_files_threads_and_memory_stay_flat_over_500_epochs(tmp_path, survived):
    child = subprocess.run(
        [sys.executable, "-m", "tests.faults.test_long_haul", str(tmp_path)],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    figures = json.loads(child.stdout.splitlines()[-1])
    early, late = figures["early"], figures["late"]
    assert late["files"] <= early["files"] and late["threads"] <= early["threads"]
    assert late["megabytes"] - early["megabytes"] < 10
    survived["epochs of one process, with files, threads and memory flat"] += 500


@pytest.fixture
def thousand(commands, fault_overrides, tmp_path) -> Path:
    """Make 1,000 run folders in all states, from the files of a finished run."""
    run = Run(make_run(commands, fault_overrides, tmp_path / "one"))
    logs = tmp_path / "logs"
    for number in range(1000):
        copy = Run(logs / f"run{number}")
        copy.results.mkdir(parents=True)
        for path in (run.config, run.metrics, run.val_stats, run.epoch_stats(1)):
            shutil.copy(path, copy.path / path.relative_to(run.path))
        state = ("done", "running", "failed", "stopped")[number % 4]
        write_json(copy.status_file, run.status() | {"state": state, "heartbeat": time.time()})
    return logs


def test_the_status_of_1000_runs_is_shown_within_10_seconds(thousand, survived):
    start = time.monotonic()
    command = [sys.executable, "-m", "scripts.status", str(thousand)]
    child = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    seconds = time.monotonic() - start
    assert "1000 runs: " in child.stdout and len(child.stdout.splitlines()) == 1002
    assert seconds < 10, f"{seconds:.1f} s"
    survived["run folders listed within 10 s"] += 1000


if __name__ == "__main__":
    measure(Path(sys.argv[1]))
