"""Whether values fit: their types, their ranges, and what must hold between them."""

import math
from collections.abc import Iterable
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.config.schema import Config, flatten, schema_keys
from src.data.groupings import parse_groupings
from src.io import UserError, did_you_mean
from src.json_shapes import TOO_LARGE


def typed(node: DictConfig | dict, schema: type) -> tuple[Any, dict[str, str]]:
    """Turn a composed node into a `schema` object.

    Returns:
        The object, with None for each value that does not fit, and the problems by dotted key.
    """
    problems: dict[str, str] = {}
    try:
        values = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    except OmegaConfBaseException as error:
        raise UserError(str(error).splitlines()[0]) from error
    return _typed_section(values, schema, "", problems), problems


def _typed_section(values: Any, schema: type, prefix: str, problems: dict[str, str]) -> Any:
    if not isinstance(values, dict):
        where = f"exp.{prefix}".rstrip(".")
        problem = f"{where}={values!r}: a section with keys of its own is expected"
        # One message for every key of the section, so that no rule looks at them; it is shown once.
        problems |= {key: problem for key, _ in schema_keys(schema, prefix.rstrip("."))}
        values = {}
    known = {item.name: item for item in fields(schema)}
    for name in values:
        if name not in known:
            hint = did_you_mean(str(name), known)
            problems[prefix + str(name)] = f"exp.{prefix}{name}: there is no such key{hint}"
    result = {}
    for name, item in known.items():
        key = prefix + name
        if name not in values:
            if item.default is not MISSING:
                result[name] = item.default
            elif item.default_factory is not MISSING:
                result[name] = item.default_factory()
            elif is_dataclass(item.type):
                result[name] = _typed_section(None, item.type, key + ".", problems)
            else:
                result[name] = None
                problems.setdefault(key, f"exp.{key} is missing")
        elif is_dataclass(item.type):
            result[name] = _typed_section(values[name], item.type, key + ".", problems)
        else:
            result[name] = _typed_value(values[name], item.type, key, problems)
    return schema(**result)


KIND_NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}


def _typed_value(value: Any, kind: Any, key: str, problems: dict[str, str]) -> Any:
    kinds = kind.__args__ if isinstance(kind, UnionType) else (kind,)
    if type(value) is int and abs(value) >= TOO_LARGE:
        shown = str(value)[:20]
        problems[key] = f"exp.{key}={shown}...: a number below 2**63 is expected"
        return None
    if type(value) in kinds:
        return value
    base = kinds[0]
    element = getattr(base, "__args__", (None,))[0]
    if element is not None:
        if isinstance(value, list):
            return [
                _typed_value(entry, element, f"{key}[{place}]", problems)
                for place, entry in enumerate(value)
            ]
        problems[key] = f"exp.{key}={value!r}: a list is expected, such as [a,b]"
        return None
    if base is float and type(value) is int:
        return float(value)
    if base is str and type(value) in (int, float):
        return str(value)
    expected = " or ".join(KIND_NAMES[one] for one in kinds if one in KIND_NAMES)
    problems[key] = f"exp.{key}={value!r}: {expected} is expected"
    return None


CHOICES = {
    "optimizer.schedule": (None, "cosine"),
    "dataset.name": ("celeba", "synthetic"),
    "dataset.subsample_type": (None, "suby", "subg"),
    "dataset.cache": ("records", "none"),
    "dataloader.device_cache": ("auto", True, False),
    "dataloader.sampler": (None, "rwy", "rwg"),
    "dataloader.mtl_join_type": ("inv", "union", "xor", "task"),
    "mtl_join_type": ("inv", "union", "xor", "task"),
    "train.precision": ("auto", "bf16", "fp16", "fp32"),
    "train.keep_ckpts": ("best", "all"),
}
SPELLED = {None: "null", True: "true", False: "false"}
# key: (lowest, whether the lowest itself is allowed)
LOWEST = {
    "seed": (0, True),
    "optimizer.lr": (0, False),
    "optimizer.weight_decay": (0, True),
    "optimizer.momentum": (0, True),
    "dataset.lbtw_alpha": (0, True),
    "dataset.synthetic.num_train": (1, True),
    "dataset.synthetic.num_val": (1, True),
    "dataset.synthetic.num_test": (1, True),
    "dataset.synthetic.seed": (0, True),
    "dataset.synthetic.correlation": (0, True),
    "dataloader.batch_size": (2, True),
    "dataloader.eval_batch_size": (1, True),
    "dataloader.num_workers": (0, True),
    "dataloader.lambda_up": (1, True),
    "train.total_epochs": (1, True),
    "train.max_steps": (1, True),
    "train.log_every_n_steps": (1, True),
    "train.save_every_minutes": (0, False),
    "lambda_up": (1, True),
    "epochs_stage_1": (1, True),
}
# Whole numbers end at 10**9, and so do these; a seed may be any that our files can hold.
HIGHEST = {"lambda_up": 10**9, "dataloader.lambda_up": 10**9}
HIGHEST |= {"seed": TOO_LARGE - 1, "dataset.synthetic.seed": TOO_LARGE - 1}


