"""The door of the configuration: what composes, what is refused, what is saved, where runs live."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

import train
from src.config.compose import load_config, load_saved_config, stage_config
from src.config.saved import WITHOUT_EFFECT, effective, save_config, to_dict
from src.config.schema import Config, flatten, schema_keys, section_of
from src.io import UserError
from src.runs.folder import Run
from src.runs.names import default_log_dir

CONFIGS = Path(__file__).parent.parent.parent / "configs"


def problems_of(*overrides: str) -> list[str]:
    with pytest.raises(UserError) as raised:
        load_config(list(overrides))
    return raised.value.problems


# ---------------------------------------------------------------------------- the files


def test_every_part_of_a_configuration_is_valid(tmp_path):  # methods: tests/methods
    np.save(tmp_path / "x.npy", np.zeros((4, 3)))
    base = to_dict(load_config(["exp=jtt"]))
    parts = sorted((CONFIGS / "exp").glob("*/*.yaml"))
    assert len(parts) >= 9
    for part in parts:
        own = yaml.safe_load(part.read_text()) or {}
        own = {key: value for key, value in own.items() if key != "defaults"}
        values = base | {part.parent.name: base[part.parent.name] | own}
        if part.stem in ("linear", "mlp", "civilcomments"):
            values["dataset"] = values["dataset"] | {"features": str(tmp_path / "x.npy")}
        if part.stem == "civilcomments":
            values["model"] = base["model"] | {"name": "linear"}
        Config.model_validate(values)


def test_the_yaml_files_set_every_key_of_the_schema():
    flat = set(flatten(load_config(["exp=jtt", "exp/dataset=synthetic"]).model_dump(), "exp."))
    keys = {key for key, field in schema_keys(Config) if section_of(field) is None}
    keys -= {"exp.dataset.bins"}  # a table of columns, empty here
    assert {key for key in keys if ".stage_" not in key} <= flat


@pytest.mark.parametrize(
    ("method", "lr", "weight_decay", "batch_size", "epochs", "sampler", "subsample"),
    [
        ("erm", 1e-4, 1e-4, 128, 25, None, None),
        ("rwy", 2.511886e-5, 3.981071705e-2, 4, 60, "rwy", None),
        ("rwg", 1e-5, 0.1, 32, 60, "rwg", None),
        ("suby", 3.981071e-5, 6.309573444e-2, 32, 60, None, "suby"),
        ("subg", 6.309573e-5, 1e-2, 4, 60, None, "subg"),
    ],
)
def test_the_defaults_of_each_method(
    method, lr, weight_decay, batch_size, epochs, sampler, subsample
):
    config = load_config([f"exp={method}"])
    assert (config.optimizer.lr, config.optimizer.weight_decay) == (lr, weight_decay)
    assert (config.optimizer.momentum, config.optimizer.schedule) == (0.9, None)
    assert (config.dataloader.batch_size, config.train.total_epochs) == (batch_size, epochs)
    assert config.dataloader.sampler == sampler
    assert config.dataset.subsample_type == subsample
    assert config.dataset.subsample == (subsample is not None)
    assert config.dataset.groupings == ["Blond_Hair:Male"]
    assert config.dataset.target_resolution == [224, 224]
    assert (config.model.name, config.seed) == ("resnet50", 0)


def stages(config: Config) -> list[Config]:
    return [stage_config(config, stage) for stage in ("stage_1", "stage_2")]


def test_overrides_of_jtt_reach_both_stages_or_one():
    default = load_config(["exp=jtt"])
    assert (default.dataloader.lambda_up, default.dataloader.mtl_join_type) == (50, "inv")
    assert [stage.train.total_epochs for stage in stages(default)] == [1, 50]
    config = load_config(
        [
            "exp=jtt",
            "exp/dataset=synthetic",
            "exp/model=resnet18",
            "exp.model.pretrained=false",
            "exp.groupings=[Young:Male]",
            "exp.lr=0.5",
            "exp.batch_size=16",
            "exp.lambda_up=7",
            "exp.epochs_stage_1=3",
            "exp.total_epochs=9",
            "exp.train.max_steps=5",
            "exp.seed=4",
            "exp.stage_1.train.max_steps=2",
            "exp.stage_2.optimizer.lr=0.25",
        ],
    )
    first, second = stages(config)
    for stage in (first, second):
        assert (stage.model.name, stage.model.pretrained) == ("resnet18", False)
        assert (stage.dataset.name, stage.dataset.groupings) == ("synthetic", ["Young:Male"])
        assert (stage.dataloader.batch_size, stage.seed) == (16, 4)
        assert stage.dataloader.lambda_up == 7 and stage.method is None
    assert (first.train.max_steps, second.train.max_steps) == (2, 5)
    assert (first.optimizer.lr, second.optimizer.lr) == (0.5, 0.25)
    assert (first.train.total_epochs, second.train.total_epochs) == (3, 9)


@pytest.mark.parametrize(
    ("command", "method"),
    [
        (
            "exp.dataloader.sampler=rwy exp.dataloader.batch_size=4 "
            "exp.optimizer.lr=0.00002511886 exp.optimizer.weight_decay=0.03981071705",
            "rwy",
        ),
        (
            "exp.dataloader.sampler=rwg exp.dataloader.batch_size=32 "
            "exp.optimizer.lr=0.00001 exp.optimizer.weight_decay=0.1",
            "rwg",
        ),
        (
            "exp.dataloader.batch_size=32 exp.dataset.subsample=true "
            "exp.dataset.subsample_type=suby exp.optimizer.lr=0.00003981071 "
            "exp.optimizer.weight_decay=0.06309573444",
            "suby",
        ),
        (
            "exp.dataloader.batch_size=4 exp.dataset.subsample=true "
            "exp.dataset.subsample_type=subg exp.optimizer.lr=0.00006309573 "
            "exp.optimizer.weight_decay=0.01",
            "subg",
        ),
    ],
)
def test_the_long_command_of_a_method_asks_for_what_its_own_config_asks_for(command, method):
    long = effective(load_config(["exp=erm", *command.split(), "exp.total_epochs=60"]))
    short = effective(load_config([f"exp={method}"]))
    assert long | {"name": method} == short


# ---------------------------------------------------------------------------- what is refused


MISTAKES = [
    ("exp.optimizer.lr=abc", "exp.optimizer.lr='abc': use a valid number"),
    ("exp.optimizer.lr=true", "exp.optimizer.lr=true: use a valid number"),
    ("exp.optimizer.lr='0.1'", "exp.optimizer.lr='0.1': use a valid number"),
    ("exp.optimizer.lr=0", "use a number greater than 0"),
    ("exp.optimizer.lr=nan", "use a finite number"),
    ("exp.optimizer.weight_decay=-1", "greater than or equal to 0"),
    ("exp.optimizer.schedule=step", "use cosine, or null"),
    ("exp.seed=1.5", "exp.seed=1.5: use a valid integer"),
    ("exp.seed=-1", "greater than or equal to 0"),
    ("exp.seed=null", "exp.seed=null: use a valid integer"),
    ("exp.seed=9223372036854775808", "a number less than 9223372036854775808"),
    ("exp.model.pretrained=yes", "exp.model.pretrained='yes': use a valid boolean"),
    ("exp.dataset.groupings=Blond_Hair:Male", "use a valid list"),
    ("exp.dataset.groupings=[]", "groupings is empty"),
    ("exp.dataset.target_resolution=[64]", "two integers from 1 to 4096"),
    ("exp.dataset.target_resolution=[64,x]", "exp.dataset.target_resolution='x'"),
    ("exp.dataset.cache=ram", "use records or none"),
    ("exp.dataloader.batch_size=1", "greater than or equal to 2"),
    ("exp.dataloader.mtl_join_type=and", "use inv, union, xor or task"),
    ("exp.dataloader.device_cache=maybe", "use auto, or a valid boolean"),
    ("exp.train.precision=fp8", "use auto, bf16, fp16 or fp32"),
    ("exp.train.keep_ckpts=none", "use best or all, or a valid list"),
    ("exp.train.max_steps=0", "greater than or equal to 1"),
    ("exp.train.total_epochs=1000000001", "less than or equal to 1000000000"),
    ("exp.train.log_dir=", "is empty"),
    ("~exp.name", "exp.name is missing"),
    ("~exp.dataset", "exp.dataset is missing"),
    ("exp.model.name=${nothing}", "nothing"),
    ("exp.dataset.groupings=[${oc.env:NOPE}]", "variable 'NOPE' not found"),
    ("exp.dataset.subsample=true", "subsample=true needs subsample_type: suby or subg"),
    ("exp.dataset.subsample_type=suby", "subsample_type=suby needs subsample=true"),
    ("exp=rgw", "did you mean rwg?"),
    ("exp/optimizer=lion", "use adam, adamw, sgd"),
    ("exp.stage_1.model.name=x", "the stages share it; set exp.model.name instead"),
    ("exp.stage_1.train.max_steps=1", "exp.stage_1 has no effect: exp=erm has no stages"),
    ("exp.stage_1.train.foo=1", "exp.stage_1.train.foo: there is no such key"),
]
ALONE = 25  # the first ones are reported together, if their keys differ


def test_each_mistake_gives_one_problem():
    waiting, rounds = MISTAKES[:ALONE], [[mistake] for mistake in MISTAKES[ALONE:]]
    while waiting:
        by_key = {text.partition("=")[0]: (text, message) for text, message in waiting}
        rounds.append(list(by_key.values()))
        waiting = [mistake for mistake in waiting if mistake not in rounds[-1]]
    for mistakes in rounds:
        problems = problems_of(*(text for text, _ in mistakes))
        missing = [m for _, m in mistakes if not any(m in problem for problem in problems)]
        assert not missing and len(problems) == len(mistakes), problems


def test_all_problems_are_reported_at_once():
    problems = problems_of(
        "exp.lr=1",
        "exp.optimzer.lr=1",
        "exp.dataset.groupings=[Blonde_Hair:Male]",
        "exp.dataloader.sampler=rwx",
        "exp.train.total_epochs=0",
        "exp.optimizer.lr=abc",
        "exp.seed='1'",
    )
    assert len(problems) == 6
    assert "exp.lr=1 and exp.optimizer.lr=abc set the same: give one" in problems
    assert "exp.optimzer.lr: there is no such key: did you mean 'exp.optimizer.lr'?" in problems
    assert "exp.dataloader.sampler='rwx': use rwy or rwg, or null" in problems
    assert "exp.train.total_epochs=0: use a number greater than or equal to 1" in problems
    assert "exp.seed='1': use a valid integer" in problems
    assert any("did you mean 'Blond_Hair'" in problem for problem in problems)


def test_paths_expand_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    config = load_config(['exp.train.log_dir="~/runs/t1"', 'exp.dataset.root="~/celeba"'])
    assert (config.train.log_dir, config.dataset.root) == ("/home/ann/runs/t1", "/home/ann/celeba")


def test_lbtw_and_another_weighting_at_once_are_an_error():
    lbtw = "exp.dataset.loss_balanced_task_weighting=true"
    assert load_config([lbtw]).objective.across == "lbtw"
    assert load_config(["exp.objective.across=lbtw"]).dataset.loss_balanced_task_weighting
    assert "contradicts" in problems_of(lbtw, "exp.objective.across=static")[0]
    assert "contradicts" in problems_of(lbtw, "exp.objective.across=uw")[0]
    assert load_config(["exp.objective.across=famo"]).objective.chosen()["famo"]["lr"] == 0.025


def test_combinations_of_the_objective_are_checked():
    problems = problems_of("exp.objective.across=uw", "exp.objective.gradient=upgrad")
    assert problems[0].startswith("exp.objective.across=uw and objective.gradient=upgrad both")
    assert "plain descent" in load_config(["exp.objective.gradient=upgrad"]).notes()[0]
    weights = "exp.objective.weights=group_weights"
    assert "a second time" in load_config(["exp=rwg", weights]).notes()[0]
    assert load_config([]).notes() == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["exp.dataset.task_weights=[0.5,0.5]"], "has length 2, but there are 1 tasks"),
        (["exp.dataset.task_weights=[0.5]"], "has sum 0.5: use all 1, or numbers that sum to 1"),
        (["exp.dataset.task_weights=[-1]"], "numbers of at least 0"),
        (["exp.dataset.task_weights=[nan]"], "use a finite number"),
        (["exp.dataset.task_weights=[]"], "has length 0"),
        (
            [
                "exp.groupings=[Young:Male,Bald:Male]",
                "exp.dataset.task_weights=[0.5,0.5]",
                "exp.dataset.loss_balanced_task_weighting=true",
            ],
            "must all be 1 with loss_balanced_task_weighting",
        ),
    ],
)
def test_task_weights_are_one_per_task_and_all_1_or_of_sum_1(overrides, message):
    problems = problems_of(*overrides)
    assert len(problems) == 1 and message in problems[0]


def test_valid_task_weights_are_accepted():
    ten = ["Young", "Male", "Bald", "Bangs", "Chubby", "Goatee", "Blurry", "Smiling", "Mustache"]
    groupings = f"exp.dataset.groupings=[{','.join([*ten, 'Attractive'])}]"
    for weights in ([0.1] * 10, [1] * 10, [1] + [0] * 9, [0.1000001] + [0.1] * 9):
        config = load_config([groupings, f"exp.dataset.task_weights={weights}"])
        assert config.dataset.task_weights == weights
    problems_of(groupings, f"exp.dataset.task_weights={[0.1000021] + [0.1] * 9}")  # off by 2.1e-6
    lbtw = "exp.dataset.loss_balanced_task_weighting=true"
    assert load_config([groupings, lbtw, f"exp.dataset.task_weights={[1] * 10}"])


def test_methods_that_find_groups_need_no_labels():
    for method in ("eiil", "xrm", "rwy"):
        load_config([f"exp={method}", "exp.dataset.subgroup_labels=false"])
    load_config(["exp=lisa", "exp.dataset.groups_known=0.1"])
    unlabelled = ["exp=rwg", "exp.dataset.subgroup_labels=false"]
    load_config([*unlabelled, "exp.dataloader.found_groups=found_groups.npz"])
    text = problems_of("exp=eiil", "exp.objective.dro.automatic_adjustment=true")[0]
    assert "automatic_adjustment needs the same groups in validation" in text


def test_a_name_of_its_own_needs_a_folder_of_its_own():
    assert "exp.name=foo, but the method is erm" in problems_of("exp.name=foo")[0]
    assert load_config(["exp.name=foo", "exp.train.log_dir=x"]).name == "foo"


# ---------------------------------------------------------------------------- what is saved


def test_the_saved_config_is_what_runs_with_every_value_in_place(tmp_path):
    config = load_config(
        [
            "exp.total_epochs=3",
            "exp.dataset.groupings=[Young:Male,Bald:Male]",
            "exp.dataset.task_weights=[0.25,0.75]",
            "exp.lr=1e-5",
            "exp.model.weights='a: #b'",
        ]
    )
    save_config(config, tmp_path / "config.yaml")
    text = (tmp_path / "config.yaml").read_text()
    saved = yaml.safe_load(text)["exp"]
    assert saved == to_dict(config) == OmegaConf.create(text).exp
    assert "stage_1" not in saved
    assert not any(isinstance(value, dict) for value in saved["objective"].values())
    assert saved["train"]["total_epochs"] == 3 and "total_epochs" not in saved
    assert saved["dataset"]["task_weights"] == [0.25, 0.75]
    assert saved["train"]["log_dir"] == config.train.log_dir is not None
    assert load_saved_config(tmp_path / "config.yaml") == config


def test_a_folder_of_another_config_is_refused_and_the_differences_are_listed(tmp_path):
    path = tmp_path / "config.yaml"
    save_config(load_config(["exp.train.log_dir=x"]), path)
    before = path.read_text()
    save_config(load_config(["exp.train.log_dir=x"]), path)
    with pytest.raises(UserError) as raised:
        save_config(load_config(["exp.train.log_dir=x", "exp.seed=1", "exp.lr=0.5"]), path)
    assert "exp.optimizer.lr: 0.0001 there, 0.5 now" in str(raised.value)
    assert "exp.seed: 0 there, 1 now" in str(raised.value)
    assert path.read_text() == before


def test_tensorboard_is_the_tracker_unless_others_are_named():
    def trackers(*overrides):
        return load_config(list(overrides)).train.trackers

    assert trackers() == ["tensorboard"]
    assert trackers("exp.train.tensorboard=false") == []
    assert trackers("exp.train.tracker=wandb") == ["wandb"]
    assert trackers("exp.train.tracker=[mlflow,tensorboard]") == ["mlflow", "tensorboard"]
    with pytest.raises(UserError, match="use tensorboard, wandb or mlflow"):
        trackers("exp.train.tracker=[comet]")


def test_settings_without_effect_on_the_result_do_not_make_another_run(tmp_path):
    overrides = ["exp.train.log_dir=y", "exp.dataset.cache=none", "exp.train.device=cpu"]
    overrides += ["exp.dataset.cache_dir=z", "exp.train.log_every_n_steps=3"]
    overrides += ["exp.train.keep_ckpts=all", "exp.train.tensorboard=false"]
    overrides += ["exp.train.save_every_minutes=1", "exp.dataloader.num_workers=1"]
    overrides += ["exp.dataloader.eval_batch_size=5", "exp.train.cuda_graph=false"]
    overrides += ["exp.dataloader.device_cache=true", "exp.train.tracker=[wandb]"]
    overrides += ["exp.train.num_devices=2"]
    assert len(overrides) == len(WITHOUT_EFFECT)
    path = tmp_path / "config.yaml"
    save_config(load_config(["exp.train.log_dir=x"]), path)
    save_config(load_config(overrides), path)
    overrides = [text for text in overrides if "log_dir" not in text]
    assert load_config(overrides).train.log_dir == load_config([]).train.log_dir


def test_a_damaged_config_of_a_run_is_a_clear_error(tmp_path):
    path = tmp_path / "config.yaml"
    for text in ("exp: [", "", "a: 1", "exp: 3"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"config\.yaml cannot be read"):
            load_saved_config(path)
    with pytest.raises(UserError, match="is missing"):
        load_saved_config(tmp_path / "none.yaml")


# ---------------------------------------------------------------------------- where runs live


@pytest.mark.parametrize(
    ("overrides", "folder"),
    [
        ("", "erm/Blond_Hair-Male/seed0"),
        ("exp=rwg exp.seed=2", "rwg/Blond_Hair-Male/seed2"),
        ("exp.lr=0.0003 exp.total_epochs=50", "erm/Blond_Hair-Male/lr0.0003-epochs50-seed0"),
        ("exp.lr=0.0001 exp.total_epochs=50", "erm/Blond_Hair-Male/epochs50-seed0"),
        (
            "exp/model=resnet18 exp/dataset=synthetic",
            "erm/Blond_Hair-Male/resnet18-synthetic-seed0",
        ),
        (
            "exp=jtt exp.lambda_up=20 exp.stage_1.optimizer.lr=0.5",
            "jtt/Blond_Hair-Male/lambda20-stage_1_lr0.5-seed0",
        ),
        ("exp/model=resnet34", "erm/Blond_Hair-Male/modelresnet34-seed0"),
        (
            "exp.dataset.target_resolution=[64,64]",
            "erm/Blond_Hair-Male/res64x64-seed0",
        ),
        (
            "exp.groupings=[Young:Male,Attractive:Male+Young]",
            "erm/Young-Male_Attractive-Male+Young/seed0",
        ),
    ],
)
def test_a_run_lives_under_its_method_its_tasks_and_what_differs(overrides, folder):
    assert load_config(overrides.split()).train.log_dir == f"logs/{folder}"


PLACES = st.text("ab-_/.x1:= ", max_size=8)
CHANGED = {
    "model": st.sampled_from(["resnet18", "resnet34"]),
    "model.name": st.sampled_from(["resnet18", "resnet34"]),
    "model.weights": PLACES,
    "optimizer.lr": st.floats(1e-30, 1e30),
    "optimizer.schedule": st.sampled_from(["cosine", None]),
    "dataset": st.just("synthetic"),
    "dataset.name": st.just("synthetic"),
    "dataset.root": PLACES,
    "dataset.task_weights": st.lists(st.floats(0, 1), max_size=3),
    "dataset.target_resolution": st.sampled_from([[1, 11], [11, 1], [111, 1]]),
    "dataset.data_augmentation": st.booleans(),
    "dataset.synthetic.seed": st.integers(0, 2),
    "dataloader.lambda_up": st.integers(1, 3),
    "stage_1.optimizer.lr": st.floats(0, 1),
    "stage_2.optimizer.lr": st.floats(0, 1),
}
GROUPINGS = st.lists(st.sampled_from(["Young:Male", "Bald:Male+Young", "Bald", "Male"]), min_size=1)
RUNS = st.tuples(
    st.sampled_from(["erm", "rwg"]),
    GROUPINGS,
    # In the order of the schema, as a configuration is flattened.
    st.fixed_dictionaries({}, optional=CHANGED).map(
        lambda chosen: {key: chosen[key] for key in CHANGED if key in chosen}
    ),
    st.integers(0, 12),
)


@settings(max_examples=200)
@given(RUNS, RUNS)
def test_different_runs_never_share_a_folder(first, second):
    one, other = default_log_dir(*first), default_log_dir(*second)
    assert (one == other) == (first == second)
    assert not set(str(one)) & set(":,= ")
    assert one.parts[:2] == ("logs", first[0]) and len(one.parts) == 4
    assert all(len(part) <= 80 for part in one.parts)


FIRST_EDITION = """
exp:
  name: erm
  seed: 3
  model: {name: resnet18, pretrained: false, weights: null}
  optimizer: {lr: 1e-05, weight_decay: 0.1, momentum: 0.9, schedule: null}
  dataset:
    {name: celeba, root: data, groupings: ['Young:Male'], subgroup_labels: true, task_weights: null,
    loss_balanced_task_weighting: true, lbtw_alpha: 0.5, subsample: false, subsample_type: null,
    target_resolution: [64, 64], data_augmentation: false, cache: records, cache_dir: cache}
  dataloader:
    {batch_size: 8, eval_batch_size: 512, sampler: null, num_workers: 4, error_set: null,
    lambda_up: 1.0, mtl_join_type: inv}
  train:
    {total_epochs: 2, max_steps: null, precision: auto, device: auto, compile: false, log_dir: x,
    log_every_n_steps: 50, save_every_minutes: 10.0, keep_ckpts: best, tensorboard: true}
