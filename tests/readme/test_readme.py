"""Every training command of README and docs runs as it is, on a tiny data set."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import report_results, run_hparam_grid_eval, run_hparam_grid_train
from src.config.compose import load_config

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(r"```bash\n(.*?)```", re.DOTALL)
TINY = [
    "exp/model=resnet18",
    "exp.model.pretrained=false",
    "exp/dataset=synthetic",
    "exp.dataset.synthetic.num_train=96",
    "exp.dataset.synthetic.num_val=32",
    "exp.dataset.synthetic.num_test=32",
    "exp.dataset.target_resolution=[32,32]",
    "exp.train.max_steps=2",
    "exp.train.tensorboard=false",
]


def commands(prefix: str) -> list[str]:
    """Return the commands of the bash blocks of README and docs, each once, without comments."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    blocks = [block for page in pages for block in BLOCK.findall(page.read_text())]
    whole = [block.replace("\\\n", " ") for block in blocks]
    lines = [line.split("  #")[0].strip() for block in whole for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line.startswith(prefix)))


# These need a finished run, or are tested elsewhere: launchers and several processes.
LEFT_OUT = ("exp.stage_1.run=", "--help", "hydra/launcher=", "exp.train.num_devices=")
TRAINING = [
    command
    for command in commands("python train")
    if "exp=" in command and not any(text in command for text in LEFT_OUT)
]


TABLE = "outputs/svd/spurious_correlations.csv"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The table of spurious pairs that one command takes its groupings from."""
    path = tmp_path_factory.mktemp("table") / "pairs.csv"
    rows = ["task,attribute,tested,split", "Blond_Hair,Male,1,val", "Young,Gray_Hair,1,val"]
    path.write_text("\n".join(rows))
    return path


def argv_of(command: str, table: Path) -> list[str]:
    """As bash splits it: the unquoted list with spaces comes in several pieces."""
    return shlex.split(command.replace(TABLE, str(table)))[1:]


def test_the_training_commands_are_found():
    assert len(TRAINING) >= 25


@pytest.mark.parametrize("command", TRAINING)
def test_every_training_command_composes(command, table):
    _, *overrides = argv_of(command, table)
    config = load_config(overrides)
    assert config.train.log_dir.startswith(f"logs/{config.name}/")


def test_the_test_command_names_the_folder_of_the_first_run():
    command = commands("python test.py")[0]  # the README comes first
    assert f"--log_dir {load_config(['exp=erm']).train.log_dir} " in command


@pytest.mark.slow
@pytest.mark.parametrize("command", TRAINING)
def test_every_training_command_runs(command, table, tmp_path, tmp_path_factory):
    data = tmp_path_factory.getbasetemp() / "readme"
    script, *overrides = argv_of(command, table)
    places = [
        f"exp.dataset.root={data}",
        f"exp.dataset.cache_dir={data}/cache",
        f"exp.train.log_dir={tmp_path}/run",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = [sys.executable, script, *overrides, *TINY, *places]
    result = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    measure = [sys.executable, "test.py", "--log_dir", f"{tmp_path}/run", "--ckpt_num", "best-avg"]
    measured = subprocess.run(measure, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert measured.returncode == 0, measured.stderr[-2000:]
    assert "worst group" in measured.stdout


@pytest.mark.parametrize("command", commands("python -m scripts.run_hparam_grid_train"))
def test_every_mtl_training_command_prints_its_runs(command, tmp_path, capsys):
    argv = shlex.split(command)[3:]
    more = [] if "--list" in argv else ["--log_root", str(tmp_path)]
    assert run_hparam_grid_train.main([*argv, *more]) == 0
    assert ("python train.py exp=erm" in capsys.readouterr().out) == ("--list" not in argv)


@pytest.mark.parametrize("command", commands("python -m scripts.run_hparam_grid_eval"))
def test_every_evaluation_command_lists_the_runs_that_are_not_there(command, tmp_path, capsys):
    argv = [*shlex.split(command)[3:], "--log_root", str(tmp_path)]
    assert run_hparam_grid_eval.main(argv) == 0
    assert "not evaluated, as they are not done" in capsys.readouterr().out


@pytest.mark.slow
def test_the_mtl_experiments_run_from_training_to_the_report(tmp_path, tmp_path_factory, capsys):
    data = tmp_path_factory.getbasetemp() / "readme"
    places = [f"exp.dataset.root={data}", f"exp.dataset.cache_dir={data}/cache"]
    given = ["--seeds", "0,1", "--limit", "2", "--log_root", str(tmp_path / "logs")]
    for opt in ("erm", "mtl_erm_mtl_stl"):
        train = ["--opt", opt, *given, "--mode", "shell", "--", *TINY, *places]
        assert run_hparam_grid_train.main(train) == 0
        assert run_hparam_grid_eval.main(["--opt", opt, *given, "--", *TINY, *places]) == 0
    capsys.readouterr()
    command = "python -m scripts.report_results --log_dirs 'logs/erm/*' 'logs/mtl_erm_mtl_stl/*'"
    (command,) = [known for known in commands(command) if "--split test" in known]
    argv = shlex.split(command.replace("logs/", f"{tmp_path}/logs/"))[3:]
    assert report_results.main([*argv, "--out_dir", str(tmp_path / "report")]) == 0
    shown = capsys.readouterr().out
    # The two commands train with other settings, so that the difference is shown apart.
    assert "minus alone with other settings" in shown and "4 runs: 4 done" in shown
    made = {path.name for path in (tmp_path / "report").iterdir()}
    assert {"report.json", "results.csv", "results.tex", "index.html"} <= made
    assert "figures" not in made  # runs cut short by max_steps are not drawn
