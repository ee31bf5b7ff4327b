"""A run that was stopped anywhere and started again equals an uninterrupted one, bit for bit."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from src.io import UserError, read_json
from src.methods.lff import LfF
from src.methods.mixup import Lisa, Mixup
from src.methods.options import LffOptions, LisaOptions, MixupOptions, PdeOptions
from src.methods.pde import PDE
from src.objective.options import (
    FAMOOptions,
    GroupDROOptions,
    LDAMOptions,
    STCHOptions,
    TorchJDOptions,
)
from src.runs.folder import Run
from src.runs.selection import find_best_ckpt
from src.runs.signals import Stopped
from src.training import loop as training
from src.training import validation
from src.training.checkpoints import load_checkpoint, save_checkpoint
from tests.tiny_training import at, kill_at, make_trainer, outcome

REPOSITORY = Path(__file__).parents[2]


def send(number: signal.Signals):
    return lambda: os.kill(os.getpid(), number)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    make_trainer(folder).train()
    return outcome(folder)


def stop_and_go_on(folder: Path, hook, number: signal.Signals, **options) -> dict:
    """What a run that was stopped by a signal says then, and what it leaves at its end."""
    with pytest.raises(Stopped) as raised:
        make_trainer(folder, hook=hook, **options).train()
    assert raised.value.code == 128 + number
    assert Run(folder).status()["state"] == "stopped"
    make_trainer(folder, **options).train()
    return outcome(folder)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2"])
def test_a_signal_in_mid_epoch_saves_and_the_run_goes_on_as_if_nothing_had_been(
    tmp_path, uninterrupted, name, capsys
):
    number = signal.Signals[name]
    assert stop_and_go_on(tmp_path, at(4, send(number)), number) == uninterrupted
    said = capsys.readouterr().out
    assert "stopped at step 5 and saved; the same command resumes" in said
    assert "resuming at step 5" in said


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_signal_during_validation_repeats_it_and_changes_nothing(tmp_path, uninterrupted, epoch):
    hook = at(3 * epoch, send(signal.SIGTERM), validating=True)
    assert stop_and_go_on(tmp_path, hook, signal.SIGTERM) == uninterrupted


def test_a_run_stopped_at_every_step_equals_an_uninterrupted_one(tmp_path, uninterrupted):
    for step in range(9):
        with pytest.raises(Stopped):
            make_trainer(tmp_path, hook=at(step, send(signal.SIGTERM))).train()
    make_trainer(tmp_path).train()
    assert outcome(tmp_path) == uninterrupted


@pytest.mark.parametrize(
    "options",
    [
        {"lbtw": True},
        {"dropout": 0.5},
        {"data_augmentation": True},
        {"schedule": "cosine"},
        {"max_steps": 7},
        {"precision": "fp16"},
        {"keep_ckpts": "best"},
        {"log_every_n_steps": 50},
        {"name": "adamw"},
        {"objective": {"task": "dro", "dro": GroupDROOptions(automatic_adjustment=True)}},
        {"objective": {"task": "cvar_groups"}},
        {"objective": {"task": "environment_mean", "penalty": "irm"}},
        {"objective": {"example": "ldam", "ldam": LDAMOptions(drw_from_epoch=2)}},
        {"objective": {"across": "uw"}},
        {"objective": {"across": "dwa"}},
        {"objective": {"across": "rlw"}},
        {"objective": {"across": "stch", "stch": STCHOptions(warmup_epochs=1)}},
        {"objective": {"across": "task_dro"}},
        {"objective": {"across": "famo"}},
        {"objective": {"gradient": "upgrad"}},
        {"objective": {"gradient": "torchjd", "torchjd": TorchJDOptions(aggregator="PCGrad")}},
        {"objective": {"gradient": "pcgrad", "task": "dro"}},
        {"objective": {"across": "famo", "famo": FAMOOptions(next_batch=True)}},
        {"method": Mixup, "method_options": MixupOptions()},
        {"method": Lisa, "method_options": LisaOptions(), "total_epochs": 9},
        {"method": LfF, "method_options": LffOptions()},
        {"method": PDE, "method_options": PdeOptions(warmup_epochs=1, num_added=2, interval=1)},
    ],
    ids=lambda options: "-".join(map(str, next(iter(options.items())))),
)
def test_every_setting_resumes_in_mid_epoch(tmp_path, options):
    make_trainer(tmp_path / "whole", **options).train()
    hook = at(4, send(signal.SIGTERM))
    again = stop_and_go_on(tmp_path / "stopped", hook, signal.SIGTERM, **options)
    assert again == outcome(tmp_path / "whole")


class Killed(BaseException):
    pass


def die():
    raise Killed


def break_off(folder: Path, place: str, **options) -> None:
    """A run that ends without a word at a place of its second epoch, see `kill_at`."""
    with pytest.raises(Killed), pytest.MonkeyPatch.context() as patches:
        for module, name in (
            (training, "save_checkpoint"),
            (training, "link_checkpoint"),
            (validation, "record_validation"),
            (training, "prune"),
        ):
            patches.setattr(module, name, getattr(module, name))  # put back at the end
        make_trainer(folder, hook=kill_at(place, die), **options).train()


@pytest.mark.parametrize("place", ["step", "validation", "saved", "linked", "chosen"])
@pytest.mark.parametrize("often", [True, False], ids=["saved at every step", "saved at epochs"])
def test_a_run_that_broke_off_anywhere_goes_on_from_its_last_checkpoint(
    tmp_path, uninterrupted, place, often
):
    minutes = 1e-9 if often else 10.0
    break_off(tmp_path, place, save_every_minutes=minutes)
    make_trainer(tmp_path, save_every_minutes=minutes).train()
    assert outcome(tmp_path) == uninterrupted


@pytest.mark.parametrize("often", [False, True])
def test_a_run_that_validates_every_second_epoch_goes_on(tmp_path, often):
    options = {"total_epochs": 5, "val_every_n_epochs": 2, "keep_ckpts": [3]}
    make_trainer(tmp_path / "whole", **options).train()
    minutes = 1e-9 if often else 10.0
    break_off(tmp_path / "broken", "step", save_every_minutes=minutes, **options)
    make_trainer(tmp_path / "broken", save_every_minutes=minutes, **options).train()
    assert outcome(tmp_path / "broken") == outcome(tmp_path / "whole")


@pytest.mark.parametrize("place", ["saved", "linked", "chosen", "pruned"])
@pytest.mark.parametrize("epochs", [2, 3], ids=["in the last epoch", "before it"])
def test_a_named_checkpoint_is_on_the_disk_and_what_is_not_named_goes(tmp_path, place, epochs):
    """Whatever instant an evaluation meets: val_stats.json names no epoch before it is saved."""
    options = {"keep_ckpts": "best", "total_epochs": epochs}
    make_trainer(tmp_path / "whole", **options).train()
    run = Run(tmp_path / "broken off")
    break_off(run.path, place, **options)
    for rule in run.history()["selected"]:
        load_checkpoint(run.checkpoint(find_best_ckpt(run, rule)))
    make_trainer(run.path, **options).train()
    assert outcome(run.path) == outcome(tmp_path / "whole")


def test_a_run_killed_by_sigkill_goes_on(tmp_path, uninterrupted):
    child = subprocess.run(
        [sys.executable, "-m", "tests.tiny_training", str(tmp_path), "step"],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert child.returncode == -signal.SIGKILL
    assert Run(tmp_path).status()["state"] == "failed"  # its process died
    make_trainer(tmp_path).train()
    assert outcome(tmp_path) == uninterrupted


def test_a_damaged_last_checkpoint_is_passed_over_and_the_result_is_the_same(
    tmp_path, uninterrupted, capsys
):
    with pytest.raises(Stopped):
        make_trainer(tmp_path, hook=at(7, send(signal.SIGTERM))).train()
    last = Run(tmp_path).checkpoint("last")
    damaged = bytearray(last.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 200] = bytes(200)  # more than the padding between two tensors
    last.write_bytes(damaged)
    make_trainer(tmp_path).train()
    said = capsys.readouterr().out
    assert "warning:" in said and "resuming at step 6" in said
    assert outcome(tmp_path) == uninterrupted


FOREIGN = {
    "a model alone": lambda state: {"model": state["model"], "step": 6},
    "another network": lambda state: state | {"model": {"fc.weight": torch.zeros(2, 2)}},
    "an epoch after the last": lambda state: state | {"epoch": 9, "step": 20},
    "no optimizer": lambda state: state | {"optimizer": {}},
    "sums of one task": lambda state: state | {"sums": state["sums"][:4]},
}


@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN)
def test_a_sound_checkpoint_of_something_else_is_named(tmp_path, change):
    make_trainer(tmp_path, total_epochs=2).train()
    last = Run(tmp_path).checkpoint("last")
    save_checkpoint(last, change(load_checkpoint(last)))
    with pytest.raises(
        UserError, match=r"ckpt\.last\.pt does not hold this run's state \(.+\): put"
    ):
        make_trainer(tmp_path).train()


def test_with_no_sound_checkpoint_the_run_begins_again(tmp_path, uninterrupted):
    with pytest.raises(Stopped):
        make_trainer(tmp_path, hook=at(4, send(signal.SIGTERM))).train()
    for path in Run(tmp_path).ckpts.iterdir():
        path.write_bytes(b"")
    make_trainer(tmp_path).train()
    assert outcome(tmp_path) == uninterrupted


def test_a_finished_run_started_again_takes_no_step(tmp_path, uninterrupted):
    make_trainer(tmp_path).train()
    last = Run(tmp_path).checkpoint("last").stat()
    make_trainer(tmp_path, hook=lambda trainer: 1 / 0).train()
    assert Run(tmp_path).checkpoint("last").stat().st_mtime_ns == last.st_mtime_ns
    assert outcome(tmp_path) == uninterrupted


def test_a_signal_after_the_last_validation_leaves_the_run_done(tmp_path):
    number = signal.SIGTERM
    trainer = make_trainer(tmp_path)
    save = trainer.save

    def save_and_signal(name=None):
        save(name)
        if name == 3:
            os.kill(os.getpid(), number)

    trainer.save = save_and_signal
    trainer.train()
    assert Run(tmp_path).status()["state"] == "done"


def test_a_run_that_failed_on_a_bad_step_can_be_started_again(tmp_path, uninterrupted):
    def break_weights(trainer):
        if trainer.step == 4 and trainer.model.training:
            trainer.model.head.bias.data.fill_(float("nan"))

    with pytest.raises(UserError):
        make_trainer(tmp_path, hook=break_weights).train()
    assert read_json(Run(tmp_path).status_file)["state"] == "failed"
    make_trainer(tmp_path).train()
    assert outcome(tmp_path) == uninterrupted
