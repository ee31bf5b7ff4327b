"""Training, evaluation and reports of the experiments on several tasks agree on what a run is."""

import shlex
from pathlib import Path

import pytest

from scripts import find_best_ckpt, run_hparam_grid_eval, run_hparam_grid_train
from scripts.experiments import EXPERIMENTS, MTL_ERM_EXPERIMENTS, STL_MATCHED, WEIGHTINGS
from scripts.grids import read_delta, weighting_values
from scripts.run_hparam_grid_eval import checkpoint_names
from src.config.compose import load_config
from src.data.groupings import parse_grouping
from src.io import UserError, read_json, write_json
from src.runs.folder import Run

OPTS = [*EXPERIMENTS, STL_MATCHED, *MTL_ERM_EXPERIMENTS]
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
    runs = {
        line.split()[0]: line.split()[-1]
        for line in lines[1:]
        if line.endswith(tuple("0123456789"))
    }
    assert list(runs) == OPTS
    assert (runs["erm_tune"], runs["mtl_erm_mtl_stl"], runs["mtl_erm_tune"]) == ("60", "9", "108")


def test_stl_matched_trains_each_task_alone_with_the_mtl_setting(capsys):
    choice = ["--checkpoint_metric_type", "avg", "--mtl_weighting", "dynamic", "--seeds", "0"]
    mtl = train_commands(capsys, "--opt", "mtl_erm_weak", *choice)
    alone = train_commands(capsys, "--opt", "stl_matched", "--family", "weak", *choice)
    keys = ("exp.optimizer.", "exp.dataloader.", "exp.train.total")
    settings = {
        tuple(word for word in shlex.split(line) if word.startswith(keys))
        for line in (*mtl, *alone)
    }
    # Four groupings in two pairs; all runs have one lr, weight decay, batch size and epochs.
    assert (len(mtl), len(alone), len(settings)) == (2, 4, 1)
    assert len(settings.pop()) == 4
    assert not any("loss_balanced" in line for line in alone)


def test_seeds_and_limit_choose_runs(capsys):
    lines = train_commands(capsys, "--opt", "mtl_suby", "--seeds", "4,2", "--limit", "3")
    assert [("exp.seed=4" in line, "exp.seed=2" in line) for line in lines] == [
        (True, False),
        (False, True),
        (True, False),
    ]


def test_weightings_have_folders_of_their_own(capsys, tmp_path):
    for grouping in (name for tasks in EXPERIMENTS["mtl_suby"].runs for name in tasks):
        write_delta(tmp_path, grouping, 30.0)
    folders = set()
    for weighting in WEIGHTINGS:
        command = ["--opt", "mtl_suby", "--limit", "1", "--mtl_weighting", weighting]
        (line,) = train_commands(capsys, *command, "--json_dir", str(tmp_path))
        folders.add(line.split("log_dir=")[1])
    assert len(folders) == 3


def test_delta_weights_are_the_softmax_of_delta_over_100():
    # e^0.69314718 = 2 and e^0 = 1, so 2/3 and 1/3.
    weights = weighting_values("static_delta", (69.314718, 0.0))["exp.dataset.task_weights"]
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
    write_delta(tmp_path, PAIR[0], delta, split)
    with pytest.raises(UserError, match=message):
        read_delta(parse_grouping(PAIR[0]), tmp_path)


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


# ---------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize(
    ("metric", "kind", "names"),
    [
        ("avg", "average", {"best-avg": ["Young", "Bald"]}),
        ("group", "average", {"best-group": ["Young", "Bald"]}),
        ("group", "best-worst", {"best-worst": ["Young", "Bald"]}),
        ("avg", "per-task", {"best-avg-Young": ("Young",), "best-avg-Bald": ("Bald",)}),
        ("group", "per-task", {"best-group-Young": ("Young",), "best-group-Bald": ("Bald",)}),
    ],
)
def test_the_flags_stand_for_checkpoint_names(metric, kind, names):
    assert checkpoint_names(metric, kind, ["Young", "Bald"]) == names


