"""Command lines of methods, whose stages are processes of their own, and what they print."""

import shlex
import sys

import pytest

import test as evaluation
import train as entrypoint
from src.api import open_run

pytestmark = pytest.mark.slow

REFERENCE = "exp.stage_1.run={finished_run}"
COMMANDS = [
    "exp=group_dro exp.dataset.groups_known=0.5",
    "exp=lisa exp.lisa.mix=mixup",
    "exp=lff exp.dataset.subgroup_labels=false",
    "exp=pde exp.pde.warmup_epochs=1 exp.train.total_epochs=2",
    "exp=ldam exp.optimizer.schedule=cosine",
    "exp=mixup exp.mixup.per=batch exp.dataset.data_augmentation=true",
    f"exp=crt exp.crt.kind=reweight exp.crt.balance=class {REFERENCE}",
    f"exp=eiil exp.eiil.solver=adam exp.eiil.steps=50 {REFERENCE}",
    f"exp=xrm exp.xrm.settings=2 exp.xrm.steps=20 exp.dataset.subgroup_labels=false {REFERENCE}",
    f"exp=cnc exp.cnc.rows=2 exp.cnc.units=2 exp.cnc.max_units=4 {REFERENCE}",
]


@pytest.mark.parametrize("command", COMMANDS, ids=[text.split()[0] for text in COMMANDS])
def test_a_command_line_trains_and_prints_its_evaluation(
    tiny_overrides, finished_run, tmp_path, monkeypatch, capsys, command
):
    own = shlex.split(command.format(finished_run=finished_run))
    tasks = "exp.dataset.groupings=[Young:Male,Bald:Chubby]"
    folder = f"exp.train.log_dir={tmp_path / 'run'}"
    monkeypatch.setattr(sys, "argv", ["train.py", *tiny_overrides, tasks, folder, *own])
    entrypoint.entrypoint()
    assert open_run(tmp_path / "run").status()["state"] == "done"
    output = capsys.readouterr().out
    (line,) = [text for text in output.splitlines() if text.startswith("evaluate it: ")]
    evaluation.main(shlex.split(line)[4:])
