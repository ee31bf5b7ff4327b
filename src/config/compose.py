"""The door of the configuration: from a command line to a checked `Config`.

Every mistake is reported at once, with exit code 2. Only the entrypoints, src/api.py and the stages
of methods import this module; everything behind them takes plain arguments or sections of `Config`.
"""

import re
import signal
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, get_args

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from src.config.overrides import CONFIG_DIR, prepare_overrides
from src.config.saved import WITHOUT_EFFECT, read_config, to_dict
from src.config.schema import Config, StageConfig, flatten, schema_keys, section_of
from src.data.features import open_features
from src.io import UserError, did_you_mean, exit_on_user_error, first_line
from src.methods.options import FIND_GROUPS, STAGED
from src.objective.options import ObjectiveOptions
from src.runs.names import default_log_dir
from src.spurious.pairs import expand_groupings

SWEEP_FLAGS = {"--multirun", "-m"}
# Hydra answers these itself.
HYDRA_FLAGS = {"--hydra-help", "--cfg", "-c", "--info", "-i", "--version", "--package", "-p"}
HYDRA_FLAGS |= {"--shell-completion", "-sc", "--resolve", *SWEEP_FLAGS}


def launch(main: Callable[[Config], None]) -> None:
    """Run an entrypoint: turn sys.argv into a checked `Config` and call `main` with it."""
    try:
        with exit_on_user_error():
            _launch(main, sys.argv[1:])
    except KeyboardInterrupt:  # before training, or the second one
        sys.exit(128 + signal.SIGINT)


def _launch(main: Callable[[Config], None], argv: list[str]) -> None:
    flags = {piece.split("=")[0] for piece in argv if piece.startswith("-")}
    if flags & {"--help", "-h"}:
        from src.config.help import print_help

        print_help(_compose(_checked([piece for piece in argv if not piece.startswith("-")])))
    elif flags & HYDRA_FLAGS:
        _launch_by_hydra(main, argv, sweep=bool(flags & SWEEP_FLAGS))
    else:
        main(load_config(argv))


def _launch_by_hydra(main: Callable[[Config], None], argv: list[str], sweep: bool) -> None:
    """Leave the command line to Hydra; a failed job of a sweep does not end the others."""
    import hydra
    from hydra.core.hydra_config import HydraConfig

    _register()
    flags, pieces = [], []
    for before, piece in zip(["", *argv], argv):
        value_of_flag = before.startswith("-") and "=" not in piece and not piece.startswith("~")
        (flags if piece.startswith("-") or value_of_flag else pieces).append(piece)
    given = _checked(pieces, sweep)
    sys.argv[1:] = [*flags, *given]
    fixed = {text.lower() for text in given}  # Hydra writes true as True
    failed: list[str] = []

    @hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name="default")
    def run(composed: DictConfig) -> None:
        hydra_config = HydraConfig.get()
        overrides = list(hydra_config.overrides.task)
        in_this_process = hydra_config.launcher._target_.endswith("BasicLauncher")
        try:
            main(_build(composed.exp, overrides))
        except UserError as error:
            if not in_this_process:
                raise
            job = " ".join(text for text in overrides if text.lower() not in fixed)
            failed.extend(f"{job or 'the run'}: {problem}" for problem in error.problems)
            print("\n".join(f"error: {problem}" for problem in error.problems), file=sys.stderr)

    run()
    if failed and sweep:
        raise UserError(["not all runs of this sweep succeeded:", *failed])
    if failed:
        sys.exit(2)


def load_config(argv: list[str]) -> Config:
    """Compose and check the configuration of a command line.

    Raises:
        UserError: every problem of the command line and of the values at once.
    """
    overrides, problems = prepare_overrides(argv)
    try:
        config = _build(_compose(overrides), overrides)
    except UserError as error:
        raise UserError([*problems, *error.problems]) from error
    if problems:
        raise UserError(problems)
    return config


def load_saved_config(path: Path) -> Config:
    """Read and check the configuration of a run folder."""
    try:
        return validate(read_config(path))
    except UserError as error:
        raise UserError([f"{path}: {problem}" for problem in error.problems]) from error


def _checked(argv: list[str], sweep: bool = False) -> list[str]:
    overrides, problems = prepare_overrides(argv, sweep)
    if problems:
        raise UserError(problems)
    return overrides


@cache
def _register() -> None:
    """Give Hydra the defaults of the objective's options, which are written beside its layers."""
    from hydra.core.config_store import ConfigStore

    node = ObjectiveOptions().model_dump()
    ConfigStore.instance().store(group="exp/objective", name="default", node=node)


