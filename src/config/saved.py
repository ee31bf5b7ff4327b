"""Saved configurations: config.yaml of a run, also of the first edition."""

from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from pydantic import BaseModel

from src.config.dataset import PICTURE_OPTIONS, TABLE_OPTIONS, DatasetConfig
from src.config.schema import Config, flatten
from src.io import UserError, first_line, write_atomic
from src.methods.options import METHODS, STAGED
from src.objective.options import ObjectiveOptions

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
    "train.num_devices",
    "train.log_every_n_steps",
    "train.save_every_minutes",
    "train.keep_ckpts",
    "train.tensorboard",
    "train.tracker",
}


def to_dict(config: Config) -> dict[str, Any]:
    """Return a configuration as it is saved: only options of chosen layers and methods."""
    values = config.model_dump()
    values["objective"] = config.objective.chosen()
    data, fields = values["dataset"], DatasetConfig.model_fields
    for name in PICTURE_OPTIONS | TABLE_OPTIONS:
        if data[name] == fields[name].get_default(call_default_factory=True):
            del data[name]
    if config.train.val_every_n_epochs == 1:
        del values["train"]["val_every_n_epochs"]
    if config.optimizer.warmup_steps == 0:
        del values["optimizer"]["warmup_steps"]
    values["model"] = {
        key: value
        for key, value in values["model"].items()
        if key not in ("inputs", "freeze") or value
    }
    unused = [method for method in METHODS if method in values and method != config.method]
    unused += ["stage"] * (config.stage is None)
    if config.method not in STAGED or config.stage is not None:
        unused += ["stage_1", "stage_2"]
    return {key: value for key, value in values.items() if key not in unused}


def effective(config: Config | dict[str, Any]) -> dict[str, Any]:
    """Return the leaf values that decide a result: runs are the same if these are equal."""
    leaves = flatten(to_dict(config) if isinstance(config, BaseModel) else config)
    endings = tuple(f".{name}" for name in WITHOUT_EFFECT)
    return {key: value for key, value in leaves.items() if not f".{key}".endswith(endings)}


def save_config(config: Config, path: Path) -> None:
    """Write config.yaml of a run, or check that the existing one is of the same run.

    Raises:
        UserError: the folder holds a run of another configuration.
    """
    if not path.exists():
        write_atomic(path, OmegaConf.to_yaml(OmegaConf.create({"exp": to_dict(config)})))
        return
    saved, now = effective(Config.model_validate(read_config(path))), effective(config)
    differences = [
        f"exp.{key}: {saved.get(key)!r} there, {now.get(key)!r} now"
        for key in sorted(saved.keys() | now.keys())
        if saved.get(key) != now.get(key)
    ]
    if differences:
        raise UserError(
            f"{path.parent} holds a run of another configuration ({'; '.join(differences)}): "
            f"choose another exp.train.log_dir, or delete that folder"
        )


def read_config(path: Path) -> dict[str, Any]:
    """Read the section `exp` of a saved config.yaml as plain values, upgraded if it is old."""
    return upgrade(read_yaml(path))


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the section `exp` of a config.yaml as it is."""
    try:
        saved = yaml.load(path.read_text(), _Loader)["exp"]  # a SafeLoader
        if not isinstance(saved, dict):
            raise ValueError("exp is not a section")
        return saved
    except FileNotFoundError as error:
        raise UserError(f"{path.parent} is not a run folder: {path.name} is missing") from error
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError) as error:
        reason = first_line(error)
        raise UserError(f"{path} cannot be read ({reason})") from error


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Reads numbers as OmegaConf does: 1e-4 is a number. Fifty times faster than OmegaConf."""


def _load_as_omegaconf() -> None:
    import re

    _Loader.yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in forms if not tag.endswith(":timestamp")]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    number = re.compile(r"[-+]?\d+[eE][-+]?\d+$")
    _Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, [*"-+0123456789"])


_load_as_omegaconf()


def is_first_edition(saved: dict[str, Any]) -> bool:
    """Return whether a saved configuration was written by the first edition."""
    return "objective" not in saved


def upgrade(saved: dict[str, Any]) -> dict[str, Any]:
    """Give a configuration of the first edition the keys of today, with what it ran with."""
    if not is_first_edition(saved):
        return saved
    staged = "stage_1" in saved
    model = {"head": "linear"} | (saved.get("model") or {})
    data, optimizer, loader, train = (
        dict(saved.get(name) or {}) for name in ("dataset", "optimizer", "dataloader", "train")
    )
    optimizer.setdefault("name", "sgd")
    loader.setdefault("device_cache", False)
    train.setdefault("cuda_graph", False)
    across = "lbtw" if data.get("loss_balanced_task_weighting") else "static"
    known = {key: value for key, value in saved.items() if key in Config.model_fields}
    result = known | {"model": model, "dataset": data, "optimizer": optimizer, "train": train}
    objective = ObjectiveOptions(across=across).chosen()
    result |= {"dataloader": loader, "objective": objective, "method": None}
    if staged:
        loader |= {"lambda_up": saved["lambda_up"], "mtl_join_type": saved["mtl_join_type"]}
        loader["error_set"] = saved["load_error_set"]
        result["method"] = "jtt"
        for stage in ("stage_1", "stage_2"):
            result[stage] = {"train": {"total_epochs": saved[stage]["train"]["total_epochs"]}}
    return result
