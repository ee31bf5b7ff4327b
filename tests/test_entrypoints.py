"""train.py and test.py as users meet them, on a tiny CelebA."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import test as test_entrypoint
import train as entrypoint
from src.config.compose import launch, load_config
from src.data.celeba import load_annotations
from src.data.groupings import parse_grouping
from src.evaluation.logits import load_logits
from src.evaluation.results import task_figures
from src.io import UserError, read_json
from src.runs.folder import Run
from src.training.checkpoints import load_checkpoint
from tests.conftest import entrypoint_process
from tests.tiny_training import outcome

TWO_TASKS = "exp.dataset.groupings=[Young:Male,Bald:Chubby]"


def train(*overrides: str) -> Run:
    config = load_config(list(overrides))
    entrypoint.main(config)
    return Run(config.train.log_dir)


def evaluate(run: Run, *arguments: str) -> None:
    test_entrypoint.main(["--log_dir", str(run.path), *arguments])


def model_of(run: Run) -> dict[str, torch.Tensor]:
    return load_checkpoint(run.checkpoint("last"))["model"]


def same_weights(one: Run, other: Run) -> bool:
    others = model_of(other)
    return all(torch.equal(tensor, others[name]) for name, tensor in model_of(one).items())


@pytest.fixture(scope="module")
def run(tiny_overrides, tmp_path_factory) -> Run:
    """A finished run of two tasks and two epochs."""
    folder = tmp_path_factory.mktemp("logs") / "two tasks"
    return train(
        *tiny_overrides, TWO_TASKS, f"exp.train.log_dir='{folder}'", "exp.train.total_epochs=2"
    )


@pytest.fixture
def copy(run, tmp_path) -> Run:
    """The same run in a folder that may be spoilt."""
    shutil.copytree(run.path, tmp_path / "run")
    return Run(tmp_path / "run")


@pytest.fixture
def no_inference(monkeypatch) -> None:
    monkeypatch.setattr("src.evaluation.evaluator.predict", lambda *args, **options: 1 / 0)


# ---------------------------------------------------------------------------- train_erm.py


def test_a_run_leaves_what_the_design_says(run):
    assert run.status()["state"] == "done"
    names = {path.name for path in run.results.iterdir()}
    assert {"val_stats.json", "val_stats_1.json", "val_stats_2.json"} <= names
    assert {"val_logits_1.npz", "val_logits_2.npz"} <= names
    assert set(read_json(run.val_stats)["selected"]) == {
        *("best-avg", "best-group", "best-worst", "best-avg-Young", "best-avg-Bald"),
        *("best-group-Young", "best-group-Bald"),
    }
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    keys = set().union(*lines)
    assert {"train/loss", "train/Bald/loss", "val/Young/g3_acc", "val/Bald/worst_group_acc"} <= keys
    assert [line["epoch"] for line in lines if "val/Young/avg_acc" in line] == [1, 2]


def test_the_same_command_again_says_that_the_run_is_done(run, tiny_overrides, capsys, monkeypatch):
    monkeypatch.setattr(entrypoint, "train", lambda *args: 1 / 0)
    overrides = [*tiny_overrides, TWO_TASKS, f"exp.train.log_dir='{run.path}'"]
    train(*overrides, "exp.train.total_epochs=2")
    assert f"{run.path} is done already" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"another configuration \(exp.train.total_epochs: 2 there"):
        train(*overrides, "exp.train.total_epochs=3")


def test_streaming_through_a_dataloader_gives_the_weights_that_records_give(
    tiny_overrides, tmp_path
):
    runs = [
        train(
            *tiny_overrides,
            f"exp.train.log_dir={tmp_path / name}",
            f"exp.dataset.cache={name}",
            "exp.dataloader.batch_size=16",
            "exp.dataset.data_augmentation=true",
        )
        for name in ("records", "none")
    ]
    assert same_weights(*runs)


def test_lbtw_and_ones_as_task_weights_compose_and_the_weights_are_logged(tiny_overrides, tmp_path):
    run = train(
        *tiny_overrides,
        TWO_TASKS,
        f"exp.train.log_dir={tmp_path}",
        "exp.dataset.loss_balanced_task_weighting=true",
        "exp.dataset.task_weights=[1,1]",
        "exp.train.log_every_n_steps=1",
    )
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    first, second = (line for line in lines if "train/loss" in line)
    assert (first["train/Young/weight"], first["train/Bald/weight"]) == (1.0, 1.0)
    for task in ("Young", "Bald"):
        ratio = second[f"train/{task}/loss"] / first[f"train/{task}/loss"]
        assert second[f"train/{task}/weight"] == pytest.approx(ratio**0.5, rel=1e-5)


@pytest.mark.slow
def test_a_network_that_takes_no_small_images_ends_before_the_first_step(
    tiny_overrides, tmp_path, run_entrypoint
):
    code, output = run_entrypoint(
        "train.py", *tiny_overrides, f"exp.train.log_dir={tmp_path}", "exp.model.name=alexnet"
    )
    assert code == 2 and "Traceback" not in output
    assert "error: exp.model.name=alexnet takes no images of 32x32" in output


def test_without_group_labels_there_are_class_metrics_only(tiny_overrides, tmp_path, capsys):
    run = train(
        *tiny_overrides, f"exp.train.log_dir={tmp_path}", "exp.dataset.subgroup_labels=false"
    )
    assert "--ckpt_num best-class" in capsys.readouterr().out
    assert set(read_json(run.val_stats)["selected"]) == {"best-avg", "best-class"}
    assert list(task_figures(read_json(run.epoch_stats(1)))) == ["Blond_Hair"]
    evaluate(run, "--ckpt_num", "best-avg")
    result = read_json(run.stats("test", "best-avg"))
    assert [group["name"] for group in result["Blond_Hair"]["groups"]] == [
        "Blond_Hair=0",
        "Blond_Hair=1",
    ]
    with pytest.raises(SystemExit):
        evaluate(run, "--ckpt_num", "best-group")
    assert "use a number, last, best, best-avg" in capsys.readouterr().err


def test_missing_celeba_is_a_user_error_that_names_the_stand_in(tmp_path):
    with pytest.raises(UserError, match="exp/dataset=synthetic"):
        train(f"exp.dataset.root={tmp_path}", f"exp.train.log_dir={tmp_path / 'run'}")
    assert not (tmp_path / "run").exists()


def test_an_empty_split_is_a_user_error(tmp_path, tiny_celeba, tiny_overrides):
    root = tmp_path / "celeba"
    shutil.copytree(tiny_celeba, root)
    partition = root / "list_eval_partition.txt"
    partition.write_text(partition.read_text().replace(" 1\n", " 0\n"))
    with pytest.raises(UserError, match="the val split is empty"):
        train(*tiny_overrides, f"exp.dataset.root={root}", f"exp.train.log_dir={tmp_path / 'run'}")


def test_on_a_full_disk_a_run_ends_with_a_message_and_its_last_checkpoint(
    tiny_overrides, small_disk
):
    # A checkpoint is 2.9 MB; the second one needs as much again while the first one stays.
    folder = small_disk("5m") / "run"
    with pytest.raises(UserError, match="the disk is full; free some space and start the same"):
        train(*tiny_overrides, f"exp.train.log_dir={folder}", "exp.train.total_epochs=3")
    assert load_checkpoint(Run(folder).checkpoint("last"))["epoch"] == 1
    assert Run(folder).status()["state"] == "failed"


def test_mistakes_are_told_all_at_once_with_exit_code_2_and_no_traceback(run_entrypoint, tmp_path):
    code, output = run_entrypoint(
        "train.py",
        "exp=erm",
        f"exp.train.log_dir={tmp_path / 'run'}",
        "exp.optimizer.lr=abc",
        "exp.dataset.groupings=[Blonde_Hair:Male,",
        "Young:Young]",
        "exp.dataloader.smapler=rwg",
    )
    assert code == 2
    assert output.count("error: ") == 4 and "Traceback" not in output
    assert "did you mean 'Blond_Hair'?" in output
    assert "did you mean 'exp.dataloader.sampler'?" in output
    assert not (tmp_path / "run").exists()


def test_hydras_own_flags_show_help_and_the_job_with_aliases_resolved(run_entrypoint):
    code, output = run_entrypoint("train.py", "--cfg", "job", "exp=rwg", "exp.lr=0.5")
    assert code == 0 and "lr: 0.5" in output and "sampler: rwg" in output
    code, output = run_entrypoint("train_jtt.py", "--help")
    assert code == 0 and "exp.optimizer.lr=0.0001" in output and "learning rate" in output
    assert "exp=            " in output and ", erm, " in output and "(or exp.lr)" in output


def test_ctrl_c_before_training_ends_without_traceback(monkeypatch):
    def interrupted(config):
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.argv", ["train.py", "exp.train.log_dir=x"])
    with pytest.raises(SystemExit) as raised:
        launch(interrupted)
    assert raised.value.code == 130


# ---------------------------------------------------------------------------- test.py


def test_many_groupings_come_from_one_pass_and_later_ones_from_its_logits(
    copy, monkeypatch, tmp_path
):
    import src.evaluation.evaluator

    passes = []
    predict = src.evaluation.evaluator.predict
    monkeypatch.setattr(
        src.evaluation.evaluator,
        "predict",
        lambda *args, **kw: passes.append(1) or predict(*args, **kw),
    )
    three = '["Young:Male", "Young:Chubby+Male", "Bald:Chubby"]'
    evaluate(copy, "--ckpt_num", "2", "--groupings", three, "--save_json", str(tmp_path / "a.json"))
    assert len(passes) == 1
    result = read_json(tmp_path / "a.json")
    assert result == read_json(copy.stats("test", "2"))
    assert list(task_figures(result)) == ["Young:Male", "Young:Chubby+Male", "Bald:Chubby"]
    assert len(result["Young:Chubby+Male"]["groups"]) == 8
    logits = copy.logits("test", 2)
    before = logits.stat().st_mtime_ns
    evaluate(copy, "--ckpt_num", "last", "--groupings", "Bald:Male")  # the same epoch
    assert len(passes) == 1 and logits.stat().st_mtime_ns == before
    assert list(task_figures(read_json(copy.stats("test", "last")))) == ["Bald:Male"]
    evaluate(copy, "--ckpt_num", "2", "--split", "train")  # another split
    assert len(passes) == 2


def test_the_figures_are_those_of_the_logits_and_the_annotations(copy, tiny_celeba, tmp_path):
    evaluate(copy, "--ckpt_num", "1", "--groupings", "Young:Chubby")
    result = read_json(copy.stats("test", "1"))
    logits = load_logits(copy.logits("test", 1))
    rows = load_annotations(tiny_celeba, tmp_path).of_split("test")
    grouping = parse_grouping("Young:Chubby")
    right = (logits.values[:, 0] > 0) == (grouping.labels(rows) == 1)
    ids = grouping.group_ids(rows)
    assert logits.tasks == ("Young", "Bald") and len(right) == 24
    for group in result["Young:Chubby"]["groups"]:
        members = ids == group["id"]
        assert (group["correct"], group["total"]) == (right[members].sum(), members.sum())
    assert result["Young:Chubby"]["avg_acc"] == right.mean()
    assert result["checkpoint"] == {"name": "1", "epoch": 1, "hash": logits.source.checkpoint}
    assert result["split"] == "test"


def test_validation_and_test_py_agree_and_no_pass_is_needed(copy, no_inference):
    evaluate(copy, "--ckpt_num", "best-avg", "--split", "val")
    result = read_json(copy.stats("val", "best-avg"))
    epoch = read_json(copy.val_stats)["selected"]["best-avg"]
    validated = read_json(copy.epoch_stats(epoch))
    for name in ("Young:Male", "Bald:Chubby"):
        assert result[name] == validated[name]
    assert result["checkpoint"]["hash"] == validated["checkpoint"]["hash"]


def test_the_batch_size_of_a_pass_changes_no_prediction(copy):
    evaluate(copy, "--ckpt_num", "1", "--batch_size", "5")
    first = load_logits(copy.logits("test", 1)).values
    copy.logits("test", 1).unlink()
    evaluate(copy, "--ckpt_num", "1")
    second = load_logits(copy.logits("test", 1)).values
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_damaged_logits_are_made_anew_and_those_of_other_weights_or_rows_are_not_used(copy, capsys):
    evaluate(copy, "--ckpt_num", "1")
    path = copy.logits("test", 1)
    right = load_logits(path)
    whole = path.read_bytes()
    place = whole.index(right.values.tobytes())
    path.write_bytes(whole[:place] + b"\x00\x01" + whole[place + 2 :])
    evaluate(copy, "--ckpt_num", "1")
    assert "warning:" in capsys.readouterr().out
    np.testing.assert_array_equal(load_logits(path).values, right.values)
    shutil.copy(copy.logits("val", 2), path)  # other weights, other rows
    evaluate(copy, "--ckpt_num", "1")
    assert load_logits(path).source == right.source


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--groupings", "Male:Young"],
            "was not trained for Male:Young: its tasks are Young, Bald",
        ),
        (["--groupings", "Young:Mael"], "did you mean 'Male'"),
        (["--groupings", '["Young:Male"'], "not a JSON list"),
        (["--groupings", "[1]"], "use a list of texts"),
        (["--ckpt_num", "best-avg-Male"], "use a number, last, best, best-avg"),
        (["--ckpt_num", "7"], "is not kept (there are: "),
        (["--batch_size", "0"], "use 1 or more"),
        (["--device", "tpu"], "use auto, cpu or cuda"),
        (["--root", "/nowhere"], "no CelebA in '/nowhere'"),
        (["--save_json", "/dev/null/a.json"], "cannot write /dev/null/a.json"),
    ],
)
def test_a_wrong_argument_ends_with_2_and_says_what_is_allowed(copy, capsys, arguments, message):
    with pytest.raises(SystemExit) as raised:
        evaluate(copy, *arguments)
    assert raised.value.code == 2
    error = capsys.readouterr().err
    assert "error: " in error and message in error


def test_a_folder_that_is_no_run_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        evaluate(Run(tmp_path))
    assert f"{tmp_path} is not a run folder: config.yaml is missing" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_named_and_not_evaluated(copy, capsys):
    path = copy.checkpoint(1)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(SystemExit):
        evaluate(copy, "--ckpt_num", "1")
    assert "ckpt.1.pt cannot be read" in capsys.readouterr().err
    assert not copy.logits("test", 1).exists()


# ---------------------------------------------------------------------------- as processes


def start(overrides: list[str], folder: Path, *more: str):
    return entrypoint_process(
        "train.py",
        *overrides,
        f"exp.train.log_dir={folder}",
        "exp.dataloader.batch_size=8",
        "exp.train.total_epochs=2",
        "exp.train.log_every_n_steps=1",
        *more,
    )


def wait_for_step(run: Run, step: int, process) -> None:
    """Wait until the log has a line of `step`; 8 steps an epoch."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if run.metrics.exists() and f'"step": {step},' in run.metrics.read_text():
            return
        time.sleep(0.005)
    raise AssertionError(f"no step {step}: {process.communicate()[0]}")


