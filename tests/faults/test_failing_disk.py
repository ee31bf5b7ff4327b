"""A full or failing disk at any write: a clear message, nothing lost, and a restart works.

Every call that changes a file of a whole run is listed first. Then the command is started once for
each kind of call and file (and more often with FAULT_KILLS), and from that call on the disk is
full (ENOSPC) or fails (EIO).
"""

import errno
import random
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from src.data.groupings import ATTRIBUTES
from src.runs.folder import Run
from src.training.checkpoints import load_checkpoint
from tests.faults.commands import FAIL_FROM, Commands, Fault, contents
from tests.faults.conftest import KILLS
from tests.faults.tools import make_run
from tests.tiny_training import outcome

PER_KIND = max(1, KILLS // 25)
MESSAGES = {errno.ENOSPC: "the disk is full", errno.EIO: "Input/output error"}


def kind_of(call: str) -> str:
    """Return `write ckpts/.ckpt.last.pt.tmp` of `17 write .../ckpts/.ckpt.last.pt.x8d_1.tmp`."""
    _, name, path = call.split(maxsplit=2)
    file = re.sub(r"\.\w{8}\.tmp", ".tmp", Path(path).name)
    file = re.sub("|".join(ATTRIBUTES), "ATTRIBUTE", file)  # a pair of the matrix
    return f"{name} {re.sub(r'[0-9]+', 'N', file)}"


def choose_calls(calls: list[str], seed: int = 0) -> Iterator[tuple[int, str, int]]:
    """Yield (number, kind, error) of PER_KIND calls of each kind, with alternating errors."""
    kinds: dict[str, list[int]] = {}
    for call in calls:
        kinds.setdefault(kind_of(call), []).append(int(call.split()[0]))
    rng, turn = random.Random(seed), 0
    for kind, numbers in kinds.items():
        for number in sorted(rng.sample(numbers, min(PER_KIND, len(numbers)))):
            turn += 1
            error = [errno.ENOSPC, errno.EIO][turn % 2]
            # A full disk still lets files be deleted.
            yield number, kind, errno.EIO if kind.startswith("unlink") else error


def check_told(code: int, output: str, error: int, kind: str) -> None:
    """Check that it ended with a clear message, or did without the file."""
    assert "Traceback" not in output and "Exception ignored" not in output, f"{kind}:\n{output}"
    assert code in (0, 2), f"{kind}: exit code {code}\n{output}"
    if code == 2:
        told = [line for line in output.splitlines() if line.startswith("error: ")]
        assert told and MESSAGES[error] in told[-1], f"{kind}:\n{output}"


def fail_everywhere(
    commands: Commands,
    match: Callable[[Path], str],
    argv: Callable[[Path], list],
    folder: Path,
    check: Callable[[Path], None],
    most: int | None = None,
) -> int:
    """Let the disk fail at calls of every kind; return how many.

    Args:
        match: of a fresh folder, the text in the paths of the files that matter.
        argv: the command that works in that folder.
        check: that the folder holds the right end.
        most: calls at which it fails, at most, times KILLS / 25.
    """
    first = folder / "whole"
    calls = commands.count_calls(match(first), *argv(first))
    check(first)
    chosen = list(choose_calls(calls))
    assert chosen, "the command wrote nothing that could fail"
    if most is not None and len(chosen) > most * PER_KIND:
        chosen = random.Random(1).sample(chosen, most * PER_KIND)

    def fail_at(call: tuple[int, str, int]) -> str | None:
        number, kind, error = call
        place = folder / f"at{number}"
        # FAIL_FROM: it fails until somebody sees to it.
        fault = Fault(match(place), FAIL_FROM, number, error)
        try:
            code, output = commands.run(*argv(place), fault=fault)
            check_told(code, output, error, kind)
            for path in place.rglob("ckpt.*.pt"):
                load_checkpoint(path)  # what is there is sound
            code, output = commands.run(*argv(place))
            assert code == 0, f"{kind}, afterwards:\n{output}"
            check(place)
        except AssertionError as problem:
            return f"{errno.errorcode[error]} at call {number}: {problem}"
        return None

    with ThreadPoolExecutor(2) as pool:  # one per core of CI
        problems = [problem for problem in pool.map(fail_at, chosen) if problem]
    assert not problems, f"{len(problems)} of {len(chosen)}:\n" + "\n\n".join(problems)
    return len(chosen)


def test_a_training_run_whose_disk_fails_says_so_and_goes_on_to_the_same_end(
    commands, fault_overrides, tmp_path, survived
):
    def argv(place: Path) -> list:
        return ["train_erm.py", *fault_overrides, f"exp.train.log_dir={place}"]

    whole = []

    def check(place: Path) -> None:
        whole.append(outcome(place))
        assert whole[-1] == whole[0], "another result"

    tried = fail_everywhere(commands, str, argv, tmp_path, check, most=26)
    assert tried > 0
    survived["write points of training failed (ENOSPC, EIO)"] += tried


def test_a_tool_whose_disk_fails_says_so_and_ends_with_the_same_files(
    commands, tool, tmp_path, survived
):
    name, argv = tool
    wanted = []

    def check(place: Path) -> None:
        wanted.append(contents(place))
        assert wanted[-1] == wanted[0], "other files"

    most = {"matrix": 10, "report": 12}.get(name)
    tried = fail_everywhere(commands, str, argv, tmp_path, check, most)
    assert tried > 0
    survived[f"write points failed (ENOSPC, EIO) of the {name}"] += tried


def test_an_evaluation_whose_disk_fails_says_so(commands, fault_overrides, tmp_path, survived):
    run = make_run(commands, fault_overrides, tmp_path / "run")
    for split, error in (("test", errno.ENOSPC), ("train", errno.EIO)):
        argv = ["test.py", "--log_dir", run, "--split", split]
        for at in (1, 3, 9, 14):
            code, output = commands.run(*argv, fault=Fault(str(run), FAIL_FROM, at, error))
            check_told(code, output, error, f"test.py, call {at}")
            survived["write points failed (ENOSPC, EIO) of test.py"] += 1
        assert commands.run(*argv)[0] == 0


def test_the_error_set_of_jtt(jtt, commands, survived):
    overrides, folder = jtt
    argv = [*overrides, f"exp.train.log_dir={folder}"]
    error_set = folder / "error_set.npz"
    whole = error_set.read_bytes()
    error_set.unlink()
    Run(folder).status_file.unlink()
    Run(folder / "stage_2").status_file.unlink()  # a finished stage 2 needs no error set
    code, output = commands.run(*argv, fault=Fault("error_set.npz", FAIL_FROM, 2, errno.ENOSPC))
    check_told(code, output, errno.ENOSPC, "error set")
    assert code == 2 and not error_set.exists()
    code, output = commands.run(*argv)
    assert code == 0 and error_set.read_bytes() == whole, output
    survived["write points of JTT's error set failed (ENOSPC)"] += 1


def test_output_on_the_full_disk_ends_the_run_and_it_goes_on(
    commands, fault_overrides, tmp_path, survived
):
    argv = ["train_erm.py", *fault_overrides, f"exp.train.log_dir={tmp_path}/run"]
    log = tmp_path / "log.txt"
    for at in (1, 4, 9):
        fault = Fault(str(log), FAIL_FROM, at, errno.ENOSPC)
        process = commands.start(*argv, fault=fault, output=log)
        assert process.wait() not in (0, 1)  # 1 would be a traceback
        survived["write points of the log failed (ENOSPC)"] += 1
    code, output = commands.run(*argv)
    assert code == 0, output
