"""The keys of a configuration, as dataclasses; their values and meaning are in configs/exp/."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any


@dataclass
class ModelConfig:
    name: str
    pretrained: bool
    weights: str | None


@dataclass
class OptimizerConfig:
    lr: float
    weight_decay: float
    momentum: float
    schedule: str | None


@dataclass
class SyntheticConfig:
    num_train: int = 16000
    num_val: int = 4000
    num_test: int = 8000
    seed: int = 0
    correlation: float = 1.0


@dataclass
class DatasetConfig:
    name: str
    root: str
    groupings: list[str]
    subgroup_labels: bool
    task_weights: list[float] | None
    loss_balanced_task_weighting: bool
    lbtw_alpha: float
    subsample: bool
    subsample_type: str | None
    target_resolution: list[int]
    data_augmentation: bool
    cache: str
    cache_dir: str
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)


@dataclass
class DataloaderConfig:
    batch_size: int
    eval_batch_size: int
    device_cache: str | bool
    sampler: str | None
    num_workers: int
    error_set: str | None
    lambda_up: float
    mtl_join_type: str


@dataclass
class TrainConfig:
    total_epochs: int
    max_steps: int | None
    precision: str
    device: str
    compile: bool
    cuda_graph: bool
    log_dir: str | None
    log_every_n_steps: int
    save_every_minutes: float
    keep_ckpts: str
    tensorboard: bool


@dataclass
class Config:
    """One training run: `exp` of a composed configuration."""

    name: str
    seed: int
    model: ModelConfig
    optimizer: OptimizerConfig
    dataset: DatasetConfig
    dataloader: DataloaderConfig
    train: TrainConfig


@dataclass
class JTTConfig(Config):
    """Just Train Twice: what both stages share, and each stage as a complete run."""

    lambda_up: float
    epochs_stage_1: int
    mtl_join_type: str
    load_error_set: str | None
    stage_1: Config
    stage_2: Config


def dataset_options(data: DatasetConfig) -> dict[str, Any]:
    """Return the arguments of `open_dataset` but for the number of workers."""
    names = ("name", "root", "target_resolution", "cache", "cache_dir")
    return {name: getattr(data, name) for name in names} | {"synthetic": vars(data.synthetic)}


def schema_keys(schema: type, prefix: str) -> Iterator[tuple[str, Any]]:
    """Dotted names of all fields below a dataclass, with their types."""
    for item in fields(schema):
        path = f"{prefix}.{item.name}".lstrip(".")
        yield path, item.type
        if is_dataclass(item.type):
            yield from schema_keys(item.type, path)


def flatten(section: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys of a configuration object (or nested dict) to its leaf values."""
    items = section.items() if isinstance(section, dict) else vars(section).items()
    leaves = {}
    for name, value in items:
        if is_dataclass(value) or isinstance(value, dict):
            leaves |= flatten(value, f"{prefix}{name}.")
        else:
            leaves[prefix + name] = value
    return leaves
