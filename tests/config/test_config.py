"""The door of the configuration: what composes, what is refused, what is saved, where runs live."""

import dataclasses
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from src.config.compose import (
    WITHOUT_EFFECT,
    effective,
    load_config,
    load_saved_config,
    save_config,
    to_dict,
)
from src.config.schema import Config, JTTConfig, flatten, schema_keys
from src.io import UserError
from src.runs.names import default_log_dir

CONFIGS = Path(__file__).parent.parent.parent / "configs"


def problems_of(*overrides: str, schema: type = Config) -> list[str]:
    with pytest.raises(UserError) as raised:
        load_config(list(overrides), schema)
    return raised.value.problems


# ---------------------------------------------------------------------------- the files


def test_every_config_file_composes_and_there_are_fifteen():
    files = sorted(path.relative_to(CONFIGS / "exp") for path in (CONFIGS / "exp").rglob("*.yaml"))
    assert len(files) == 15
    methods = [path.stem for path in files if path.parent == Path()]
    parts = [f"exp/{path.parent}={path.stem}" for path in files if path.parent != Path()]
    assert methods == ["erm", "jtt", "jtt_stage_1", "jtt_stage_2", "rwg", "rwy", "subg", "suby"]
    for method in ("erm", "rwg", "rwy", "subg", "suby"):
        assert load_config([f"exp={method}"]).name == method
    jtt = load_config(["exp=jtt"], JTTConfig)
    assert (jtt.stage_1.name, jtt.stage_2.name) == ("jtt_stage_1", "jtt_stage_2")
    assert len(parts) == 7
    for part in parts:
        load_config([part])
    for part in ("exp/dataset=synthetic", "exp/model=resnet18"):
        load_config(["exp=jtt", part], JTTConfig)


def test_every_key_of_the_schema_is_in_erm_yaml_and_the_other_way_round():
    config = load_config(["exp/dataset=synthetic"])
    assert set(flatten(config, "exp.")) == {
        key for key, kind in schema_keys(Config, "exp") if not dataclasses.is_dataclass(kind)
    }


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


def test_the_defaults_of_jtt():
    config = load_config(["exp=jtt"], JTTConfig)
    assert (config.lambda_up, config.epochs_stage_1, config.mtl_join_type) == (50, 1, "inv")
    for stage, epochs in ((config.stage_1, 1), (config.stage_2, 50)):
        assert (stage.optimizer.lr, stage.optimizer.weight_decay) == (1e-5, 0.1)
        assert (stage.dataloader.batch_size, stage.train.total_epochs) == (128, epochs)
    assert config.stage_2.dataloader.lambda_up == 50


def test_overrides_of_jtt_reach_both_stages_or_the_one_they_name():
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
            "exp.seed=4",
            "exp.stage_1.train.max_steps=2",
            "exp.stage_2.optimizer.lr=0.25",
        ],
        JTTConfig,
    )
    for stage in (config.stage_1, config.stage_2):
        assert (stage.model.name, stage.model.pretrained) == ("resnet18", False)
        assert (stage.dataset.name, stage.dataset.groupings) == ("synthetic", ["Young:Male"])
        assert (stage.dataloader.batch_size, stage.seed) == (16, 4)
    assert (config.stage_1.train.max_steps, config.stage_2.train.max_steps) == (2, None)
    assert (config.stage_1.optimizer.lr, config.stage_2.optimizer.lr) == (0.5, 0.25)
    assert (config.stage_1.train.total_epochs, config.stage_2.train.total_epochs) == (3, 9)
    assert (config.stage_1.dataloader.lambda_up, config.stage_2.dataloader.lambda_up) == (1, 7)


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


