"""What scripts read from strangers or from a command line stays data, and a mistake is one line."""

import argparse
import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts import draw_faces, report_results, run_create_spurious_matrix, status
from scripts.grids import read_delta
from scripts.job_manager import Job
from scripts.jobs.slurm import (
    SlurmSettings,
    add_slurm_arguments,
    parameters,
    private_folder,
    read_settings,
)
from src.data.groupings import parse_grouping
from src.errors import UserError
from src.files import write_json
from src.runs.folder import Run

REPOSITORY = Path(__file__).parent.parent.parent
SHELL_LINE = "x\ntouch /tmp/planted\n#"


def test_a_line_break_in_a_folder_starts_no_line_of_the_script_for_slurm(tmp_path):
    with pytest.raises(UserError, match="line break"):
        private_folder(tmp_path / SHELL_LINE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        (SHELL_LINE, {}),
        ("job", {"partition": SHELL_LINE}),
        ("job", {"sbatch": {"comment": SHELL_LINE}}),
        ("job", {"sbatch": {SHELL_LINE: True}}),
    ],
)
def test_nor_does_one_in_a_name_or_a_setting(name, settings):
    with pytest.raises(UserError, match="line break"):
        parameters(SlurmSettings(**settings), [Job(name, ["python"], Path("run"))])


def test_lines_of_the_setup_are_the_users_own_shell():
    setup = ["module load cuda\nexport A=1"]
    job = Job("job", ["python"], Path("run"))
    assert parameters(SlurmSettings(setup=setup), [job])["setup"][1:] == setup


def settings(*argv: str) -> SlurmSettings:
    parser = argparse.ArgumentParser()
    add_slurm_arguments(parser)
    return read_settings(parser.parse_args(argv))


@pytest.mark.parametrize(
    "text",
    [
        "5",
        "[1]",
        "{1: 2}",
        "[" * 100_000,
        "a: &a [x, x]\n"
        + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi")),
        "\0",
    ],
)
def test_a_settings_file_that_is_no_table_is_one_line_at_once(tmp_path, text):
    path, start = tmp_path / "slurm.yaml", time.monotonic()
    path.write_text(text)
    with pytest.raises(UserError, match=str(path)):
        settings("--slurm_config", str(path))
    with pytest.raises(UserError, match="Is a directory"):
        settings("--slurm_config", str(tmp_path))
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("value", ["nan", "inf", "0", "-1"])
def test_memory_is_more_than_nothing_and_finite(value):
    with pytest.raises(UserError, match="mem_gb"):
        settings(f"--mem_gb={value}")


@pytest.mark.parametrize("delta", [1e5, -1e300, -1])
def test_a_delta_that_no_pair_can_have_weighs_nothing(tmp_path, delta):
    write_json(tmp_path / "Bald" / "Male.json", {"split": "val", "delta": delta})
    with pytest.raises(UserError, match=r"it lies in \[0, 200\]"):
        read_delta(parse_grouping("Bald:Male"), tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("a: 1", "dataset is missing"),
        ("dataset: [1]", "dataset is not a table"),
        ("dataset: {groupings: Bald}", "dataset.groupings is not a list"),
        ("dataset: {groupings: ['Nope:Male']}", "Nope"),
    ],
)
def test_a_folder_that_is_no_models_is_named(tmp_path, config, message):
    run = Run(tmp_path / "run")
    run.path.mkdir()
    run.config.write_text(f"exp: {{{config}}}" if ": " in config else config)
    run.set_status(state="done")
    with pytest.raises(UserError, match=message) as raised:
        run_create_spurious_matrix.find_models(tmp_path, shared=False)
    assert str(run.config) in str(raised.value)


def test_a_table_moves_no_terminals_cursor(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("scripts.status.slurm_jobs", lambda: None)
    Run(tmp_path / "a\x1b[2J\nb").set_status(state="failed", error="\x1b[31mred")
    status.main([str(tmp_path)])
    _, second, last = capsys.readouterr().out.splitlines()
    assert "\x1b" not in second and "a\\x1b[2J\\nb" in second and "\\x1b[31mred" in second
    assert last == "1 runs: 1 failed"


@pytest.mark.parametrize("batch_size", [".inf", ".nan", "1.0e+308"])
def test_a_time_left_that_cannot_be_told_hides_no_run(tmp_path, batch_size, capsys, monkeypatch):
    monkeypatch.setattr("scripts.status.slurm_jobs", lambda: None)
    run = Run(tmp_path / "run")
    run.set_status(
        state="running",
        heartbeat=time.time(),
        step=1,
        total_steps=10**6,
        images_per_second=1e-320,
    )
    run.config.write_text(f"exp: {{dataloader: {{batch_size: {batch_size}}}}}")
    status.main([str(tmp_path)])
    assert capsys.readouterr().out.splitlines()[-1] == "1 runs: 1 running"


def test_a_report_is_written_whole_though_nobody_reads_the_output(tmp_path, monkeypatch):
    """As with `| head -1`; the figures, which come last, are drawn all the same."""
    report = {"rows": [], "comparisons": [], "runs": [], "threshold": 0}
    monkeypatch.setattr("src.report.collect.build_report", lambda *_: report)
    drawn = []
    monkeypatch.setattr(report_results, "draw", lambda *about: drawn.append(about))

    def closed(*_):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(report_results, "show", closed)
    with pytest.raises(SystemExit) as end:
        report_results.main(["--log_dirs", str(tmp_path), "--out_dir", str(tmp_path / "out")])
    assert end.value.code == 141 and (tmp_path / "out" / "index.html").exists()
    assert drawn == [(report, tmp_path / "out" / "figures", "test")]


def test_a_name_that_the_terminal_has_no_letters_for_is_shown_by_its_code(tmp_path):
    run = Run(tmp_path / "größe")
    run.set_status(state="stopped")
    run.config.touch()
    told = subprocess.run(
        [sys.executable, "-m", "scripts.status", str(tmp_path)],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    assert r"gr\xf6\xdfe" in told.stdout


def test_a_command_whose_output_is_closed_works_all_the_same(tmp_path):
    command = f"{sys.executable} -m scripts.status {tmp_path} >&-"
    told = subprocess.run(
        ["bash", "-c", command], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert (told.returncode, told.stderr) == (0, "")


def test_faces_have_a_seed_from_0(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["draw_faces", "--seed", "-1", "--out", str(tmp_path / "out")])
    with pytest.raises(UserError, match="--seed -1"):
        draw_faces.main()
    assert not (tmp_path / "out").exists()