@pytest.fixture(scope="module")
def uninterrupted(tiny_overrides, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("logs") / "whole"
    process = start(tiny_overrides, folder)
    assert process.communicate()[0] and process.returncode == 0
    return outcome(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGKILL"])
def test_a_process_stopped_in_mid_epoch_goes_on_with_the_same_command(
    tiny_overrides, tmp_path, uninterrupted, name
):
    number, run = signal.Signals[name], Run(tmp_path / "run")
    process = start(tiny_overrides, run.path)
    wait_for_step(run, 9, process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    killed = name == "SIGKILL"
    assert process.returncode == (-number if killed else 128 + number), output
    assert run.status()["state"] == ("failed" if killed else "stopped")
    assert load_checkpoint(run.checkpoint("last"))["step"] in ([8] if killed else range(9, 17))
    again = start(tiny_overrides, run.path)
    output, _ = again.communicate(timeout=60)
    assert again.returncode == 0 and "resuming at step" in output
    assert outcome(run.path) == uninterrupted


@pytest.mark.slow
def test_a_second_process_is_refused_while_the_first_one_trains(tiny_overrides, tmp_path):
    run = Run(tmp_path / "run")
    first = start(tiny_overrides, run.path, "exp.train.total_epochs=200")
    try:
        wait_for_step(run, 1, first)
        second = start(tiny_overrides, run.path, "exp.train.total_epochs=200")
        output, _ = second.communicate(timeout=60)
        assert second.returncode == 2 and "Traceback" not in output
        assert f"is being trained by process {first.pid} on {os.uname().nodename}" in output
    finally:
        first.terminate()
        first.communicate(timeout=60)
    assert run.status()["state"] == "stopped"


@pytest.mark.slow
def test_several_runs_in_one_call_have_a_folder_each(tiny_overrides, tmp_path, run_entrypoint):
    folder = tmp_path / "run-${exp.seed}"
    code, output = run_entrypoint(
        "train.py", "-m", *tiny_overrides, "exp.seed=0,1", f"exp.train.log_dir='{folder}'"
    )
    assert code == 0, output
    assert [Run(tmp_path / f"run-{seed}").status()["state"] for seed in (0, 1)] == ["done", "done"]
    assert not same_weights(Run(tmp_path / "run-0"), Run(tmp_path / "run-1"))


@pytest.mark.slow
def test_one_failed_job_does_not_end_a_sweep(tiny_overrides, tmp_path, run_entrypoint):
    folder = tmp_path / "run-${exp.optimizer.lr}"
    sweep = ["train.py", "-m", *tiny_overrides, f"exp.train.log_dir='{folder}'"]
    code, output = run_entrypoint(*sweep, "exp.lr=1e-3,1e30,1e-4")
    assert code == 2 and "Traceback" not in output
    assert "not all runs of this sweep succeeded" in output
    assert "exp.optimizer.lr=1e+30: the loss was not finite" in output
    done = sorted(path.name for path in tmp_path.iterdir() if Run(path).status()["state"] == "done")
    assert done == ["run-0.0001", "run-0.001"]
    code, output = run_entrypoint(*sweep, "exp.lrr=1,2")
    assert code == 2 and "exp.lrr: there is no such key" in output and "Traceback" not in output


@pytest.mark.slow
def test_a_sweep_runs_by_hydras_submitit_launcher(tiny_overrides, tmp_path, run_entrypoint):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    sweep = ["train.py", "-m", "hydra/launcher=submitit_local", *tiny_overrides, "exp.seed=0,1"]
    sweep += [f"exp.train.log_dir='{tmp_path}/seed${{exp.seed}}'"]
    code, output = run_entrypoint(*sweep, f"hydra.sweep.dir={tmp_path}/multirun")
    assert code == 0, output
    assert [Run(tmp_path / f"seed{seed}").status()["state"] for seed in (0, 1)] == ["done"] * 2
