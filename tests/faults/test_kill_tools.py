"""prepare_data, the cache, the stand-in, the matrix and the report are killed as they write."""

import random
from pathlib import Path

import pytest

from tests.faults.commands import KILL, Commands, Fault, contents, wait_until
from tests.faults.conftest import KILLS
from tests.faults.tools import (
    Argv,
    draw_faces,
    make_run,
    make_seeds,
    prepare_data,
    report,
    spurious_task,
)

EACH = max(5, KILLS // 4)


def kill_often(commands: Commands, argv: Argv, folder: Path) -> int:
    """Kill at random calls, start again, and compare with an uninterrupted call."""
    first = folder / "whole"
    calls = len(commands.count_calls(str(first), *argv(first)))
    wanted, rng, kills, number = contents(first), random.Random(7), 0, 0
    while kills < EACH:
        number += 1
        place = folder / f"killed{number}"
        for _ in range(3):  # killed again and again, in the same folder
            fault = Fault(str(place), KILL, rng.randint(1, calls))
            code, output = commands.run(*argv(place), fault=fault)
            assert "Traceback" not in output and "error:" not in output
            assert code in (0, -9), output
            kills += code == -9
        code, output = commands.run(*argv(place))
        assert code == 0, output
        found = contents(place)
        assert found.keys() == wanted.keys()
        assert [name for name in wanted if found[name] != wanted[name]] == []
        assert list(place.rglob(".*.tmp")) == []
    assert kills > 0
    return kills


def test_prepare_data_and_the_cache(commands, tiny_celeba, tmp_path, survived):
    kills = kill_often(commands, prepare_data(tiny_celeba), tmp_path)
    survived["prepare_data killed, with the same cache"] += kills


def test_the_stand_in(commands, fault_overrides, tmp_path, survived):
    kills = kill_often(commands, draw_faces(fault_overrides, tmp_path / "aside"), tmp_path)
    survived["drawing of the stand-in killed, with the same faces"] += kills


@pytest.fixture(scope="module")
def run(commands, fault_overrides, tmp_path_factory) -> Path:
    return make_run(commands, fault_overrides, tmp_path_factory.mktemp("logs") / "Blond_Hair")


def test_the_matrix_of_a_model(commands, run, tmp_path, survived):
    kills = kill_often(commands, spurious_task(run), tmp_path)
    survived["matrix jobs killed, with the same files"] += kills


def test_the_whole_matrix_command_with_its_job(commands, run, tmp_path, survived):
    def argv(place: Path) -> list:
        options = ["--meta_log_dir", run.parent, "--json_dir", place, "--mode", "shell"]
        return ["-m", "scripts.run_create_spurious_matrix", *options]

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code, output = commands.run(*argv(whole))
    assert code == 0, output
    process = commands.start(*argv(killed))
    wait_until(lambda: list(killed.rglob("B*.json")), process)
    process.kill()
    assert process.wait() == -9
    code, output = commands.run(*argv(killed))
    assert code == 0 and "Traceback" not in output, output
    assert contents(killed) == contents(whole)
    survived["matrix jobs killed, with the same files"] += 1


def test_the_report_on_two_seeds(commands, fault_overrides, tmp_path, survived):
    runs = make_seeds(commands, fault_overrides, tmp_path / "runs")
    kills = kill_often(commands, report(runs), tmp_path)
    survived["reports killed, with the same tables, figures and page"] += kills
