"""Training that is killed by SIGKILL anywhere, and started again, ends with the same bits."""

import random
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from src.runs.folder import Run
from src.training.checkpoints import load_checkpoint
from src.training.metrics_log import read_metrics
from tests.conftest import entrypoint_process
from tests.faults.commands import KILL, PATIENCE, Fault, wait_until
from tests.faults.conftest import KILLS
from tests.tiny_training import outcome

THREE_TASKS = "exp.dataset.groupings=[Young:Male,Bald:Chubby,Smiling:Male]"
METHODS = {
    "erm": ["exp=erm", "exp.dataset.data_augmentation=true"],
    "rwg": ["exp=rwg", "exp.train.keep_ckpts=all"],
    "lbtw": ["exp=erm", THREE_TASKS, "exp.dataset.loss_balanced_task_weighting=true"],
}
JTT_KILLS = max(3, KILLS // 8)  # each start of a stage takes seconds
SHARE = -(-(KILLS - JTT_KILLS) // len(METHODS))  # kills of each method


@dataclass(frozen=True)
class Reference:
    """Train without interruption."""

    argv: list[str]
    seconds: float
    calls: int  # that change its files
    outcome: dict
    pictures: dict[str, bytes]


@pytest.fixture(scope="module", params=METHODS)
def reference(request, commands, fault_overrides, tmp_path_factory) -> Reference:
    argv = ["train_erm.py", *fault_overrides, *METHODS[request.param]]
    folder = tmp_path_factory.mktemp("logs")
    code, output = commands.run(*argv, f"exp.train.log_dir={folder}/first")  # makes the cache
    assert code == 0, output
    whole = Run(folder / "whole")
    calls = commands.count_calls(str(whole.path), *argv, f"exp.train.log_dir={whole.path}")
    assert outcome(folder / "first") == outcome(whole.path)
    return Reference(argv, 1.5, len(calls), outcome(whole.path), pictures(whole.path))


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.png")}


def sound_step(run: Run) -> int:
    """Return the step of the newest checkpoint, which a kill never damages."""
    steps = [load_checkpoint(path)["step"] for path in run.ckpts.glob("ckpt.*.pt")]
    last = run.checkpoint("last")
    return load_checkpoint(last)["step"] if last.exists() else max(steps, default=0)


def check_after_kill(run: Run, output: str, before: int) -> int:
    """Check a killed start: it continued from the checkpoint of `before` and lost at most one
    step. Return the step of the newest checkpoint."""
    assert "Traceback" not in output and "error:" not in output and "warning:" not in output
    continued = re.search(r"resuming at step (\d+)", output)
    if continued:
        assert int(continued[1]) == before
    step = sound_step(run)
    logged = max((record["step"] for record in read_metrics(run)), default=0)
    assert step >= before and logged - step <= 1
    return step


def left_over(folder: Path) -> list[Path]:
    return list(folder.rglob(".*.tmp"))


def test_killed_anywhere_and_started_again_it_ends_with_the_same_bits(
    reference, commands, tmp_path, survived, request
):
    rng = random.Random(request.node.name)
    kills = number = 0
    while kills < SHARE:
        number += 1
        run = Run(tmp_path / f"run{number}")
        argv, step, ended = [*reference.argv, f"exp.train.log_dir={run.path}"], 0, False
        while not ended and kills < SHARE:
            if rng.random() < 0.6:  # at a call that changes a file, half of a write done
                left = max(20, int(reference.calls * (1 - step / 8)))
                fault = Fault(str(run.path), KILL, rng.randrange(1, left))
                process = commands.start(*argv, fault=fault)
                process.ended(60)
            else:
                process = commands.start(*argv)
                process.ended(rng.uniform(0, reference.seconds))
                process.kill()
            ended = process.wait() == 0
            if not ended:
                kills += 1
                step = check_after_kill(run, process.output, step)
        code, output = commands.run(*argv)
        assert code == 0, output
        assert "is done already" in output or not step or f"at step {step}\n" in output
        assert outcome(run.path) == reference.outcome
        assert pictures(run.path) == reference.pictures
        assert left_over(run.path) == []
    survived["training runs killed (SIGKILL) and gone on to the same bits"] += kills


@pytest.mark.parametrize("reference", ["lbtw"], indirect=True)
def test_a_true_subprocess_killed_twice_ends_with_the_same_bits(
    reference, tmp_path, survived, commands
):
    run = Run(tmp_path / "run")
    for step in (2, 6):
        process = entrypoint_process(
            *reference.argv, f"exp.train.log_dir={run.path}", start_new_session=True
        )
        while process.poll() is None:
            if max((record["step"] for record in read_metrics(run)), default=0) >= step:
                process.kill()
        process.communicate()
        survived["training runs killed (SIGKILL) and gone on to the same bits"] += 1
    process = entrypoint_process(*reference.argv, f"exp.train.log_dir={run.path}")
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    assert outcome(run.path) == reference.outcome


def has_reached(run: Run, place: str, step: int) -> bool:
    if place == "error_set.npz":
        return bool([*run.path.glob(".error_set.npz.*.tmp"), *run.path.glob("error_set.npz")])
    return max((r["step"] for r in read_metrics(Run(run.path / place))), default=0) >= step


def test_jtt_killed_in_its_stages_and_between_ends_with_the_same_bits(
    jtt, commands, tmp_path, survived
):
    argv, folder = jtt
    whole = {stage: outcome(folder / stage) for stage in ("stage_1", "stage_2")}
    rng, kills, number = random.Random(8), 0, 0
    while kills < JTT_KILLS:
        number += 1
        run = Run(tmp_path / f"jtt{number}")
        for place in ("stage_1", "error_set.npz", "stage_2"):
            process = commands.start(*argv, f"exp.train.log_dir={run.path}")
            wait_until(partial(has_reached, run, place, rng.randrange(1, 4)), process)
            process.kill()
            assert process.wait() in (-9, 0), process.output
            assert "Traceback" not in process.output and "error:" not in process.output
            kills += 1
        code, output = commands.run(*argv, f"exp.train.log_dir={run.path}")
        assert code == 0, output
        assert {stage: outcome(run.path / stage) for stage in whole} == whole
        assert Run(run.path).status()["state"] == "done" and left_over(run.path) == []
    survived["JTT runs killed in a stage or between, with the same bits"] += kills