def test_all_problems_are_told_at_once():
    problems = problems_of(
        "exp.lr=1",
        "exp.optimzer.lr=1",
        "exp.dataset.groupings=[Blonde_Hair:Male]",
        "exp.dataloader.sampler=rwx",
        "exp.train.total_epochs=0",
        "exp.optimizer.lr=abc",
    )
    assert len(problems) == 6
    assert "exp.optimizer.lr='abc': a number is expected" in problems
    assert "exp.lr=1 and exp.optimizer.lr=abc set the same value: give one" in problems
    assert "exp.optimzer.lr: there is no such key: did you mean 'exp.optimizer.lr'?" in problems
    assert "exp.dataloader.sampler='rwx': use null, rwy or rwg" in problems
    assert "exp.train.total_epochs=0: a number of at least 1 is expected" in problems
    assert any("did you mean 'Blond_Hair'" in problem for problem in problems)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("exp.optimizer.lr=abc", "exp.optimizer.lr='abc': a number is expected"),
        ("exp.optimizer.lr=true", "exp.optimizer.lr=True: a number is expected"),
        ("exp.optimizer.lr=0", "more than 0 is expected"),
        ("exp.optimizer.lr=nan", "more than 0 is expected"),
        ("exp.optimizer.lr=inf", "more than 0 is expected"),
        ("exp.optimizer.weight_decay=-1", "at least 0 is expected"),
        ("exp.optimizer.schedule=step", "use null or cosine"),
        ("exp.seed=1.5", "exp.seed=1.5: an integer is expected"),
        ("exp.seed=-1", "at least 0"),
        ("exp.seed=null", "exp.seed=None: an integer is expected"),
        ("exp.model.pretrained=yes", "exp.model.pretrained='yes': true or false is expected"),
        ("exp.dataset.groupings=Blond_Hair:Male", "a list is expected, such as [a,b]"),
        ("exp.dataset.groupings=[]", "groupings is empty"),
        ("exp.dataset.target_resolution=[64]", "two integers from 1 to 4096"),
        ("exp.dataset.target_resolution=[64,0]", "two integers from 1 to 4096"),
        ("exp.dataset.target_resolution=[64,x]", "exp.dataset.target_resolution[1]='x'"),
        ("exp.dataset.cache=ram", "use records or none"),
        ("exp.dataloader.batch_size=1", "at least 2"),
        ("exp.dataloader.mtl_join_type=and", "use inv, union, xor or task"),
        ("exp.train.precision=fp8", "use auto, bf16, fp16 or fp32"),
        ("exp.train.keep_ckpts=none", "use best or all"),
        ("exp.train.max_steps=0", "at least 1"),
        ("exp.dataset.subsample=true", "needs exp.dataset.subsample_type: suby or subg"),
        ("exp.dataset.subsample_type=suby", "has no effect without exp.dataset.subsample=true"),
        ("exp.model=resnet18", "'exp.model' is a section; choose one with exp/model=..."),
        ("~exp.seed", "exp.seed is missing"),
        ("~exp.dataset", "exp.dataset=None: a section with keys of its own is expected"),
        ("exp.model.name=${nothing}", "nothing"),
        ("exp.dataset.groupings=[${exp.nothing}]", "key 'exp.nothing' not found"),
        ("exp.dataset.groupings=${exp.nothing}", "key 'exp.nothing' not found"),
        ("exp.dataset.groupings=[${oc.env:NOPE}]", "variable 'NOPE' not found"),
        ("exp.optimizer.lr=1" + "0" * 400, "a number below 2**63 is expected"),
        ("exp.dataset.task_weights=[1" + "0" * 400 + "]", "a number below 2**63 is expected"),
        ("exp.dataloader.lambda_up=1" + "0" * 400, "a number below 2**63 is expected"),
        ("exp.dataloader.lambda_up=1e300", "at most 1,000,000,000"),
        ("exp.total_epochs=1" + "0" * 400, "a number below 2**63 is expected"),
        ("exp.total_epochs=1000000001", "at most 1,000,000,000"),
        ("exp.dataloader.batch_size=inf", "an integer is expected"),
        ("exp.seed=9223372036854775808", "a number below 2**63 is expected"),
        ("exp.seed=" + "9" * 5000, "a number of 1,000 digits or more"),
        ("exp.train.log_dir=", "exp.train.log_dir= is empty"),
        ("exp.dataset.root=''", "exp.dataset.root= is empty"),
        ("exp.dataset.groupings=" + "[" * 3000 + "]" * 3000, "cannot be read"),
    ],
    ids=lambda text: text[:60],
)
def test_one_mistake_gives_one_problem(override, message):
    problems = problems_of(override)
    assert len(problems) == 1 and message in problems[0]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["exp.dataset.task_weights=[0.5,0.5]"], "has length 2, but there are 1 tasks"),
        (["exp.dataset.task_weights=[0.5]"], "has sum 0.5: all weights are 1, or they sum to 1"),
        (["exp.dataset.task_weights=[-1]"], "numbers of at least 0"),
        (["exp.dataset.task_weights=[nan]"], "numbers of at least 0"),
        (["exp.dataset.task_weights=[]"], "has length 0"),
        (
            [
                "exp.groupings=[Young:Male,Bald:Male]",
                "exp.dataset.task_weights=[0.5,0.5]",
                "exp.dataset.loss_balanced_task_weighting=true",
            ],
            "with loss_balanced_task_weighting they must all be 1",
        ),
    ],
)
def test_task_weights_are_one_per_task_and_all_1_or_of_sum_1(overrides, message):
    problems = problems_of(*overrides)
    assert len(problems) == 1 and message in problems[0]


