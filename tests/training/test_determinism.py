"""The same command twice leaves the same bytes, for any number of threads and any hash seed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.planted_matrix import write_labels, write_planted

pytestmark = pytest.mark.slow

TASKS = "exp.dataset.groupings=[Young:Male,Smiling:High_Cheekbones]"
CHAIN = {
    "erm": ["train_erm.py", "exp=erm", TASKS],
    "lbtw": ["train_erm.py", "exp=erm", TASKS, "exp.dataset.loss_balanced_task_weighting=true"],
    "jtt": ["train_jtt.py", "exp=jtt"],
}


def run(work: Path, threads: int, hash_seed: str, *command: str) -> None:
    """A command in `work`, so that paths in what it writes are the same each time."""
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": str(REPOSITORY),
        "CUDA_VISIBLE_DEVICES": "",
    }
    ended = subprocess.run(
        [sys.executable, *command], cwd=work, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def train(work: Path, name: str, threads: int, hash_seed: str) -> None:
    script, *overrides = CHAIN[name]
    run(
        *(work, threads, hash_seed, str(REPOSITORY / script), *overrides, "exp/dataset=synthetic"),
        *("exp.dataset.target_resolution=[32,32]", "exp.model.name=shufflenet_v2_x0_5"),
        *("exp.model.pretrained=false", "exp.dataloader.batch_size=16", "exp.total_epochs=2"),
        *("exp.dataset.synthetic.num_train=64", "exp.dataset.synthetic.num_val=48"),
        *("exp.dataset.synthetic.num_test=32", "exp.dataloader.num_workers=1"),
        *("exp.dataset.data_augmentation=true", "exp.train.tensorboard=false"),
        *(f"exp.train.log_dir=runs/{name}",),
    )


def chain(work: Path, methods: list[str], threads: int, hash_seed: str) -> None:
    """Training by some methods, the matrix of a run, and the evaluation of a planted matrix (that
    of so short a run has no deltas)."""
    for name in methods:
        train(work, name, threads, hash_seed)
    matrix = ["-m", "scripts.spurious_task", "--log_dir", "runs/erm", "--json_dir", "matrix"]
    run(work, threads, hash_seed, *matrix)
    labels = work / "data" / "planted" / "celeba"
    write_labels(labels)
    write_planted(work / "planted", labels)
    options = ["--out_dir", "svd", "--k", "2", "--resamples", "3"]
    run(work, threads, hash_seed, "-m", "scripts.spurious_eval", "--json_dir", "planted", *options)


def left_behind(work: Path) -> dict[str, bytes]:
    """Every file by its path; of metrics.jsonl the lines without times, no state, locks or logs."""
    found = {}
    for path in sorted(work.rglob("*")):
        name = str(path.relative_to(work))
        if not path.is_file() or path.suffix == ".lock" or path.name in (".lock", "status.json"):
            continue
        if name.startswith("data/"):
            continue
        if path.name == "metrics.jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            timeless = [
                {key: value for key, value in line.items() if not key.startswith("time/")}
                for line in lines
            ]
            found[name] = json.dumps(timeless).encode()
        else:
            found[name] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """A working folder in which the faces are drawn and decoded, by one run of each method."""
    work = tmp_path_factory.mktemp("drawn")
    train(work, "erm", 1, "0")
    shutil.rmtree(work / "runs")
    return work


@pytest.mark.parametrize(("threads", "methods"), [(1, ["erm", "lbtw", "jtt"]), (2, ["erm"])])
def test_the_same_commands_leave_the_same_bytes(drawn, tmp_path, threads, methods):
    """One folder name twice, as paths stand in what is written."""
    results = []
    for hash_seed in ("1", "77"):
        work = tmp_path / "work"
        shutil.copytree(drawn, work)
        chain(work, methods, threads, hash_seed)
        results.append(left_behind(work))
        shutil.rmtree(work)
    one, two = results
    assert one.keys() == two.keys()
    kinds = {Path(name).suffix for name in one}
    assert kinds >= {".pt", ".json", ".jsonl", ".npz", ".csv", ".png", ".html", ".yaml"}
    assert sum(name.endswith(".pt") for name in one) >= 2 * len(methods)
    assert [name for name in one if one[name] != two[name]] == []
