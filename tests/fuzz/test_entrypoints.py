"""A few dozen mistakes through the real entrypoints: exit code 2, a message, no traceback."""

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.fuzz.cases import COUNTS

pytestmark = pytest.mark.slow

TRAIN = ["train_erm.py", "exp=erm"]
LINES = [
    [*TRAIN, "exp.optimizer.lr=abc"],
    [*TRAIN, "exp.optimizer.lr=nan"],
    [*TRAIN, "exp.seed=-1"],
    [*TRAIN, "exp.dataset.groupings=[Blond_Hair:Mael]"],
    [*TRAIN, "exp.dataset.groupings=[]"],
    [*TRAIN, "exp.dataset.groupings=[@nowhere.csv:top5]"],
    [*TRAIN, "exp.dataset.groupings=[@nowhere.csv:top" + "9" * 3000 + "]"],
    [*TRAIN, "exp.dataset.groupings=[Bald:" + "x" * 5000 + "]"],
    [*TRAIN, "exp.dataset.groupings=[[[["],
    [*TRAIN, "exp.dataset.task_weights=[0.5]", "exp.total_epochs=0"],
    [*TRAIN, "exp.dataset.root=${oc.env:HOME}"],
    [*TRAIN, "exp.nothing=1"],
    [*TRAIN, "'"],
    [*TRAIN, "exp.dataset.root='a\nb'"],
    [*TRAIN, "exp.dataset.root=/dev/null"],
    [*TRAIN, "exp/model=../../secret"],
    ["train_erm.py", "exp=jtt"],
    ["train_jtt.py", "exp=erm"],
    ["train_jtt.py", "exp=jtt", "exp.lambda_up=0"],
    ["train_jtt.py", "exp=jtt", "exp.dataloader.lambda_up=3"],
    ["test.py", "--log_dir", "{run}", "--groupings", "[" * 9000],
    ["test.py", "--log_dir", "{run}", "--groupings", "[1]"],
    ["test.py", "--log_dir", "{run}", "--groupings", "Bald:Bald"],
    ["test.py", "--log_dir", "{run}"],
    ["test.py", "--log_dir", "nowhere"],
    ["test.py", "--log_dir", "{run}", "--batch_size", "0"],
    ["-m", "scripts.spurious_eval", "--json_dir", "{run}"],
    ["-m", "scripts.spurious_eval", "--json_dir", "nowhere"],
    ["-m", "scripts.spurious_eval", "--resamples", "0"],
    ["-m", "scripts.prepare_data", "--root", "{run}"],
    ["-m", "scripts.status", "nowhere"],
    ["-m", "scripts.run_create_spurious_matrix", "--meta_log_dir", "{run}"],
    ["-m", "scripts.run_hparam_grid_search", "--limit", "0"],
    ["-m", "scripts.run_hparam_grid_search", "--", "exp.optimizer.lr=abc"],
    ["-m", "scripts.find_best_ckpt", "--log_dir", "{run}"],
    ["-m", "scripts.report_results", "--log_dirs", "{run}", "--out_dir", "{run}/report"],
    ["-m", "scripts.report_results", "--log_dirs", "nowhere*"],
    ["-m", "scripts.report_results", "--log_dirs", "{run}", "--by", "method,method2"],
    ["-m", "scripts.run_spurious_train", "--mode", "sbatch", "--slurm_config", "{run}/config.yaml"],
]


@pytest.fixture
def run(tmp_path) -> Path:
    """A run folder of which every file is a pickle."""
    for name in ("config.yaml", "results/val_stats.json", "ckpts/ckpt.1.pt", "labels.npz"):
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps({"a": name}))
    return tmp_path / "run"


def test_every_mistake_ends_with_2_and_a_message(run):
    def call(line: list[str]) -> tuple[list[str], subprocess.CompletedProcess]:
        command = [sys.executable, *(piece.replace("{run}", str(run)) for piece in line)]
        ended = subprocess.run(
            command,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )
        return line, ended

    wrong = []
    with ThreadPoolExecutor(2) as pool:
        for line, ended in pool.map(call, LINES):
            COUNTS["entrypoints"] += 1
            told = ended.stderr.strip()
            if ended.returncode != 2 or "Traceback" in told or not told or len(told) > 8000:
                wrong.append((line, ended.returncode, told[-600:]))
    assert wrong == []