def test_the_largest_seed_is_one_that_torch_takes():
    seed = 2**63 - 1
    torch.manual_seed(seed)
    assert load_config([f"exp.seed={seed}"]).seed == seed


def test_valid_task_weights_are_accepted():
    ten = ["Young", "Male", "Bald", "Bangs", "Chubby", "Goatee", "Blurry", "Smiling", "Mustache"]
    groupings = f"exp.dataset.groupings=[{','.join([*ten, 'Attractive'])}]"
    for weights in ([0.1] * 10, [1] * 10, [1] + [0] * 9, [0.1000001] + [0.1] * 9):
        config = load_config([groupings, f"exp.dataset.task_weights={weights}"])
        assert config.dataset.task_weights == weights
    problems_of(groupings, f"exp.dataset.task_weights={[0.1000021] + [0.1] * 9}")  # off by 2.1e-6
    lbtw = "exp.dataset.loss_balanced_task_weighting=true"
    assert load_config([groupings, lbtw, f"exp.dataset.task_weights={[1] * 10}"])


@pytest.mark.parametrize("method", ["rwg", "subg"])
def test_methods_of_groups_need_group_labels(method):
    problems = problems_of(f"exp={method}", "exp.dataset.subgroup_labels=false")
    assert len(problems) == 1 and problems[0].endswith("set exp.dataset.subgroup_labels=true")
    load_config(["exp=rwy", "exp.dataset.subgroup_labels=false"])


def test_an_entrypoint_refuses_the_methods_of_the_other():
    assert problems_of("exp=jtt", "exp.lambda_up=3") == [
        "exp=jtt has two stages: run python train_jtt.py exp=jtt"
    ]
    assert problems_of("exp=rwg", schema=JTTConfig) == [
        "exp=rwg has one stage: run python train_erm.py, or exp=jtt"
    ]
    assert "use erm, jtt" in problems_of("exp=jtt_stage_1")[0]
    assert problems_of("exp=jtx", schema=JTTConfig) == [
        "exp=jtx: use erm, jtt, rwg, rwy, subg, suby (did you mean jtt?)"
    ]


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
    saved = yaml.safe_load((tmp_path / "config.yaml").read_text())["exp"]
    assert saved == to_dict(config)
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
    assert "exp.optimizer.lr: 0.0001 there, 0.5 asked for" in str(raised.value)
    assert "exp.seed: 0 there, 1 asked for" in str(raised.value)
    assert path.read_text() == before


def test_settings_without_effect_on_the_result_do_not_make_another_run(tmp_path):
    overrides = ["exp.train.log_dir=y", "exp.dataset.cache=none", "exp.train.device=cpu"]
    overrides += ["exp.dataset.cache_dir=z", "exp.train.log_every_n_steps=3"]
    overrides += ["exp.train.keep_ckpts=all", "exp.train.tensorboard=false"]
    overrides += ["exp.train.save_every_minutes=1", "exp.dataloader.num_workers=1"]
    overrides += ["exp.dataloader.eval_batch_size=5", "exp.train.cuda_graph=false"]
    overrides += ["exp.dataloader.device_cache=true"]
    assert len(overrides) == len(WITHOUT_EFFECT)
    path = tmp_path / "config.yaml"
    save_config(load_config(["exp.train.log_dir=x"]), path)
    save_config(load_config(overrides), path)
    overrides = [text for text in overrides if "log_dir" not in text]
    assert load_config(overrides).train.log_dir == load_config([]).train.log_dir


