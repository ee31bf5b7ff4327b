"""Several processes on GPUs: batch norm is synchronised, and NCCL gives the results of one."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from src.models.build import Network
from src.runs.folder import Run
from src.training.checkpoints import load_checkpoint
from src.training.distributed import Ranks, _Gather
from tests.data.small_celeba import write_celeba
from tests.methods import test_all_methods as methods
from tests.training.test_distributed import in_processes

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
BOTH = "cpu:gloo,cuda:nccl"
METHODS = ("erm", "group_dro", "mixup", "lff")  # lff has two networks


def check_nccl() -> None:
    device, group = torch.device("cuda"), Ranks()
    rows = torch.randn(5, 3, device=device, requires_grad=True)
    gathered = _Gather.apply(rows, 5, group)
    gathered.square().sum().backward()
    torch.testing.assert_close(gathered, rows)
    torch.testing.assert_close(rows.grad, 2 * rows)
    dist.all_reduce(total := torch.ones(2, device=device))
    dist.all_reduce(decision := torch.tensor([3]), dist.ReduceOp.MAX)
    assert total.tolist() == [1, 1] and decision.tolist() == [3]


def test_a_group_has_gloo_for_decisions_and_nccl_for_tensors():
    in_processes(1, check_nccl, backend=BOTH)


def network_with_batch_norm(num_logits, seed, **_):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Conv2d(3, 8, 5, 4), nn.BatchNorm2d(8), nn.Tanh(), nn.AdaptiveAvgPool2d(1)]
        return Network(nn.Sequential(*layers, nn.Flatten()), nn.Linear(8, num_logits))


def train_on_gpus(data: Path, folder: Path, device: str) -> None:
    torch.backends.cudnn.allow_tf32 = False
    methods.build.build_model = network_with_batch_norm
    for name in METHODS:
        argv = methods.overrides(data, folder / name, name, 2)
        argv += ["exp.train.max_steps=20", "exp.train.total_epochs=3", f"exp.train.device={device}"]
        argv += ["exp.dataloader.batch_size=17", "exp.train.precision=fp32"]
        methods.entrypoint.main(methods.load_config([*argv, "exp.train.cuda_graph=false"]))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend, device", [("gloo", "cuda:0"), (BOTH, "cuda")])
def test_two_processes_on_gpus_give_the_results_of_one(tmp_path, backend, device):
    if backend == BOTH and torch.cuda.device_count() < 2:
        pytest.skip("NCCL takes one process a GPU, and there is one GPU")
    write_celeba(tmp_path / "celeba", [0] * 120 + [1] * 41 + [2] * 4)
    for size in (1, 2):
        folders = (tmp_path / "celeba", tmp_path / str(size))
        in_processes(size, train_on_gpus, *folders, device, backend=backend)
    for name in METHODS:
        one, two = (
            load_checkpoint(Run(tmp_path / size / name).checkpoint("last")) for size in "12"
        )
        assert one["step"] == two["step"] == 20
        for part in ("model", "objective", "method"):
            torch.testing.assert_close(two[part], one[part], atol=1e-4, rtol=1e-3, msg=name)