def test_with_one_task_all_checkpoint_types_are_the_same():
    for kind in ("average", "best-worst", "per-task"):
        assert checkpoint_names("group", kind, ["Young"]) == {"best-group": ["Young"]}


def test_the_worst_task_by_average_accuracy_is_no_rule():
    with pytest.raises(UserError, match="--checkpoint_metric_type group"):
        checkpoint_names("avg", "best-worst", ["Young", "Bald"])


@pytest.mark.parametrize("opt", ["erm", "jtt", "mtl_suby_tune", STL_MATCHED, "mtl_erm_weak"])
def test_evaluation_looks_where_training_has_been_sent(opt, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tail = ["--", "exp/model=resnet18", "exp.train.total_epochs=3"]
    trained = []
    for line in train_commands(capsys, "--opt", opt, "--seeds", "0,1", *tail):
        (place,) = [a for a in shlex.split(line) if a.startswith("exp.train.log_dir=")]
        trained.append(Path(place.partition("=")[2]))
        Run(trained[-1]).set_status(state="done")
    seen = []
    monkeypatch.setattr(
        run_hparam_grid_eval, "evaluate_run", lambda folder, args: seen.append(folder) or []
    )
    monkeypatch.setattr(run_hparam_grid_eval, "slurm_jobs", lambda: None)
    assert run_hparam_grid_eval.main(["--opt", opt, "--seeds", "0,1", *tail]) == 0
    assert seen == trained
    assert f"{len(trained)} runs: {len(trained)} done" in capsys.readouterr().out


def test_runs_that_are_not_done_are_listed_and_not_fatal(capsys, tmp_path):
    command = ["--opt", "mtl_erm_weak", "--seeds", "0", "--log_root", str(tmp_path)]
    line = train_commands(capsys, *command)[1]
    folder = Path(line.split("log_dir=")[1])
    Run(folder).set_status(state="stopped")
    assert run_hparam_grid_eval.main(command) == 0
    output = capsys.readouterr().out
    assert "2 runs: 1 new, 1 stopped" in output
    assert any(row.split() == ["stopped", str(folder)] for row in output.splitlines())


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_overrides, run_entrypoint):
    """The first run of mtl_erm_weak, trained for an epoch, and the flags that name it."""
    root = tmp_path_factory.mktemp("logs")
    flags = ["--opt", "mtl_erm_weak", "--log_root", str(root), "--limit", "1"]
    assert run_hparam_grid_train.main([*flags, "--mode", "shell", "--", *tiny_overrides]) == 0
    return flags, tiny_overrides


@pytest.mark.slow
def test_a_trained_run_is_evaluated_at_the_checkpoint_of_each_task(trained, capsys):
    flags, overrides = trained
    kind = ["--mtl_checkpoint_type", "per-task", "--split", "test"]
    assert run_hparam_grid_eval.main([*flags, *kind, "--", *overrides]) == 0
    folder = Path(capsys.readouterr().out.splitlines()[0])
    for task, grouping in (("Big_Lips", "Big_Lips:Chubby"), ("Young", "Young:Chubby")):
        stats = read_json(folder / "results" / f"test_stats_best-group-{task}.json")
        assert stats["checkpoint"]["name"] == f"best-group-{task}" and stats["split"] == "test"
        assert sum(group["total"] for group in stats[grouping]["groups"]) == 24


def test_find_best_ckpt_shows_every_rule_and_the_path_of_one(trained, capsys):
    flags, _ = trained
    (folder,) = Path(flags[3]).glob("mtl_erm_weak/*/*")
    find_best_ckpt.main(["--log_dir", str(folder)])
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    rules = ["best-avg", "best-avg-Big_Lips", "best-avg-Young", "best-group", "best-worst"]
    rules += ["best-group-Big_Lips", "best-group-Young"]
    assert [line[:2] for line in table[1:8]] == [[rule, "1"] for rule in rules]
    find_best_ckpt.main(["--log_dir", str(folder), "--rule", "best-worst"])
    assert capsys.readouterr().out.strip() == str(folder / "ckpts" / "ckpt.1.pt")