def _compose(overrides: list[str]) -> DictConfig:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    _register()
    # Under -m Hydra itself is at work, and it allows no second instance.
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIG_DIR.resolve()), version_base="1.3"):
            composed = compose("default", overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(first_line(error)) from error
    finally:
        GlobalHydra.instance().hydra = outer
    return composed.exp


@cache
def _reference(*overrides: str) -> DictConfig:
    """Compose a method without changes; this takes Hydra a third of a second."""
    return _compose(list(overrides))


def _build(composed: DictConfig, overrides: list[str]) -> Config:
    """Check composed values, and fill in the default of exp.train.log_dir."""
    OmegaConf.set_struct(composed, False)
    try:
        values = OmegaConf.to_container(composed, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(first_line(error)) from error
    groupings = (values.get("dataset") or {}).get("groupings")
    if isinstance(groupings, list) and any(str(text).startswith("@") for text in groupings):
        # `@table.csv:top5`: the saved configuration holds the pairs, not the table.
        values["dataset"]["groupings"] = expand_groupings([str(text) for text in groupings])
    config = validate(values)
    if config.dataset.features is not None and config.model.inputs is None:
        config.model.inputs = open_features(config.dataset.features).shape[1]
    if config.train.log_dir is None:
        config.train.log_dir = str(_default_log_dir(config, values, overrides))
    return config


def validate(values: dict[str, Any]) -> Config:
    """Check the values of a configuration.

    Raises:
        UserError: all problems at once.
    """
    try:
        config = Config.model_validate(values)
        if config.method in STAGED and config.stage is None:
            found = {"found_groups": "found_groups.npz"} if config.method in FIND_GROUPS else {}
            stage_config(config, "stage_1")
            stage_config(config, "stage_2", dataloader=found)
    except ValidationError as error:
        raise UserError(_problems(error)) from error
    return config


def stage_config(
    config: Config, stage: str, own_step: bool = False, **fixed: dict[str, Any]
) -> Config:
    """Return the configuration of one stage: that of the run, with the stage's differences.

    Args:
        stage: stage_1 or stage_2.
        own_step: whether the stage trains by the method's own step; else by plain training.
        fixed: values by section that the method sets, under the user's.
    """
    values = to_dict(config)
    changes: StageConfig = getattr(config, stage)
    for section in {"optimizer", "dataloader", "objective", "train", *fixed}:
        given = getattr(changes, section, {})
        values[section] = values[section] | fixed.get(section, {}) | given
    values |= {"stage_1": {}, "stage_2": {}, "name": f"{config.name}_{stage}"}
    values |= {"stage": stage} if own_step else {"method": None}
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UserError(_problems(error, prefix=f"exp.{stage}")) from error


def _problems(error: ValidationError, prefix: str = "exp") -> list[str]:
    """Format pydantic's errors: one line per key, with its value and what is allowed."""
    fields = dict(schema_keys(Config, "exp"))
    lines: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False):
        parts = ["exp"]
        for part in problem["loc"]:
            if ".".join([*parts, str(part)]) not in fields and problem["type"] != "extra_forbidden":
                break
            parts.append(str(part))
        key = ".".join(parts)
        shown = key.replace("exp", prefix, 1)
        value = problem["input"]
        if problem["type"] == "extra_forbidden":
            siblings = [p for p in fields if p.rpartition(".")[0] == key.rpartition(".")[0]]
            text = f"{shown}: there is no such key{did_you_mean(key, siblings)}"
        elif problem["type"] == "missing":
            text = f"{shown} is missing"
        elif problem["type"] == "value_error":
            where = "" if key == "exp" or section_of(fields[key]) is not None else f"{shown}: "
            dotted = f"{shown}." if not where else ""
            texts = problem["msg"].removeprefix("Value error, ").splitlines()
            lines.setdefault(key, []).extend(f"{where or dotted}{text}" for text in texts)
            continue
        else:
            message = problem["msg"].replace("Input should be", "use").replace("'", "")
            if problem["type"] == "too_short":
                message = "is empty"
            message = re.sub("use (greater|less)", r"use a number \1", message)
            null = ", or null" if problem["type"] == "literal_error" and _takes_null(key) else ""
            text = f"{shown}={_spell(value)}: {message}{null}"
        same = [line for line in lines.get(key, []) if line.startswith(f"{shown}=")]
        if same:  # another branch of a union
            lines[key][-1] += text.partition(": ")[2].replace("use", ", or", 1)
        else:
            lines.setdefault(key, []).append(text)
    return [line for texts in lines.values() for line in texts]


def _takes_null(key: str) -> bool:
    return type(None) in get_args(dict(schema_keys(Config))[key].annotation)


def _spell(value: Any) -> str:
    spelled = {None: "null", True: "true", False: "false"}
    return spelled[value] if value is None or isinstance(value, bool) else repr(value)


def _default_log_dir(config: Config, values: dict[str, Any], overrides: list[str]) -> Path:
    """Name the run's folder after what differs from the method's YAML."""
    named = [text.partition("=")[2] for text in overrides if text.startswith("exp=")]
    method = named[-1] if named else "erm"
    if config.name != method:
        raise UserError(
            f"exp.name={config.name}, but the method is {method}: leave the name, or give the run "
            f"a folder of its own with exp.train.log_dir=..."
        )
    # A selected part (exp/dataset=synthetic) is known by its name; its values are not repeated.
    parts = [text for text in overrides if text.startswith(("exp/model=", "exp/dataset="))]
    plain, chosen = _reference(f"exp={method}"), _reference(f"exp={method}", *parts)
    changed = {
        section: chosen[section].name
        for section in ("model", "dataset")
        if chosen[section].name != plain[section].name
    }
    now, before = flatten(values), flatten(OmegaConf.to_container(chosen))
    final = flatten(to_dict(config))
    ignored = WITHOUT_EFFECT | {"name", "seed", "dataset.groupings"}
    changed |= {
        key: final.get(key, value)
        for key, value in now.items()
        if key not in ignored and (key not in before or value != before[key])
    }
    return default_log_dir(method, config.dataset.groupings, changed, config.seed)