"""


def test_a_first_edition_run_counts_as_done_but_is_not_resumed(tmp_path, capsys):
    run = Run(tmp_path)
    run.config.write_text(FIRST_EDITION)
    config = load_saved_config(run.config)
    config.train.log_dir = str(tmp_path)
    assert (config.optimizer.lr, config.optimizer.name, config.seed) == (1e-5, "sgd", 3)
    assert config.objective.across == "lbtw" and config.train.cuda_graph is False
    with pytest.raises(UserError, match="of the first edition, which cannot be resumed"):
        train.main(config)
    run.set_status(state="done")
    train.main(config)
    assert "is done already" in capsys.readouterr().out


def test_a_first_edition_run_keeps_its_longer_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["exp.lr=0.0003", "exp.total_epochs=50"]
    folder = Path("logs/erm/Blond_Hair-Male/lr0.0003-total_epochs50-seed0")
    assert load_config(command).train.log_dir != str(folder)
    folder.mkdir(parents=True)
    assert load_config(command).train.log_dir == str(folder)


def test_a_first_edition_jtt_config_is_read(tmp_path):
    section = FIRST_EDITION.split("exp:\n")[1]
    stages = "".join(
        f"  stage_{number}:\n" + "".join(f"  {line}\n" for line in section.splitlines())
        for number in (1, 2)
    )
    path = tmp_path / "config.yaml"
    own = "  lambda_up: 50.0\n  epochs_stage_1: 2\n  mtl_join_type: xor\n  load_error_set: null\n"
    path.write_text(FIRST_EDITION.replace("name: erm", "name: jtt") + own + stages)
    config = load_saved_config(path)
    assert (config.method, config.dataloader.lambda_up) == ("jtt", 50)
    assert config.dataloader.mtl_join_type == "xor"
    assert config.stage_1.train == {"total_epochs": 2}


NO_GROUPS, HIDDEN = "exp.dataset.subgroup_labels=false", "exp.dataset.groups_known=0"


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["exp=rwg", NO_GROUPS], "subgroup_labels=true"),
        (["exp=subg", NO_GROUPS], "subgroup_labels=true"),
        (["exp=group_weights", NO_GROUPS], "subgroup_labels=true"),
        (["exp=lisa", HIDDEN], "exp=lisa needs groups of train"),
        (["exp=crt", HIDDEN], "crt.balance=group needs groups of train"),
        (["exp=dfr", "exp.dfr.fit=train", HIDDEN], "dfr.fit=train needs groups of train"),
        (["exp=irm", HIDDEN], "objective.penalty=irm needs groups of train"),
        (["exp=vs", HIDDEN], "objective.vs.level=group needs groups"),
        (["exp=ssa", NO_GROUPS], "exp=ssa learns attributes"),
        (["exp=ssa", "exp.stage_1.run=logs/erm/run"], "takes no stage_1.run"),
        (["exp=cnc", "exp.objective.task=dro"], "exp=cnc takes objective.task=mean"),
        (["exp=cnc", "exp.dataloader.sampler=rwy"], "exp=cnc draws its own batches"),
        (["exp=lisa", "exp.dataloader.train_fraction=0.5"], "dataloader.train_fraction has no"),
        (["exp=pde", "exp.dataset.subsample=true", "exp.dataset.subsample_type=suby"], "subsample"),
        (["exp=cnc", "exp.objective.penalty=irm"], "objective.penalty=irm needs them"),
        (["exp=dpe", "exp.dpe.balance=group", NO_GROUPS], "dpe.balance"),
        (["exp=jtt", "exp.stage_1.train.total_epochs=0"], "exp.stage_1.train.total_epochs=0: use"),
    ],
)
def test_what_a_method_does_not_take_is_refused(overrides, problem):
    assert problem in "".join(problems_of(*overrides))
