"""The keys of a configuration: types, ranges, choices and meaning; defaults are in configs/exp/.

`python train.py --help` prints these descriptions. Options of the objective are in
src/objective/options.py, beside the layers that use them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, create_model, model_validator

from src.config.dataset import MOST, Count, DatasetConfig, PathText, Seed, Text
from src.config.needs import group_problems, method_problems
from src.data.features import FEATURE_MODELS
from src.methods.options import METHODS, STAGED
from src.objective import combinations
from src.objective.options import ObjectiveOptions, Options


class ModelConfig(Options):
    name: Text = Field(description="resnet50 or any torchvision classifier, or timm/NAME")
    pretrained: bool = Field(description="start from ImageNet weights; false: random weights")
    weights: PathText | None = Field(description="a local .safetensors or .pt backbone instead")
    head: Literal["linear", "cosine", "prototypes"] = Field(
        "linear",
        description="cosine: normalised features and rows, no bias (LDAM); prototypes: set by DPE",
    )

    freeze: Literal["bn"] | bool = Field(
        False, description="true: train the head only; bn: keep batch norm as it is"
    )
    inputs: Count | None = Field(
        None, description="width of the features that linear and mlp see; null: that of the file"
    )


class OptimizerConfig(Options):
    name: Literal["sgd", "adam", "adamw"] = Field(
        description="only fused ones: they skip a step whose loss is not finite"
    )
    lr: float = Field(gt=0, description="learning rate")
    weight_decay: float = Field(ge=0)
    momentum: float = Field(ge=0, lt=1, description="of sgd")
    schedule: Literal["cosine"] | None = Field(
        description="null: constant; cosine: down to 0 over all steps of the run"
    )
    warmup_steps: int = Field(
        0, ge=0, le=MOST, description="steps in which lr first rises to its value, linearly"
    )


class DataloaderConfig(Options):
    batch_size: int = Field(ge=2, le=MOST)
    eval_batch_size: Count = Field(description="of validation and test; changes only the speed")
    device_cache: Literal["auto"] | bool = Field(
        description="keep images on the device once read; auto: on a GPU, if they fit"
    )
    sampler: Literal["rwy", "rwg"] | None = Field(
        description="rwy: draw classes equally often; rwg: groups"
    )
    num_workers: int = Field(ge=0, le=MOST, description="decoding threads with cache: none")
    train_fraction: float = Field(
        1.0, gt=0, le=1, description="train on a random share of the train split"
    )
    error_set: PathText | None = Field(description="an error_set.npz of JTT's stage 1")
    found_groups: PathText | None = Field(
        None, description="a found_groups.npz of EIIL, XRM or SSA, in the place of group labels"
    )
    lambda_up: float = Field(ge=1, le=MOST, description="how often an epoch sees its examples")
    mtl_join_type: Literal["inv", "union", "xor", "task"] = Field(
        description="how errors of several tasks are joined; see src/methods/jtt.py"
    )


class TrainConfig(Options):
    total_epochs: Count
    max_steps: Count | None = Field(description="end after this many steps; of each stage")
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        description="auto: bf16 or fp16 on a GPU, fp32 on a CPU"
    )
    device: Text = Field(description="auto (the first GPU, else the CPU), cpu, cuda, cuda:1, ...")
    num_devices: Count = Field(
        default=1, description="processes that share each batch, one per GPU; see docs/many_runs.md"
    )
    compile: bool = Field(description="torch.compile the network: slower start, faster steps")
    cuda_graph: bool = Field(description="on a GPU, replay each step as one CUDA graph")
    log_dir: PathText | None = Field(
        description="null: logs/<exp>/<tasks>/<values that differ>-seed<seed>"
    )
    log_every_n_steps: Count
    save_every_minutes: float = Field(gt=0)
    val_every_n_epochs: Count = Field(
        default=1, description="validate after so many epochs, and after the last one"
    )
    keep_ckpts: Literal["best", "all"] | list[Count] = Field(
        description="best: the last and the best by each rule; a list: these epochs, too; all"
    )
    tensorboard: bool = Field(description="the same as tracker: [tensorboard]")
    tracker: (
        Annotated[
            list[Literal["tensorboard", "wandb", "mlflow"]],
            BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
        ]
        | None
    ) = Field(None, description="where metrics also go; null: as tensorboard says")

    @property
    def trackers(self) -> list[str]:
        """Names of the trackers."""
        from_flag = ["tensorboard"] if self.tensorboard else []
        return from_flag if self.tracker is None else list(dict.fromkeys(self.tracker))


def group_options(config: "Config") -> dict[str, Any]:
    """Return the options of `GroupLabels`."""
    found = config.dataloader.found_groups
    return {
        "use": config.dataset.subgroup_labels,
        "known": config.dataset.groups_known,
        "found": None if found is None else Path(found),
        "seed": config.seed,
    }


class StageConfig(Options):
    """Differences of one stage of a staged method; the keys are those of a run."""

    run: PathText | None = Field(None, description="use this finished run as the stage")
    checkpoint: Text = Field("last", description="of that run: an epoch, last, or a rule")
    optimizer: dict[str, Any] = Field(default_factory=dict)
    dataloader: dict[str, Any] = Field(default_factory=dict)
    objective: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)


# One section for each method that has options: exp.mixup, exp.dfr, ...
MethodSections = create_model(
    "MethodSections",
    __base__=Options,
    **{
        name: (kind, Field(default_factory=kind))
        for name, kind in METHODS.items()
        if kind is not Options
    },
)


class Config(MethodSections):
    """One run: `exp` of a composed configuration."""

    name: Text = Field(description="the method; part of the run folder's path")
    seed: Seed
    method: Literal[tuple(METHODS)] | None = Field(
        None, description="code in src/methods that it needs"
    )
    stage: Text | None = Field(
        None, description="set by methods with stages: this one trains by the method's own step"
    )
    model: ModelConfig
    optimizer: OptimizerConfig
    dataset: DatasetConfig
    dataloader: DataloaderConfig
    objective: ObjectiveOptions = Field(default_factory=ObjectiveOptions)
    train: TrainConfig
    stage_1: StageConfig = Field(default_factory=StageConfig)
    stage_2: StageConfig = Field(default_factory=StageConfig)

    @model_validator(mode="after")
    def _check_rules(self) -> "Config":
        problems = []
        data, objective = self.dataset, self.objective
        for stage in ("stage_1", "stage_2"):
            if self.method not in STAGED and getattr(self, stage) != StageConfig():
                problems.append(f"{stage} has no effect: exp={self.name} has no stages")
        if (data.features is not None) != (self.model.name in FEATURE_MODELS):
            problems.append(
                "dataset.features needs exp/model=linear or mlp, and these need dataset.features"
            )
        if data.name == "civilcomments" and data.features is None:
            problems.append(
                "dataset.name=civilcomments has texts, no pictures: set dataset.features=FILE.npy "
                "and exp/model=linear; docs/your_own_data.md shows how to make the file"
            )
        if data.features is not None and data.data_augmentation:
            problems.append("dataset.data_augmentation needs images, not dataset.features")
        if data.features is not None and self.method == "lisa" and self.lisa.mix == "cutmix":
            problems.append("lisa.mix=cutmix needs images: set lisa.mix=mixup for features")
        if self.dataloader.train_fraction < 1 and data.subsample:
            problems.append("dataloader.train_fraction and dataset.subsample: set one of them")
        if self.train.num_devices > self.dataloader.batch_size:
            problems.append(
                f"train.num_devices={self.train.num_devices} is more than dataloader.batch_size="
                f"{self.dataloader.batch_size}, the batch that the devices share"
            )
        problems += group_problems(self)
        weighted = data.loss_balanced_task_weighting or data.task_weights not in (
            None,
            [1.0] * len(data.groupings),
        )
        seed_choice = "lbtw" if data.loss_balanced_task_weighting else "static"
        if objective.across == "lbtw" and not weighted:
            data.loss_balanced_task_weighting = True
        elif objective.across not in (None, seed_choice) and weighted:
            problems.append(
                f"objective.across={objective.across} contradicts exp.dataset.task_weights or "
                f"loss_balanced_task_weighting: set one of them"
            )
        else:
            objective.across = objective.across or seed_choice
        problems += method_problems(self)
        problems += combinations.errors(self)
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def notes(self) -> list[str]:
        """List what is allowed and hardly meant; see src/objective/combinations.py."""
        return list(combinations.notes(self))


def schema_keys(schema: type[BaseModel], prefix: str = "exp") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name of each key and section below a model, with its field."""
    for name, field in schema.model_fields.items():
        path = f"{prefix}.{name}"
        yield path, field
        section = section_of(field)
        if section is not None:
            yield from schema_keys(section, path)


def section_of(field: Any) -> type[BaseModel] | None:
    """Return the model of a field that is a section, else None."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def flatten(section: BaseModel | dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a configuration to dotted keys and leaf values."""
    values = section.model_dump() if isinstance(section, BaseModel) else section
    leaves = {}
    for name, value in values.items():
        if isinstance(value, dict):
            leaves |= flatten(value, f"{prefix}{name}.")
        else:
            leaves[prefix + name] = value
    return leaves