def check(config: Config, broken: Iterable[str] = ()) -> list[str]:
    """All violations of rules that types cannot express; `broken` keys are left out."""
    broken = {key.partition("[")[0] for key in broken}
    values = {key: value for key, value in flatten(config).items() if key not in broken}
    problems = []
    for key, value in values.items():
        rule = key.removeprefix("stage_1.").removeprefix("stage_2.")
        if rule in CHOICES and value not in CHOICES[rule]:
            names = [SPELLED.get(choice, choice) for choice in CHOICES[rule]]
            listed = ", ".join(names[:-1]) + " or " + names[-1]
            problems.append(f"exp.{key}='{value}': use {listed}")
        if rule in LOWEST and value is not None:
            lowest, inclusive = LOWEST[rule]
            # `not (x >= y)` rather than `x < y`: it also catches NaN.
            highest = HIGHEST.get(rule, math.inf if isinstance(value, float) else 10**9)
            if not (value >= lowest if inclusive else value > lowest) or value == math.inf:
                bound = f"at least {lowest}" if inclusive else f"more than {lowest}"
                problems.append(f"exp.{key}={value}: a number of {bound} is expected")
            elif value > highest:
                problems.append(f"exp.{key}={value}: a number of at most {highest:,} is expected")
        if value == "":
            problems.append(f"exp.{key}= is empty: give a text, or leave it out")
    rules = {
        _check_groupings: {"dataset.groupings"},
        _check_resolution: {"dataset.target_resolution"},
        _check_subsample: {"dataset.subsample", "dataset.subsample_type"},
        _check_task_weights: {"dataset.task_weights", "dataset.groupings"},
        _check_groups: {"dataset.subgroup_labels", "dataloader.sampler", "dataset.subsample_type"},
    }
    for rule, needed in rules.items():
        if not needed & broken:
            problems += rule(config)
    return problems


def _check_groupings(config: Config) -> list[str]:
    try:
        parse_groupings(config.dataset.groupings, training=True)
    except UserError as error:
        return [f"exp.dataset.groupings: {problem}" for problem in error.problems]
    return []


def _check_resolution(config: Config) -> list[str]:
    resolution = config.dataset.target_resolution
    if len(resolution) == 2 and min(resolution) >= 1 and max(resolution) <= 4096:
        return []
    return [
        f"exp.dataset.target_resolution={resolution}: two integers from 1 to 4096, height and "
        f"width, such as [224,224]"
    ]


def _check_subsample(config: Config) -> list[str]:
    dataset = config.dataset
    if dataset.subsample and dataset.subsample_type is None:
        return ["exp.dataset.subsample=true needs exp.dataset.subsample_type: suby or subg"]
    if dataset.subsample_type and not dataset.subsample:
        return [
            f"exp.dataset.subsample_type={dataset.subsample_type} has no effect without "
            f"exp.dataset.subsample=true: set both"
        ]
    return []


def _check_task_weights(config: Config) -> list[str]:
    dataset = config.dataset
    weights, tasks = dataset.task_weights, len(dataset.groupings)
    if weights is None:
        return []
    where = "exp.dataset.task_weights"
    if len(weights) != tasks:
        return [
            f"{where} has length {len(weights)}, but there are {tasks} tasks: give one per task"
        ]
    if not all(weight >= 0 for weight in weights):
        return [f"{where}={weights}: weights are numbers of at least 0"]
    ones = all(weight == 1 for weight in weights)
    if dataset.loss_balanced_task_weighting and not ones:
        return [f"{where}={weights}: with loss_balanced_task_weighting they must all be 1"]
    if not ones and not abs(sum(weights) - 1) <= 1e-6:
        return [f"{where} has sum {sum(weights):g}: all weights are 1, or they sum to 1"]
    return []


def _check_groups(config: Config) -> list[str]:
    if config.dataset.subgroup_labels:
        return []
    users = {
        "exp.dataloader.sampler=rwg": config.dataloader.sampler == "rwg",
        "exp.dataset.subsample_type=subg": config.dataset.subsample_type == "subg",
    }
    return [
        f"{setting} needs group labels: set exp.dataset.subgroup_labels=true"
        for setting, used in users.items()
        if used
    ]
