"""Shared fixtures: a tiny CelebA, the real one where it is at hand, entrypoints as processes."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Bits are promised for a given number of threads, so tests and the processes they start have one,
# whatever the machine. It must be set before torch is loaded.
os.environ["OMP_NUM_THREADS"] = "1"

from src.standin.shapes import draw_shapes
from tests.data.small_celeba import write_celeba

REPOSITORY = Path(__file__).parent.parent


def pytest_configure(config: pytest.Config) -> None:
    # A busy machine may be slow; pytest's own time limit catches hangs.
    settings.register_profile("no deadline", settings(settings.default, deadline=None))
    settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def tiny_celeba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CelebA folder of 64 train, 24 val and 24 test images with random attributes."""
    root = tmp_path_factory.mktemp("data") / "celeba"
    write_celeba(root, [0] * 64 + [1] * 24 + [2] * 24)
    return root


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a metadata.csv: 120 train, 60 val and 60 test pictures of three shapes."""
    root = tmp_path_factory.mktemp("shapes")
    draw_shapes(root, num_train=120, num_test=60, usual=0.5)
    return root


@pytest.fixture(scope="session")
def tiny_overrides(tiny_celeba: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides of a run on it that takes about a second: two steps an epoch, one epoch."""
    cache = tmp_path_factory.mktemp("cache")
    return [
        f"exp.dataset.root={tiny_celeba}",
        f"exp.dataset.cache_dir={cache}",
        "exp.dataset.target_resolution=[32,32]",
        "exp.model.name=shufflenet_v2_x0_5",
        "exp.model.pretrained=false",
        "exp.dataloader.batch_size=32",
        "exp.dataloader.num_workers=1",
        "exp.train.device=cpu",
        "exp.train.total_epochs=1",
        "exp.train.tensorboard=false",
    ]


@pytest.fixture(scope="session")
def finished_run(tiny_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of two tasks; tests must not change it."""
    import train
    from src.config.compose import load_config

    folder = tmp_path_factory.mktemp("logs") / "finished"
    groupings = "exp.dataset.groupings=[Young:Male,Bald:Chubby]"
    train.main(load_config([*tiny_overrides, groupings, f"exp.train.log_dir={folder}"]))
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes a folder on a file system of its own, such as `small_disk("256k")`."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("a small file system can be mounted by root only")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="session")
def celeba_root() -> Path:
    """The real CelebA: the folder that CELEBA_ROOT names."""
    if "CELEBA_ROOT" not in os.environ:
        pytest.skip("set CELEBA_ROOT to the folder with list_attr_celeba.txt")
    return Path(os.environ["CELEBA_ROOT"])


def entrypoint_process(*command: object, **options) -> subprocess.Popen:
    """Start `python train_erm.py ...` on one thread, with its output in a pipe."""
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


@pytest.fixture(scope="session")
def run_entrypoint() -> Callable[..., tuple[int, str]]:
    """Run `python train_erm.py ...` to its end; its exit code and everything it printed."""

    def run(*command: object) -> tuple[int, str]:
        process = entrypoint_process(*command)
        output, _ = process.communicate(timeout=300)
        return process.returncode, output

    return run
