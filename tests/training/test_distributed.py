"""Several processes on the CPU (gloo) give the results of one."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import BatchNormAct2d, SyncBatchNormAct
from torch import nn

import train
from src.config.compose import load_config
from src.data.batches import iterate_batches
from src.io import UserError, read_json
from src.models.build import Network, freeze_backbone
from src.runs.folder import Run
from src.sampling.epochs import epoch_positions, split_batches
from src.sampling.plans import erm
from src.training.checkpoints import load_checkpoint
from src.training.distributed import Ranks, synchronise_batch_norm
from src.training.metrics_log import read_metrics
from tests.conftest import REPOSITORY
from tests.data.small_celeba import write_celeba
from tests.methods import test_all_methods as methods
from tests.tiny_training import MemoryImages

IN_LOOP = {method: [] for method in methods.METHODS if method not in methods.STAGED}
ACROSS = ("uw", "dwa", "famo", "lbtw")
RUNS = IN_LOOP | {name: ["exp=erm", f"exp.objective.across={name}"] for name in ACROSS}
RUNS["upgrad"] = ["exp=group_dro", "exp.objective.gradient=upgrad"]


def ranks(rank: int, size: int) -> Ranks:
    made = Ranks()
    made.rank, made.size = rank, size
    return made


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 6))
def test_processes_share_an_epoch_without_loss_or_repeat(examples, batch_size, size):
    epoch = epoch_positions(erm(examples), seed=0, epoch=1)
    seen = []
    for batch in split_batches(epoch, batch_size):
        parts = [batch[ranks(rank, size).share(len(batch))] for rank in range(size)]
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        seen.extend(parts)
    assert np.concatenate(seen).tolist() == epoch.tolist()
    assert sorted(epoch) == list(range(examples))


def test_augmented_images_do_not_depend_on_the_number_of_processes():
    images = MemoryImages(20, full_frame=True)
    batches = [np.arange(9), np.arange(9, 20)]
    whole = [batch for batch, _ in iterate_batches(images, batches, augment=(3, 0))]
    for rank in range(2):
        share = ranks(rank, 2).share
        own = iterate_batches(images, batches, augment=(3, 0), share=share)
        for (part, positions), batch, order in zip(own, whole, batches):
            assert positions.tolist() == order[share(len(order))].tolist()
            assert torch.equal(part, batch[share(len(order))])


def test_batch_norm_over_processes_needs_gpus():
    model = nn.Sequential(nn.BatchNorm2d(2))
    assert synchronise_batch_norm(model, ranks(0, 1), torch.device("cpu")) is model
    with pytest.raises(UserError, match="batch norm over several processes needs GPUs"):
        synchronise_batch_norm(model, ranks(0, 2), torch.device("cpu"))
    freeze_backbone(model, "bn")
    assert synchronise_batch_norm(model, ranks(0, 2), torch.device("cpu")) is model


def test_batch_norm_of_all_libraries_is_synchronised_unless_frozen():
    frozen, own, timms = nn.BatchNorm2d(2), nn.BatchNorm2d(2), BatchNormAct2d(2)
    freeze_backbone(frozen, "bn")
    model = nn.Sequential(frozen, nn.Sequential(own, timms))
    weights = list(model.parameters())
    synchronise_batch_norm(model, ranks(0, 2), torch.device("cuda"))
    assert [type(layer) for layer in (model[0], *model[1])] == [
        nn.BatchNorm2d,
        nn.SyncBatchNorm,
        SyncBatchNormAct,
    ]
    assert all(after is before for after, before in zip(model.parameters(), weights, strict=True))
    assert model[1][1].act is timms.act
    values = torch.tensor([[[[-2.0]], [[3.0]]]])
    torch.testing.assert_close(model.eval()(values), values.clamp(min=0), rtol=1e-4, atol=0)


def test_torchjd_needs_one_process(tiny_overrides, tmp_path):
    argv = [*tiny_overrides, "exp.objective.gradient=torchjd", "exp.train.num_devices=2"]
    with pytest.raises(UserError, match="needs the Jacobian of the whole batch"):
        train.main(load_config([*argv, f"exp.train.log_dir={tmp_path / 'run'}"]))
    assert not (tmp_path / "run").exists()


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return str(listener.getsockname()[1])


def in_processes(size: int, work, *arguments, backend: str = "gloo") -> None:
    """Call work(*arguments) in `size` processes of one group."""
    mp.spawn(_in_group, (size, free_port(), backend, work, arguments), nprocs=size)


def _in_group(rank: int, size: int, port: str, backend: str, work, arguments) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port}
    dist.init_process_group(backend)
    work(*arguments)
    dist.destroy_process_group()


def check_gradients() -> None:
    group = Ranks()
    with group.connected(torch.device("cpu")):
        assert group.agree(group.rank, -group.rank) == [group.size - 1, 0]
        for count in (2, 7, 12):
            torch.manual_seed(0)
            rows, layer = torch.randn(count, 3), nn.Linear(3, 2)
            parameters, logits = list(layer.parameters()), layer(rows)
            some_objective(logits).backward()
            wanted = [p.grad.clone() for p in parameters]
            layer.zero_grad()
            found = group.gather(layer(rows[group.share(count)]), count)
            torch.testing.assert_close(found, logits)
            some_objective(found).backward()
            group.sum_gradients(parameters)
            torch.testing.assert_close([p.grad for p in parameters], wanted)


def some_objective(logits: torch.Tensor) -> torch.Tensor:
    """A function that is no mean over examples."""
    return logits.exp().sum(0).max() + logits.sort(0).values[0].sum()


@pytest.mark.slow
def test_gradients_are_those_of_the_whole_batch():
    in_processes(3, check_gradients)


def network_without_batch_norm(num_logits, seed, **_):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.Tanh(), nn.AdaptiveAvgPool2d(1))
        return Network(nn.Sequential(backbone, nn.Flatten()), nn.Linear(8, num_logits))


def train_all(data: Path, folder: Path) -> None:
    """Train by every method without stages, and some rules across tasks: 17 or 18 rows a step."""
    methods.build.build_model = network_without_batch_norm
    for name, changes in RUNS.items():
        argv = methods.overrides(data, folder / name, name, 2)
        argv = changes + argv[bool(changes) :]
        argv += ["exp.train.max_steps=20", "exp.train.total_epochs=3"]
        argv += ["exp.dataloader.batch_size=17", "exp.dataset.data_augmentation=true"]
        methods.entrypoint.main(methods.load_config(argv))


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> tuple[Path, Path]:
    """A data set, and runs by one process on it."""
    folder = tmp_path_factory.mktemp("alone")
    write_celeba(folder / "celeba", [0] * 120 + [1] * 41 + [2] * 4)
    in_processes(1, train_all, folder / "celeba", folder)
    return folder / "celeba", folder


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_every_method_gives_the_results_of_one_process(alone, tmp_path, size):
    data, reference = alone
    in_processes(size, train_all, data, tmp_path)
    for method in os.environ.get("ONLY", " ".join(IN_LOOP)).split():
        run, one = Run(tmp_path / method), Run(reference / method)
        ours, theirs = (load_checkpoint(r.checkpoint("last")) for r in (run, one))
        assert ours["step"] == theirs["step"]
        for part in ("model", "objective", "method"):
            close = 1e-6 if method == "group_dro" and part == "objective" else 1e-5  # its q
            torch.testing.assert_close(ours[part], theirs[part], atol=close, rtol=close, msg=method)
        for line, other in zip(read_metrics(run), read_metrics(one), strict=True):
            for key in line.keys() - {"time/now", "time/images_per_second", "time/waiting"}:
                assert line[key] == pytest.approx(other[key], abs=1e-5), (method, key)
        figures = [read_json(r.val_stats)["selected"] for r in (run, one)]
        assert figures[0] == figures[1], method


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_process_ends_all_and_any_number_resumes(tmp_path):
    argv = ["train.py", "exp=group_dro", *on_features(tmp_path), "exp.train.total_epochs=400"]
    argv += ["exp.train.max_steps=700", "exp.train.save_every_minutes=0.001"]
    run = Run(tmp_path / "run")

    def start(processes: int) -> subprocess.Popen:
        command = [sys.executable, *argv, f"exp.train.num_devices={processes}"]
        return subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)

    process = start(2)
    wait_for_step(run, 20, process)
    os.kill(newest_child(process.pid), signal.SIGKILL)
    errors = process.communicate(timeout=200)[1]
    assert process.returncode not in (0, None)
    assert "the same command resumes" in errors and "Traceback" not in errors
    for processes in (3, 2):
        process = start(processes)
        wait_for_step(run, max(line["step"] for line in read_metrics(run)) + 20, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(200) == 128 + signal.SIGTERM
        assert run.status()["state"] == "stopped"
    process = start(1)
    assert process.wait(300) == 0
    assert run.status()["state"] == "done"
    steps = [line["step"] for line in read_metrics(run) if "train/loss" in line]
    assert steps == list(range(1, 701))


def on_features(folder: Path) -> list[str]:
    """Overrides of a run in `folder`/run on features of 60 examples, 40 of them for training."""
    rng = np.random.default_rng(0)
    rows = {"y": rng.integers(0, 2, 60), "sex": rng.integers(0, 2, 60)}
    rows["split"] = ["train", "train", "val"] * 20
    pd.DataFrame(rows).to_csv(folder / "metadata.csv", index=False)
    np.save(folder / "features.npy", rng.normal(0, 1, (60, 5)).astype(np.float32))
    argv = ["exp/dataset=table", "exp/model=linear", f"exp.dataset.root={folder}"]
    argv += [f"exp.dataset.features={folder / 'features.npy'}", "exp.dataset.groupings=[y:sex]"]
    argv += [f"exp.dataset.cache_dir={folder / 'cache'}", "exp.dataloader.batch_size=9"]
    argv += ["exp.train.device=cpu", "exp.train.tensorboard=false", "exp.lr=0.01"]
    return [*argv, "exp.train.log_every_n_steps=1", f"exp.train.log_dir={folder / 'run'}"]


def wait_for_step(run: Run, step: int, process: subprocess.Popen) -> None:
    for _ in range(2000):
        time.sleep(0.1)
        assert process.poll() is None, process.communicate()[1]
        if run.metrics.exists() and any(line["step"] >= step for line in read_metrics(run)):
            return
    raise AssertionError(f"no step {step}")


def newest_child(pid: int) -> int:
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=True)
    return max(map(int, listed.stdout.split()))
