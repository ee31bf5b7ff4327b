"""Checkpoints: whole, checked, and only the wanted ones kept."""

import errno
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.io import UserError
from src.runs.folder import Run
from src.training.checkpoints import (
    link_checkpoint,
    load_checkpoint,
    load_newest,
    model_hash,
    prune,
    save_checkpoint,
)

A, B = "head.weight", "backbone.count"
STATE = {"model": {A: torch.arange(12.0).reshape(3, 4), B: torch.tensor(7)}, "step": 3}


def equal(one: dict, other: dict) -> bool:
    return one["step"] == other["step"] and all(
        torch.equal(tensor, other["model"][name]) for name, tensor in one["model"].items()
    )


def save_epochs(run: Run, *epochs: int | str) -> None:
    for epoch in epochs:
        step = epoch if isinstance(epoch, int) else 100
        save_checkpoint(run.checkpoint(epoch), STATE | {"step": step})


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(tmp_path / "run")


def test_a_checkpoint_comes_back_and_is_read_without_pickled_code(tmp_path):
    save_checkpoint(tmp_path / "ckpt.1.pt", STATE)
    assert equal(load_checkpoint(tmp_path / "ckpt.1.pt"), STATE)
    assert torch.load(tmp_path / "ckpt.1.pt", weights_only=True).keys() == STATE.keys()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("ckpt") / "ckpt.1.pt"
    save_checkpoint(path, STATE)
    return path, path.read_bytes()


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_flipped_bit_is_noticed_or_harmless(saved, data):
    path, whole = saved
    damaged = bytearray(whole)
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged[place] ^= data.draw(st.sampled_from([1, 2, 16, 128, 255]))
    path.write_bytes(damaged)
    try:
        assert equal(load_checkpoint(path), STATE)
    except UserError as error:
        assert "cannot be read" in str(error) and str(path) in str(error)


def test_a_flipped_bit_in_a_weight_is_noticed(saved):
    path, whole = saved
    place = whole.index(STATE["model"][A].numpy().tobytes())
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(UserError, match="is damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("length", [0, 1, 500, -1])
def test_a_truncated_checkpoint_is_a_user_error(saved, length):
    path, whole = saved
    path.write_bytes(whole[:length])
    with pytest.raises(UserError, match="cannot be read"):
        load_checkpoint(path)


def test_a_missing_checkpoint_and_one_without_model_are_user_errors(tmp_path):
    with pytest.raises(UserError, match=r"no such checkpoint; .* try again"):
        load_checkpoint(tmp_path / "ckpt.1.pt")
    torch.save({"step": 1}, tmp_path / "ckpt.1.pt")
    with pytest.raises(UserError, match="it holds no model"):
        load_checkpoint(tmp_path / "ckpt.1.pt")


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(run, capsys):
    save_epochs(run, 9, 10, "last")
    assert load_newest(run)["step"] == 100
    run.checkpoint("last").write_bytes(b"rubbish")
    assert load_newest(run)["step"] == 10  # the highest number, not the last name
    assert "warning:" in (said := capsys.readouterr().out) and "ckpt.last.pt" in said
    run.checkpoint(10).write_bytes(b"")
    assert load_newest(run)["step"] == 9
    run.checkpoint(9).unlink()
    assert load_newest(run) is None


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), MemoryError()])
def test_a_checkpoint_that_cannot_be_read_now_is_not_passed_over(run, monkeypatch, error):
    """Else the run would go on from an older one, and its work since then be lost."""

    def fail(path):
        raise error

    save_epochs(run, 9, "last")
    monkeypatch.setattr("src.training.checkpoints.read_tensors", fail)
    with pytest.raises(UserError, match=r"ckpt\.last\.pt could not be read .*may be sound"):
        load_newest(run)


def test_a_second_name_is_the_same_file_and_saving_anew_leaves_the_other_alone(run):
    save_epochs(run, 1)
    link_checkpoint(run.checkpoint(1), run.checkpoint("last"))
    assert run.checkpoint("last").samefile(run.checkpoint(1))
    save_epochs(run, "last")
    assert load_checkpoint(run.checkpoint(1))["step"] == 1
    assert load_checkpoint(run.checkpoint("last"))["step"] == 100


def test_a_second_name_is_a_copy_where_links_do_not_exist(run, monkeypatch):
    def no_links(*args):
        raise OSError

    monkeypatch.setattr(os, "link", no_links)
    save_epochs(run, 1)
    link_checkpoint(run.checkpoint(1), run.checkpoint("last"))
    assert load_checkpoint(run.checkpoint("last"))["step"] == 1


def test_on_a_full_disk_the_message_says_so_and_the_last_checkpoint_stays(small_disk):
    folder = small_disk("256k")
    path = folder / "ckpt.last.pt"
    save_checkpoint(path, STATE)
    with pytest.raises(UserError, match=r"ckpt\.last\.pt: the disk is full; free some space"):
        save_checkpoint(path, {"model": {"a": torch.zeros(100_000)}, "step": 4})
    assert equal(load_checkpoint(path), STATE)
    assert [entry.name for entry in folder.iterdir()] == ["ckpt.last.pt"]


def test_the_hash_of_a_model_depends_on_names_shapes_and_values_only():
    tensor = torch.arange(24.0).reshape(1, 2, 3, 4)
    first = model_hash({"a": tensor, "b": torch.tensor(1)})
    assert first == model_hash({"b": torch.tensor(1), "a": tensor.clone()})
    assert first == model_hash(
        {"a": tensor.to(memory_format=torch.channels_last), "b": torch.tensor(1)}
    )
    assert first != model_hash({"a": tensor.reshape(2, 12), "b": torch.tensor(1)})
    assert first != model_hash({"c": tensor, "b": torch.tensor(1)})
    changed = tensor.clone()
    changed[0, 0, 0, 0] = -0.0
    assert first != model_hash({"a": changed, "b": torch.tensor(1)})


def test_only_chosen_epochs_and_the_last_are_kept(run):
    save_epochs(run, 1, 2, 3, 4, 10, "last")
    prune(run, {2, 3, 10})
    assert run.saved_epochs() == [2, 3, 10]
    assert run.checkpoint("last").exists()


def test_equal_states_make_equal_files(tmp_path):
    """torch.save would put the name of the file into it, and ours is a random one at first."""
    for name in ("ckpt.1.pt", "ckpt.2.pt"):
        save_checkpoint(tmp_path / name, STATE)
    assert (tmp_path / "ckpt.1.pt").read_bytes() == (tmp_path / "ckpt.2.pt").read_bytes()


def test_a_first_edition_checkpoint_loads_under_todays_names(tmp_path):
    old = {"conv1.weight": torch.ones(2), "fc.weight": torch.zeros(1, 4), "fc.bias": torch.ones(1)}
    save_checkpoint(tmp_path / "ckpt.1.pt", {"model": old, "step": 1})
    state = load_checkpoint(tmp_path / "ckpt.1.pt")
    assert [*state["model"]] == ["backbone.conv1.weight", "head.weight", "head.bias"]
    assert state["hash"] == model_hash(old)
