"""The door of the configuration: every mistake is named here, all at once, with exit code 2.

A command line passes through `launch`: pieces of a bracketed list are joined, aliases replaced and
keys checked (src/config/overrides.py), Hydra composes, types and cross-field rules are checked
(src/config/rules.py), and the entrypoint gets a `Config` (src/config/schema.py). Nothing behind the
entrypoints knows this object.
"""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.config.overrides import CONFIG_DIR, check_overrides, join_brackets, resolve_aliases
from src.config.plain_yaml import parse_yaml
from src.config.rules import check, typed
from src.config.schema import Config, JTTConfig, flatten
from src.io import UserError, exit_on_user_error, write_atomic
from src.json_shapes import TOO_LARGE
from src.runs.folder import Run
from src.runs.names import default_log_dir
from src.spurious.pairs import expand_groupings

# Settings that change speed, place or logging, never a result: not part of a run's identity.
WITHOUT_EFFECT = {
    "dataset.cache",
    "dataset.cache_dir",
    "dataloader.eval_batch_size",
    "dataloader.num_workers",
    "dataloader.device_cache",
    "train.cuda_graph",
    "train.device",
    "train.log_dir",
    "train.log_every_n_steps",
    "train.save_every_minutes",
    "train.keep_ckpts",
    "train.tensorboard",
}

# Keys that runs saved by earlier versions lack; all without effect on a result.
NEWER_KEYS = {"train.cuda_graph": False, "dataloader.device_cache": False}

# Hydra answers these itself; several runs in one call (-m) are its business, too.
HYDRA_FLAGS = ("--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i", "--version")
HYDRA_FLAGS += ("--shell-completion", "-sc", "--multirun", "-m", "--package", "-p", "--resolve")


def launch(main: Callable[[Any], None], schema: type = Config) -> None:
    """Run an entrypoint: turn sys.argv into a checked `schema` object and call `main` with it.

    A mistake is printed without traceback and exits with 2. Hydra's own flags (--help, --cfg job,
    shell completion, -m) are left to Hydra.
    """
    with exit_on_user_error(), _quiet_on_ctrl_c():
        argv = join_brackets(sys.argv[1:])
        if any(piece.split("=")[0] in HYDRA_FLAGS for piece in argv):
            return _launch_by_hydra(main, schema, argv)
        main(load_config(argv, schema))


