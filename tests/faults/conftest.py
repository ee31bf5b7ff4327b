"""Fault tests: everything in this folder is slow, and prints its counts at the end of a run."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.commands import Commands, build_shim
from tests.faults.tools import (
    Argv,
    draw_faces,
    make_run,
    make_seeds,
    prepare_data,
    report,
    spurious_task,
)

# How many kills in all: 25 in CI, `make faults` asks for 200. Other counts grow with it.
KILLS = int(os.environ.get("FAULT_KILLS", "25"))
_counts: Counter = Counter()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(900 * max(1, KILLS // 25)))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # a worker of pytest-xdist
        session.config.workeroutput["survived"] = dict(_counts)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    _counts.update(getattr(node, "workeroutput", {}).get("survived", {}))


def pytest_terminal_summary(terminalreporter) -> None:
    if _counts:
        terminalreporter.section("faults survived")
        for name, count in sorted(_counts.items()):
            terminalreporter.write_line(f"{count:6,} {name}")


@pytest.fixture(scope="session")
def survived() -> Counter:
    """Count the survived faults by name; the counts are printed at the end."""
    return _counts


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    folder = tmp_path_factory.mktemp("commands")
    server = Commands(build_shim(folder), folder)
    yield server
    server.close()


@pytest.fixture(scope="session")
def fault_overrides(tiny_overrides: list[str]) -> list[str]:
    """Return overrides of a run of 4 steps an epoch that saves after each step."""
    return [
        *tiny_overrides,
        "exp.dataloader.batch_size=16",
        "exp.train.log_every_n_steps=1",
        "exp.train.save_every_minutes=0.000001",
        "exp.train.total_epochs=2",
        "exp.train.tensorboard=true",
    ]


@pytest.fixture(scope="session", params=["cache", "stand-in", "matrix", "report"])
def tool(request, commands, fault_overrides, tiny_celeba, tmp_path_factory) -> tuple[str, Argv]:
    """A command besides training whose kills and disk faults are tested: name and argv."""
    folder = tmp_path_factory.mktemp("tool")
    if request.param == "cache":
        argv = prepare_data(tiny_celeba)
    elif request.param == "stand-in":
        argv = draw_faces(fault_overrides, folder)
    elif request.param == "matrix":
        argv = spurious_task(make_run(commands, fault_overrides, folder / "logs" / "Blond_Hair"))
    else:
        argv = report(make_seeds(commands, fault_overrides, folder / "runs"))
    return request.param, argv


@pytest.fixture(scope="session")
def jtt(commands, fault_overrides, tmp_path_factory) -> tuple[list[str], Path]:
    """Train JTT on two tasks; return its command without a folder, and the folder."""
    folder = tmp_path_factory.mktemp("logs") / "jtt"
    argv = ["train_jtt.py", *fault_overrides, "exp=jtt", "exp.groupings=[Young:Male,Bald:Male]"]
    argv += ["exp.lambda_up=3", "exp.lr=0.001"]
    code, output = commands.run(*argv, f"exp.train.log_dir={folder}")
    assert code == 0, output
    return argv, folder
