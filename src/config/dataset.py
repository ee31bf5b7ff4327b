"""The keys of exp.dataset, and the types that all sections share."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from src.data.adapters import ADAPTERS
from src.data.groupings import CELEBA, parse_groupings
from src.io import UserError, expand
from src.objective.options import Options

MOST = 10**9  # of whole numbers that count something


def _text(value: Any) -> Any:
    """Accept a number as a text: Hydra reads `exp.name=2024` as one."""
    return str(value) if type(value) in (int, float) else value


Text = Annotated[str, BeforeValidator(_text), Field(min_length=1)]
# One rule for every path: `~` is the home folder.
PathText = Annotated[Text, AfterValidator(lambda path: str(expand(path)))]
Count = Annotated[int, Field(ge=1, le=MOST)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class SyntheticConfig(Options):
    num_train: Count = 16_000
    num_val: Count = 4_000
    num_test: Count = 8_000
    seed: Seed = 0
    correlation: float = Field(1.0, ge=0, le=1, description="1: as in CelebA, 0: none")


class TableOptions(Options):
    """Of dataset.name=table."""

    metadata: PathText | None = Field(
        None, description="the table; null: metadata.csv, .tsv or .parquet in root"
    )
    split_file: PathText | None = Field(
        None, description="a file of picture names and their splits"
    )
    filename_pattern: Text | None = Field(
        None, description="labels in file names, such as '{age:int}_{gender}.jpg'"
    )
    bins: dict[str, Annotated[list[float], Field(min_length=1)]] = Field(
        default_factory=dict, description="limits that cut a column of numbers"
    )
    features: PathText | None = Field(
        None, description="(N,D) numbers instead of pictures, in a .npy or .safetensors"
    )
    missing: list[Text] = Field(
        default_factory=list, description="values that mean unknown, as empty cells do"
    )
    split_shares: Annotated[list[float], Field(min_length=3, max_length=3)] = Field(
        default_factory=lambda: [0.7, 0.1, 0.2],
        description="train, val and test, if it has no split column",
    )
    split_seed: Seed = Field(0, description="of that split")


class DatasetConfig(TableOptions):
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


# Saved only where they differ from the default, as older runs do not have them.
TABLE_OPTIONS = set(TableOptions.model_fields)
PICTURE_OPTIONS = {"crop", "resize"}


def dataset_options(data: DatasetConfig) -> dict[str, Any]:
    """Return the arguments of `open_dataset` but for the number of workers."""
    names = {"name", "root", "target_resolution", "cache", "cache_dir", *PICTURE_OPTIONS}
    parts = {
        "synthetic": data.synthetic.model_dump(),
        "table": data.model_dump(include=TABLE_OPTIONS),
    }
    return data.model_dump(include=names) | parts
