"""The keys of a configuration: types, ranges, choices and meaning; defaults are in configs/exp/.

`python train.py --help` prints these descriptions. Options of the objective are in
src/objective/options.py, beside the layers that use them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from src.config.needs import group_problems, method_problems
from src.data.adapters import ADAPTERS
from src.data.features import FEATURE_MODELS
from src.data.groupings import CELEBA, parse_groupings
from src.io import UserError, expand
from src.methods.options import METHODS, STAGED
from src.objective import combinations
from src.objective.options import ObjectiveOptions, Options

MOST = 10**9  # of whole numbers that count something


def _text(value: Any) -> Any:
    """Accept a number as a text: Hydra reads `exp.name=2024` as one."""
    return str(value) if type(value) in (int, float) else value


Text = Annotated[str, BeforeValidator(_text), Field(min_length=1)]
# One rule for every path: `~` is the home folder.
PathText = Annotated[Text, AfterValidator(lambda path: str(expand(path)))]
Count = Annotated[int, Field(ge=1, le=MOST)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


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


class SyntheticConfig(Options):
    num_train: Count = 16_000
    num_val: Count = 4_000
    num_test: Count = 8_000
    seed: Seed = 0
    correlation: float = Field(1.0, ge=0, le=1, description="1: as in CelebA, 0: none")


class DatasetConfig(Options):
    name: Literal[("celeba", "synthetic", "table", *ADAPTERS)] = Field(
        description="celeba: also any data in its layout; table: pictures with a metadata.csv"
    )
    root: PathText = Field(description="folder of the data set")
    groupings: list[Text] = Field(description="Task:Attr, Task:Attr+Attr, or bare tasks")
    subgroup_labels: bool = Field(description="false: no group labels at all, class metrics only")
    groups_known: float = Field(
        1.0, ge=0, le=1, description="share of the train split whose groups are known"
    )
    task_weights: list[float] | None = Field(description="null: all 1; else one per task")
    loss_balanced_task_weighting: bool = Field(description="LBTW (Liu et al. 2019)")
    lbtw_alpha: float = Field(ge=0, description="of LBTW: w = (loss / first loss) ** alpha")
    subsample: bool = Field(description="train on a subset; see subsample_type")
    subsample_type: Literal["suby", "subg"] | None = Field(
        description="suby: equally large classes; subg: equally large groups"
    )
    target_resolution: list[int] = Field(description="height, width of the network's input")
    data_augmentation: bool = Field(description="train: random resized crop, horizontal flip")
    cache: Literal["records", "none"] = Field(
        description="records: decode each image once; none: decode at every access"
    )
    cache_dir: PathText = Field(description="where decoded images are kept")
    synthetic: SyntheticConfig = Field(
        default_factory=SyntheticConfig, description="the drawn stand-in"
    )
    crop: Annotated[int, Field(ge=1)] | Literal["square", "full"] | None = Field(
        None, description="central square; null: 178 for celeba, else square, the largest one"
    )
    resize: Annotated[int, Field(ge=1)] | list[Count] | None = Field(
        None, description="scale images to this short side, or [height,width], before the crop"
    )
    metadata: PathText | None = Field(
        None, description="of table: its file; null: metadata.csv, .tsv or .parquet in root"
    )
    split_file: PathText | None = Field(
        None, description="of table: a file of picture names and their splits"
    )
    filename_pattern: Text | None = Field(
        None, description="of table: labels in file names, such as '{age:int}_{gender}.jpg'"
    )
    bins: dict[str, Annotated[list[float], Field(min_length=1)]] = Field(
        default_factory=dict, description="of table: limits that cut a column of numbers"
    )
    features: PathText | None = Field(
        None, description="of table: (N,D) numbers instead of pictures, in a .npy or .safetensors"
    )
    missing: list[Text] = Field(
        default_factory=list, description="of table: values that mean unknown, as empty cells do"
    )
    split_shares: Annotated[list[float], Field(min_length=3, max_length=3)] = Field(
        default_factory=lambda: [0.7, 0.1, 0.2],
        description="of table: train, val and test, if it has no split column",
    )
    split_seed: Seed = Field(0, description="of table: of that split")

    @field_validator("groupings")
    @classmethod
    def _check_groupings(cls, groupings: list[str], info: ValidationInfo) -> list[str]:
        known = CELEBA if info.data.get("name") in ("celeba", "synthetic") else None
        try:
            parse_groupings(groupings, training=True, columns=known)
        except UserError as error:
            raise ValueError("\n".join(error.problems)) from error
        return groupings

    @field_validator("target_resolution")
    @classmethod
    def _check_resolution(cls, resolution: list[int]) -> list[int]:
        if len(resolution) != 2 or min(resolution) < 1 or max(resolution) > 4096:
            raise ValueError("use two integers from 1 to 4096, height and width, such as [224,224]")
        return resolution

    @model_validator(mode="after")
    def _check_rules(self) -> "DatasetConfig":
        problems = []
        if self.subsample and self.subsample_type is None:
            problems.append("subsample=true needs subsample_type: suby or subg")
        if self.subsample_type and not self.subsample:
            problems.append(f"subsample_type={self.subsample_type} needs subsample=true")
        if isinstance(self.resize, list) and len(self.resize) != 2:
            problems.append(f"resize={self.resize}: use one number, or [height,width]")
        for column, limits in self.bins.items():
            if sorted(set(limits)) != limits:
                problems.append(f"bins.{column}={limits}: use numbers in ascending order")
        if min(self.split_shares) < 0 or abs(sum(self.split_shares) - 1) > 1e-6:
            problems.append(f"split_shares={self.split_shares}: use numbers that sum to 1")
        problems += self._problems_of_weights()
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _problems_of_weights(self) -> list[str]:
        weights, tasks = self.task_weights, len(self.groupings)
        if weights is None:
            return []
        if len(weights) != tasks:
            return [f"task_weights has length {len(weights)}, but there are {tasks} tasks"]
        if not all(weight >= 0 for weight in weights):
            return [f"task_weights={weights}: use numbers of at least 0"]
        ones = all(weight == 1 for weight in weights)
        if self.loss_balanced_task_weighting and not ones:
            return [f"task_weights={weights}: must all be 1 with loss_balanced_task_weighting"]
        if not ones and not abs(sum(weights) - 1) <= 1e-6:
            return [f"task_weights has sum {sum(weights):g}: use all 1, or numbers that sum to 1"]
        return []


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


# Options of tables and pictures; saved only where they differ from the default.
TABLE_OPTIONS = {
    "metadata",
    "split_file",
    "filename_pattern",
    "features",
    "bins",
    "missing",
    "split_shares",
    "split_seed",
}
PICTURE_OPTIONS = {"crop", "resize"}


def dataset_options(data: DatasetConfig) -> dict[str, Any]:
    """Return the arguments of `open_dataset` but for the number of workers."""
    names = {"name", "root", "target_resolution", "cache", "cache_dir", *PICTURE_OPTIONS}
    parts = {
        "synthetic": data.synthetic.model_dump(),
        "table": data.model_dump(include=TABLE_OPTIONS),
    }
    return data.model_dump(include=names) | parts


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