@contextmanager
def _quiet_on_ctrl_c() -> Iterator[None]:
    """Ctrl-C before training has begun, or for the second time: no traceback, the usual code."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _launch_by_hydra(main: Callable[[Any], None], schema: type, argv: list[str]) -> None:
    import hydra

    keys, problems = resolve_aliases([piece for piece in argv if not piece.startswith("-")])
    raise_if(problems)
    aliased = iter(keys)
    sys.argv[1:] = [piece if piece.startswith("-") else next(aliased) for piece in argv]

    @hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name="default")
    def run(composed: DictConfig) -> None:
        overrides = list(hydra.core.hydra_config.HydraConfig.get().overrides.task)
        OmegaConf.set_struct(composed, False)
        with exit_on_user_error():
            expand_tables(composed.exp)
            config, broken = typed(composed.exp, schema)
            raise_if([*broken.values(), *check(config, broken)])
            main(with_log_dir(config, composed.exp, overrides))

    run()


def load_config(argv: list[str], schema: type = Config) -> Any:
    """Compose and check the configuration that `argv` asks for.

    Raises:
        UserError: every problem of the command line and of the values at once.
    """
    overrides, problems = resolve_aliases(join_brackets(argv))
    overrides, more = check_overrides(overrides, schema)
    problems += more
    try:
        composed = _compose(overrides)
        expand_tables(composed)
        config, broken = typed(composed, schema)
    except UserError as error:
        raise UserError([*problems, *error.problems]) from error
    if ("stage_1" in composed) != (schema is JTTConfig):
        wrong = (
            f"exp={_method(overrides)} has one stage: run python train_erm.py, or exp=jtt"
            if schema is JTTConfig
            else f"exp={_method(overrides)} has two stages: run python train_jtt.py exp=jtt"
        )
        raise UserError([problem for problem in problems if problem.startswith("exp=")] or wrong)
    raise_if([*problems, *broken.values(), *check(config, broken)])
    return with_log_dir(config, composed, overrides)


def _method(overrides: list[str]) -> str:
    """The method that a command line names; Hydra takes the last one."""
    named = [text.partition("=")[2] for text in overrides if text.startswith("exp=")]
    return named[-1] if named else "erm"


def expand_tables(composed: DictConfig) -> None:
    """Put the pairs in the place of `@table.csv:top5` among the groupings; the saved configuration
    then holds them, not the table (see src/spurious/pairs.py)."""
    try:
        groupings = OmegaConf.select(composed, "dataset.groupings")
        texts = [str(text) for text in groupings] if OmegaConf.is_list(groupings) else []
    except OmegaConfBaseException as error:
        raise UserError(f"exp.dataset.groupings: {str(error).splitlines()[0]}") from error
    if any(text.startswith("@") for text in texts):
        composed.dataset.groupings = expand_groupings(texts)


def raise_if(problems: list[str]) -> None:
    if problems:
        raise UserError(list(dict.fromkeys(problems)))


def _compose(overrides: list[str]) -> DictConfig:
    """The node `exp` of the composed configuration, interpolations unresolved."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    # Under -m Hydra itself is at work, and it allows no second one beside it.
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIG_DIR.resolve()), version_base="1.3"):
            composed = compose("default", overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(str(error).splitlines()[0]) from error
    finally:
        GlobalHydra.instance().hydra = outer
    OmegaConf.set_struct(composed, False)
    return composed.exp


@cache
def _reference(*overrides: str) -> DictConfig:
    """What a method is by itself; composing takes Hydra a third of a second."""
    return _compose(list(overrides))


def with_log_dir(config: Config, composed: DictConfig, overrides: list[str]) -> Config:
    """Fill in the default of exp.train.log_dir from what differs from the method's YAML."""
    if config.train.log_dir is not None:
        return config
    method = _method(overrides)
    if config.name != method:
        raise UserError(
            f"exp.name={config.name}, but the method is {method}: leave the name, or give the run "
            f"a folder of its own with exp.train.log_dir=..."
        )
    # A chosen part (exp/dataset=synthetic) is known by its name; its values are not repeated.
    parts = [text for text in overrides if text.startswith(("exp/model=", "exp/dataset="))]
    plain, chosen = _reference(f"exp={method}"), _reference(f"exp={method}", *parts)
    values = {
        section: chosen[section].name
        for section in ("model", "dataset")
        if chosen[section].name != plain[section].name
    }
    changed = _changed(composed, chosen)
    values |= {key: value for key, value in flatten(config).items() if key in changed}
    config.train.log_dir = str(
        default_log_dir(method, config.dataset.groupings, values, config.seed)
    )
    return config


def _changed(composed: DictConfig, reference: DictConfig) -> set[str]:
    """Keys whose written value differs: an interpolated one counts only where it was overridden."""
    now, before = (
        flatten(OmegaConf.to_container(node, resolve=False)) for node in (composed, reference)
    )
    nothing = object()
    changed = {key for key, value in now.items() if value != before.get(key, nothing)}
    return changed - WITHOUT_EFFECT - {"name", "seed", "dataset.groupings"}


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration object as plain dicts and lists, as it is saved in config.yaml."""
    return OmegaConf.to_container(OmegaConf.structured(config))


def effective(config: Config | dict[str, Any]) -> dict[str, Any]:
    """The leaf values that decide a run's result: two runs are the same where these are equal."""
    endings = tuple(f".{name}" for name in WITHOUT_EFFECT)
    leaves = flatten(config)
    return {key: value for key, value in leaves.items() if not f".{key}".endswith(endings)}


def train_once(config: Config, train: Callable[[Any, Run], None]) -> None:
    """Call `train(config, run)` in the run folder of `config`, unless that run is done.

    Raises:
        UserError: another process trains there, it holds another run, or training failed.
    """
    run = Run(config.train.log_dir)
    with run.claim():
        save_config(config, run.config)
        if run.status()["state"] == "done":
            print(f"{run.path} is done already", flush=True)
        else:
            print(f"{run.path}", flush=True)
            try:
                train(config, run)
            except Exception as error:  # also what goes wrong before the first step
                # The first error is the one to show, also where a full disk takes no second one.
                with suppress(UserError, OSError):
                    run.set_status(state="failed", error=str(error) or type(error).__name__)
                raise
    best = "best-group" if config.dataset.subgroup_labels else "best-avg"
    print(f"evaluate it: python test.py --log_dir {run.path} --ckpt_num {best} --split test")


def save_config(config: Config, path: Path) -> None:
    """Write config.yaml of a run, or check that the one there asks for the same run.

    Raises:
        UserError: the folder holds a run of another configuration; the differences are listed.
    """
    if path.exists():
        saved, now = effective(read_config_file(path)), effective(to_dict(config))
        differences = [
            f"exp.{key}: {saved.get(key)!r} there, {now.get(key)!r} asked for"
            for key in sorted(saved.keys() | now.keys())
            if saved.get(key) != now.get(key)
        ]
        if differences:
            raise UserError(
                f"{path.parent} holds a run of another configuration ({'; '.join(differences)}): "
                f"choose another exp.train.log_dir, or delete that folder"
            )
        return
    write_atomic(path, OmegaConf.to_yaml(OmegaConf.create({"exp": to_dict(config)})))


def read_config_file(path: Path) -> dict[str, Any]:
    """The section `exp` of a saved config.yaml, as plain values."""
    try:
        saved = parse_yaml(path.read_text())["exp"]
        if not isinstance(saved, dict) or not _plain(saved):
            raise ValueError("exp is no table of our keys and values")
        return saved
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: {path.parent} is no run folder") from error
    except Exception as error:  # a YAML error has many forms
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{path} cannot be read ({reason}): the folder is no sound run") from error


def _plain(value: Any) -> bool:
    """Whether all keys are texts, and no whole number is longer than ours are."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _plain(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(map(_plain, value))
    return not isinstance(value, int) or abs(value) < TOO_LARGE


def load_saved_config(path: Path, schema: type = Config) -> Any:
    """The configuration of a run folder, checked like a new one."""
    saved = read_config_file(path)
    add_newer_keys(saved)
    config, broken = typed(saved, schema)
    problems = [*broken.values(), *check(config, broken)]
    raise_if([f"{path}: {problem}" for problem in problems])
    return config


def add_newer_keys(saved: Any) -> None:
    """Give a run of an earlier version the keys it lacks, with the values it ran with."""
    if not isinstance(saved, dict):
        return
    for key, value in NEWER_KEYS.items():
        part, name = key.split(".")
        if isinstance(saved.get(part), dict):
            saved[part].setdefault(name, value)
    for stage in ("stage_1", "stage_2"):
        add_newer_keys(saved.get(stage))