def test_a_damaged_config_of_a_run_is_a_clear_error(tmp_path):
    path = tmp_path / "config.yaml"
    for text in ("exp: [", "", "a: 1", "exp: " + "[" * 40_000):
        path.write_text(text)
        with pytest.raises(UserError, match=r"config\.yaml cannot be read"):
            load_saved_config(path)
    with pytest.raises(UserError, match="is missing"):
        load_saved_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "exp: 3",
        "exp: [1]",
        "exp:",
        "exp: {1: 2}",
        "exp: {name: erm, 1: 2}",
        "exp: {name: erm, optimizer: {1: 2}}",
        "exp: {name: [{1: 2}]}",
        "exp: {seed: 1" + "0" * 400 + "}",
        "exp: {seed: 0x" + "f" * 5000 + "}",
    ],
    ids=lambda text: text[:40],
)
def test_a_saved_config_is_a_table_of_our_keys_and_values(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    for read in (load_saved_config, lambda path: save_config(load_config(["exp=erm"]), path)):
        with pytest.raises(UserError, match="exp is no table of our keys and values"):
            read(path)


# ---------------------------------------------------------------------------- where runs live


@pytest.mark.parametrize(
    ("overrides", "folder"),
    [
        ("", "erm/Blond_Hair-Male/seed0"),
        ("exp=rwg exp.seed=2", "rwg/Blond_Hair-Male/seed2"),
        ("exp.lr=0.0003 exp.total_epochs=50", "erm/Blond_Hair-Male/lr0.0003-total_epochs50-seed0"),
        ("exp.lr=0.0001 exp.total_epochs=50", "erm/Blond_Hair-Male/total_epochs50-seed0"),
        (
            "exp/model=resnet18 exp/dataset=synthetic",
            "erm/Blond_Hair-Male/resnet18-synthetic-seed0",
        ),
        ("exp.model.name=resnet34", "erm/Blond_Hair-Male/modelresnet34-seed0"),
        (
            "exp.dataset.target_resolution=[64,64]",
            "erm/Blond_Hair-Male/target_resolution64x64-seed0",
        ),
        (
            "exp.groupings=[Young:Male,Attractive:Male+Young]",
            "erm/Young-Male_Attractive-Male+Young/seed0",
        ),
    ],
)
def test_a_run_lives_under_its_method_its_tasks_and_what_differs(overrides, folder):
    assert load_config(overrides.split()).train.log_dir == f"logs/{folder}"


def test_a_jtt_run_names_the_stage_of_a_value_that_only_one_stage_has():
    config = load_config(["exp=jtt", "exp.lambda_up=20", "exp.stage_1.optimizer.lr=0.5"], JTTConfig)
    assert config.train.log_dir == "logs/jtt/Blond_Hair-Male/lambda_up20-stage_1_lr0.5-seed0"


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
    "lambda_up": st.integers(1, 3),
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
    assert all(len(part) <= 200 for part in one.parts)


def test_commands_that_look_alike_do_not_share_a_folder():
    pairs = [
        (["exp/dataset=synthetic"], ["exp.dataset.name=synthetic"]),
        (["exp.dataset.root=a-subsampletrue"], ["exp.dataset.root=a", "exp.dataset.name=celeba"]),
        (["exp.dataset.root=a-b"], ["exp.dataset.root=a/b"]),
        (["exp.dataset.root=a/b"], ["exp.dataset.root=a:b"]),
        (["exp.dataset.root=" + 300 * "a"], ["exp.dataset.root=" + 301 * "a"]),
    ]
    for first, second in pairs:
        one, other = load_config(first).train.log_dir, load_config(second).train.log_dir
        assert one != other
        assert len(Path(one).name) <= 170
    inside = ["exp.dataset.root=a-data_augmentationtrue"]
    assert load_config(inside).train.log_dir != (
        load_config(["exp.dataset.root=a", "exp.dataset.data_augmentation=true"]).train.log_dir
    )


def test_a_saved_config_is_read_by_yaml_alone(tmp_path):
    config = load_config(["exp=jtt"], JTTConfig)
    save_config(config, tmp_path / "config.yaml")
    assert OmegaConf.to_container(OmegaConf.load(tmp_path / "config.yaml")) == yaml.safe_load(
        (tmp_path / "config.yaml").read_text()
    )
    assert load_saved_config(tmp_path / "config.yaml", JTTConfig) == config


@pytest.mark.parametrize("name, schema", [("erm", Config), ("jtt", JTTConfig)])
def test_a_run_of_an_earlier_version_gets_the_values_it_ran_with(tmp_path, name, schema):
    path = tmp_path / "config.yaml"
    config = load_config([f"exp={name}"], schema)
    save_config(config, path)
    lines = path.read_text().splitlines(keepends=True)
    newer = ("cuda_graph", "device_cache")
    path.write_text("".join(line for line in lines if not any(key in line for key in newer)))
    loaded = load_saved_config(path, schema)
    assert loaded.train.cuda_graph is False and loaded.dataloader.device_cache is False
    assert effective(loaded) == effective(config)
    save_config(config, path)  # the same run, so it goes on
