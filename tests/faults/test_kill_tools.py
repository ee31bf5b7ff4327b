"""prepare_data, the cache, the stand-in, the matrix and the report are killed as they write."""

import random
from pathlib import Path

from tests.faults.commands import KILL, Commands, Fault, contents, wait_until
from tests.faults.conftest import KILLS
from tests.faults.tools import Argv, make_run

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
    return kills


def test_a_tool_that_is_killed_ends_with_the_same_files(commands, tool, tmp_path, survived):
    name, argv = tool
    kills = kill_often(commands, argv, tmp_path)
    assert kills >= EACH
    survived[f"commands killed, with the same files ({name})"] += kills


def test_the_whole_matrix_command_with_its_job(commands, fault_overrides, tmp_path, survived):
    run = make_run(commands, fault_overrides, tmp_path / "logs" / "Blond_Hair")

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
    survived["commands killed, with the same files (matrix)"] += 1
