"""Submission to Slurm through submitit: one array per call, from configs/slurm.yaml and flags."""

import argparse
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from scripts.jobs.job import ROOT, Job
from src.io import UserError, expand, validation_problems

SETTINGS_FILE = ROOT / "configs" / "slurm.yaml"
# Set by Slurm for the GPUs of a job, besides SLURM_* and SBATCH_*.
GPU_VARIABLES = {"CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"}


class SlurmSettings(BaseModel):
    """What each run asks for; see configs/slurm.yaml."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    time: int = Field(720, ge=1, description="minutes")
    nodes: int = Field(1, ge=1, description="for runs with exp.train.num_devices")
    gpus: int = Field(1, ge=0, description="of each node")
    cpus: int = Field(8, ge=1)
    mem_gb: float = Field(32, gt=0)
    array_limit: int = Field(16, ge=1, description="runs of one call at a time")
    signal_seconds: int = Field(120, ge=1, description="a run saves so long before its time is up")
    max_requeues: int = Field(100, ge=0)
    sbatch: dict[str, bool | int | float | str] = Field({}, description="KEY=VALUE")
    setup: list[str] = Field([], description="a shell line before the run")

    @model_validator(mode="after")
    def _leave_time_to_train(self) -> "SlurmSettings":
        if self.signal_seconds >= 60 * self.time:
            raise ValueError(
                f"signal_seconds={self.signal_seconds} must be less than the {self.time} minutes "
                f"of a run"
            )
        return self


def add_slurm_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting; the file gives the values of the others."""
    group = parser.add_argument_group("with --mode sbatch, over configs/slurm.yaml")
    group.add_argument("--slurm_config", type=expand, default=SETTINGS_FILE, metavar="FILE")
    for name, field in SlurmSettings.model_fields.items():
        action = "append" if name in ("sbatch", "setup") else "store"
        group.add_argument(f"--{name}", action=action, metavar="X", help=field.description)


def read_settings(args: argparse.Namespace) -> SlurmSettings:
    """Read the settings of the file, with those of the flags over them."""
    path, given = args.slurm_config, vars(args)
    flags = {name: given[name] for name in SlurmSettings.model_fields if given[name] is not None}
    try:
        settings = yaml.safe_load(path.read_text()) or {}
        if "sbatch" in flags:
            pieces = [text.removeprefix("--").partition("=") for text in flags["sbatch"]]
            options = {key: value if equals else True for key, equals, value in pieces}
            flags["sbatch"] = settings.get("sbatch", {}) | options
        return SlurmSettings.model_validate(settings | flags)
    except ValidationError as error:
        lines = [f"{path} and flags: {line}" for line in validation_problems(error)]
        raise UserError(lines) from error
    except (OSError, yaml.YAMLError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from error


def check_slurm() -> None:
    """Raise a UserError if no job can be submitted here."""
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise UserError("no sbatch on PATH, so this is not a Slurm cluster: use --mode shell")


def submit(
    jobs: Sequence[Job],
    settings: SlurmSettings,
    folder: Path,
    retries: int,
    before: Callable[[Sequence[Job]], None],
) -> list[str]:
    """Submit jobs as one array (a single job as itself) and return their Slurm ids in order.

    Args:
        folder: for submitit's files. They are pickles, so only we may write there.
        before: called with the jobs just before Slurm gets them.

    Raises:
        UserError: Slurm refused, e.g. an unknown partition.
    """
    # Imported here: printing commands and running them in the shell need no submitit.
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    from scripts.jobs.slurm_job import SlurmTask

    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    executor = submitit.SlurmExecutor(folder.absolute(), settings.max_requeues)
    executor.update_parameters(**parameters(settings, jobs))
    tasks = [
        SlurmTask(job.name, list(job.argv), str(job.run_dir.absolute()), retries) for job in jobs
    ]
    before(jobs)
    try:
        with outside_of_a_job(settings):
            return [job.job_id for job in executor.submit_array(tasks)]
    except (FailedJobError, FailedSubmissionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"Slurm refused: {reason}; see configs/slurm.yaml and the flags") from error


@contextmanager
def outside_of_a_job(settings: SlurmSettings) -> Iterator[None]:
    """Hide the variables of the Slurm job that we run in, if any (salloc, sbatch, an array).

    A submitted job inherits our environment. It would take another job's memory, tasks, GPUs or
    array number for its own; and SBATCH_* variables win over the settings in the script.
    """
    kept = {"SLURM_CONF"}
    for name in ("partition", "account", "qos", "constraint"):
        if getattr(settings, name) is None:
            kept.add(f"SBATCH_{name.upper()}")  # the user's own default
    before = dict(os.environ)
    for name in before:
        if name in GPU_VARIABLES or (name.startswith(("SLURM_", "SBATCH_")) and name not in kept):
            del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(before)


def parameters(settings: SlurmSettings, jobs: Sequence[Job]) -> dict[str, Any]:
    """Return the settings under the names of submitit's SlurmExecutor."""
    wanted = {
        "job_name": jobs[0].name.split("/")[0],
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "constraint": settings.constraint,
        "time": settings.time,
        "nodes": settings.nodes,
        "gpus_per_node": settings.gpus or None,
        "cpus_per_task": settings.cpus,
        "mem": f"{round(1024 * settings.mem_gb)}MB",
        "array_parallelism": settings.array_limit,
        "signal_delay_s": settings.signal_seconds,
        "stderr_to_stdout": True,
        # Without `requeue`, a cluster may refuse to take back a job that saved.
        "additional_parameters": {"requeue": True, **settings.sbatch},
        # The job runs in the folder of the submission; the project may be elsewhere.
        "setup": [f"export PYTHONPATH={shlex.quote(str(ROOT))}:$PYTHONPATH", *settings.setup],
    }
    return {key: value for key, value in wanted.items() if value is not None}
