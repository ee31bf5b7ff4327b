"""Training, evaluation and reports of the experiments on several tasks agree on what a run is."""

import pytest

from scripts import run_hparam_grid_train
from scripts.experiments import EXPERIMENTS, MTL_ERM_EXPERIMENTS, WEIGHTINGS
from scripts.grids import delta_weights
from src.config import load_config
from src.errors import UserError
from src.files import write_json

OPTS = [*EXPERIMENTS, *MTL_ERM_EXPERIMENTS]
PAIR = ("Big_Lips:Chubby", "Bushy_Eyebrows:Blond_Hair")


def write_delta(folder, grouping, delta, split="val"):
    task, attribute = grouping.split(":")
    write_json(folder / task / f"{attribute}.json", {"delta": delta, "split": split})


def train_commands(capsys, *argv) -> list[str]:
    assert run_hparam_grid_train.main(list(argv)) == 0
    return capsys.readouterr().out.splitlines()


# ---------------------------------------------------------------------------- training


def test_the_list_names_every_experiment_with_its_runs(capsys):
    lines = train_commands(capsys, "--list")
    runs = {line.split()[0]: line.split()[-1] for line in lines[1:]}
    assert list(runs) == OPTS
    assert (runs["erm_tune"], runs["mtl_erm_mtl_stl"], runs["mtl_erm_tune"]) == ("60", "9", "108")


def test_seeds_and_limit_choose_runs(capsys):
    lines = train_commands(
        capsys, "--opt", "mtl_suby", "--seeds", "4,2", "--limit", "3", "--respawn"
    )
    assert [("exp.seed=4" in line, "exp.seed=2" in line) for line in lines] == [
        (True, False),
        (False, True),
        (True, False),
    ]


def test_weightings_have_folders_of_their_own(capsys, tmp_path):
    for grouping in PAIR:
        write_delta(tmp_path, grouping, 30.0)
    folders = set()
    for weighting in WEIGHTINGS:
        command = ["--opt", "mtl_suby", "--limit", "1", "--mtl_weighting", weighting]
        for tasks in EXPERIMENTS["mtl_suby"].runs:
            for grouping in tasks:
                write_delta(tmp_path, grouping, 30.0)
        (line,) = train_commands(capsys, *command, "--json_dir", str(tmp_path))
        folders.add(line.split("log_dir=")[1])
    assert len(folders) == 3


def test_delta_weights_are_the_softmax_of_delta_over_100(tmp_path):
    # 69.314718 and 0: e^0.693 = 2 and 1, so 2/3 and 1/3.
    for grouping, delta in zip(PAIR, (69.314718, 0.0)):
        write_delta(tmp_path, grouping, delta)
    weights = delta_weights(PAIR, tmp_path)
    assert weights == [0.666667, 0.333333] and sum(weights) == pytest.approx(1, abs=1e-12)
    value = ",".join(map(str, weights))
    overrides = [f"exp.dataset.groupings=[{','.join(PAIR)}]", f"exp.dataset.task_weights=[{value}]"]
    assert load_config(overrides).dataset.task_weights == weights


def test_static_delta_names_what_makes_a_missing_matrix(capsys, tmp_path):
    command = ["--opt", "mtl_suby", "--mtl_weighting", "static_delta", "--json_dir", str(tmp_path)]
    with pytest.raises(SystemExit) as stop:
        run_hparam_grid_train.main(command)
    assert stop.value.code == 2
    assert "python -m scripts.run_create_spurious_matrix" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("delta", "split", "message"), [(3.0, "test", "reporting only"), (None, "val", "empty")]
)
def test_a_delta_of_the_test_split_or_of_an_empty_group_weighs_nothing(
    tmp_path, delta, split, message
):
    for grouping in PAIR:
        write_delta(tmp_path, grouping, delta, split)
    with pytest.raises(UserError, match=message):
        delta_weights(PAIR, tmp_path)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--opt", "erm", "--mtl_weighting", "dynamic"], "one task at a time"),
        (["--opt", "mtl_erm"], "no such experiment"),
        ([], "--list"),
        (["--opt", "erm", "--seeds", "a"], "0,1,2"),
    ],
)
def test_a_mistake_says_what_is_allowed(capsys, argv, message):
    with pytest.raises(SystemExit) as stop:
        run_hparam_grid_train.main(argv)
    assert stop.value.code == 2 and message in capsys.readouterr().err
