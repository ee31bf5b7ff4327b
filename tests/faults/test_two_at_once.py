"""Two commands on the same files at the same time: one waits or refuses, and nothing is mixed."""

from pathlib import Path

import pytest

from src.io import read_json
from src.runs.folder import Run
from src.training.metrics_log import read_metrics
from tests.faults.commands import STOP, Commands, Fault, contents, wait_until
from tests.faults.tools import draw_faces, make_run, make_seeds, prepare_data, report
from tests.tiny_training import outcome


@pytest.fixture(scope="module")
def whole(commands, fault_overrides, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("logs") / "whole"
    return make_run(commands, fault_overrides, folder, "exp.train.total_epochs=4")


def test_the_second_of_two_equal_trainings_is_refused_and_the_first_is_not_disturbed(
    commands, fault_overrides, whole, tmp_path, survived
):
    for number in range(3):
        run = Run(tmp_path / f"run{number}")
        argv = ["train_erm.py", *fault_overrides, "exp.train.total_epochs=4"]
        both = [commands.start(*argv, f"exp.train.log_dir={run.path}") for _ in range(2)]
        codes = sorted(process.wait() for process in both)
        said = "".join(process.output for process in both)
        assert codes in ([0, 2], [0, 0]) and "Traceback" not in said, said
        if codes == [0, 2]:
            assert f"error: {run.path} is being trained by process" in said
        assert outcome(run.path) == outcome(whole)
        survived["pairs of commands on the same files at once, nothing mixed"] += 1


def together(commands: Commands, *argvs: list) -> str:
    """Run commands at the same time; all must succeed. Return their outputs."""
    processes = [commands.start(*argv) for argv in argvs]
    codes = [process.wait() for process in processes]
    said = "".join(process.output for process in processes)
    assert codes == [0] * len(argvs) and "Traceback" not in said, said
    return said


def test_two_prepare_data_make_one_cache(commands, tiny_celeba, tmp_path, survived):
    argv = prepare_data(tiny_celeba)
    together(commands, argv(tmp_path / "alone"))
    for number in range(3):
        place = tmp_path / f"both{number}"
        together(commands, argv(place), argv(place))
        assert contents(place) == contents(tmp_path / "alone")
        survived["pairs of commands on the same files at once, nothing mixed"] += 1


def test_two_runs_draw_the_stand_in_once(commands, fault_overrides, tmp_path, survived):
    argv, other = (
        draw_faces(fault_overrides, tmp_path / name)(tmp_path / "faces") for name in ("a", "b")
    )
    together(commands, draw_faces(fault_overrides, tmp_path / "c")(tmp_path / "alone"))
    said = together(commands, argv, other)
    assert "waiting for another process to draw" in said
    assert contents(tmp_path / "faces") == contents(tmp_path / "alone")
    survived["pairs of commands on the same files at once, nothing mixed"] += 1


def report_in(place: Path) -> dict[str, bytes]:
    return {name: file for name, file in contents(place).items() if name.startswith("report/")}


@pytest.mark.parametrize("file", ["report.json", "results.csv", "index.html"])
def test_of_two_reports_in_one_folder_one_waits_and_nothing_is_mixed(
    commands, fault_overrides, tmp_path, survived, file
):
    argv = report(make_seeds(commands, fault_overrides, tmp_path / "runs"))
    alone, both = tmp_path / "alone", tmp_path / "both"
    together(commands, [*argv(alone), "--split", "test"])
    first = commands.start(*argv(both), "--split", "val", fault=Fault(f"/.{file}", STOP, 1))
    wait_until(first.stands, first)
    second = commands.start(*argv(both), "--split", "test")
    wait_until(lambda: "waiting for another report" in second.output, second)
    first.go_on()
    assert (first.wait(), second.wait()) == (0, 0), first.output + second.output
    assert report_in(both) == report_in(alone)
    survived["pairs of commands on the same files at once, nothing mixed"] += 1


def test_two_evaluations_of_one_run_agree(commands, whole, tmp_path, survived):
    argv = ["test.py", "--log_dir", whole, "--ckpt_num", "last", "--split", "train"]
    said = [[*argv, "--save_json", tmp_path / f"{number}.json"] for number in range(3)]
    together(commands, said[0])
    Run(whole).logits("train", 4).unlink()
    together(commands, *said[1:])
    assert read_json(tmp_path / "1.json") == read_json(tmp_path / "2.json")
    assert read_json(tmp_path / "1.json") == read_json(tmp_path / "0.json")
    survived["pairs of commands on the same files at once, nothing mixed"] += 1


def test_a_run_that_is_evaluated_while_it_trains_ends_the_same(
    commands, fault_overrides, whole, tmp_path, survived
):
    run = Run(tmp_path / "run")
    argv = ["train_erm.py", *fault_overrides, "exp.train.total_epochs=4"]
    training = commands.start(*argv, f"exp.train.log_dir={run.path}")
    wait_until(lambda: len(read_metrics(run)) > 5, training)
    evaluated = 0
    while not training.ended():
        for name in ("last", "best-avg"):
            code, output = commands.run("test.py", "--log_dir", run.path, "--ckpt_num", name)
            assert code in (0, 2) and "Traceback" not in output, output
            evaluated += code == 0
    assert training.wait() == 0 and evaluated
    assert outcome(run.path) == outcome(whole)
    results = []
    for folder in (run.path, whole):
        code, output = commands.run("test.py", "--log_dir", folder, "--ckpt_num", "best-avg")
        assert code == 0, output
        results.append(read_json(Run(folder).stats("test", "best-avg")) | {"run": ""})
    assert results[0] == results[1]
    survived["evaluations of a run while it trained"] += evaluated
