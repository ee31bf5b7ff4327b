"""Run folders and command lines made to break an entrypoint: one line each, and exit code 2."""

import pytest

from src.errors import UserError
from src.files import write_atomic
from src.runs.folder import Run


@pytest.mark.parametrize(
    "command",
    [
        ("train_erm.py", "exp=erm", "exp.train.log_dir={run}"),
        ("test.py", "--log_dir", "{run}"),
        ("-m", "scripts.report_results", "--log_dirs", "{run}", "--out_dir", "{run}/report"),
    ],
    ids=["train", "test", "report"],
)
def test_a_config_of_40000_brackets_ends_no_entrypoint_with_a_crash(
    run_entrypoint, tmp_path, command
):
    write_atomic(tmp_path / "run" / "config.yaml", "exp: " + "[" * 40_000)
    code, output = run_entrypoint(*(part.format(run=tmp_path / "run") for part in command))
    assert code == 2 and "Traceback" not in output
    assert "config.yaml cannot be read (it is nested too deep)" in output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-m", "exp.dataset.groupings=[${exp.nothing}]"], "key 'exp.nothing' not found"),
        (["--cfg", "job", "exp.seed=" + "9" * 5000], "a number of 1,000 digits or more"),
    ],
    ids=["interpolation", "number"],
)
def test_what_hydra_composes_itself_is_refused_in_one_line_too(
    run_entrypoint, tmp_path, arguments, told
):
    code, output = run_entrypoint("train_erm.py", *arguments, f"hydra.sweep.dir='{tmp_path}'")
    assert code == 2 and told in output and "Traceback" not in output


@pytest.mark.parametrize("name", ["heartbeat", "started", "step", "pid"])
def test_a_state_with_a_number_too_large_is_refused(tmp_path, name):
    run = Run(tmp_path)
    write_atomic(run.status_file, f'{{"state": "running", "{name}": 1{"0" * 400}}}')
    with pytest.raises(UserError, match=r"status\.json"):
        run.status()
