"""Submission to Slurm through submitit: one array per call, from configs/slurm.yaml and flags."""

import argparse
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from scripts.jobs.job import ROOT, Job
from src.io import UserError, did_you_mean, expand

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
    import yaml

    path, names = args.slurm_config, list(SlurmSettings.model_fields)
    flags = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if "sbatch" in flags:
        flags["sbatch"] = dict(_option(text) for text in flags["sbatch"])
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        if not isinstance(found, dict):
            raise UserError(f"{path}: it must hold lines such as `time: 720`")
        unknown = [
            f"{path}: there is no key {n}{did_you_mean(n, names)}" for n in {*found} - {*names}
        ]
        if unknown:
            raise UserError(unknown)
        if "sbatch" in flags:
            flags["sbatch"] = {**(found.get("sbatch") or {}), **flags["sbatch"]}
        return SlurmSettings.model_validate(found | flags)
    except OSError as error:
        raise UserError(f"--slurm_config {path}: {error.strerror}") from error
    except ValidationError as error:
        raise UserError([f"{path} and flags: {line}" for line in _problems(error)]) from error
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from error


def _problems(error: ValidationError) -> list[str]:
    return [
        f"{'.'.join(map(str, problem['loc']))}={problem['input']!r}: {problem['msg']}"
        if problem["loc"]
        else problem["msg"]
        for problem in error.errors()
    ]


def _option(text: str) -> tuple[str, Any]:
    key, equals, value = text.removeprefix("--").partition("=")
    if not key:
        raise UserError(f"--sbatch {text!r}: write KEY=VALUE, or KEY alone for a switch")
    return key, value if equals else True


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
        folder: for submitit's files; made with mode 0700, as they are pickles.
        before: called with the jobs just before Slurm gets them.

    Raises:
        UserError: Slurm refused, e.g. an unknown partition.
    """
    # Imported here: printing commands and running them in the shell need no submitit.
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    from scripts.jobs.slurm_job import SlurmTask

    executor = submitit.SlurmExecutor(private_folder(folder), settings.max_requeues)
    executor.update_parameters(**parameters(settings, jobs))
    tasks = [
        SlurmTask(job.name, list(job.argv), str(job.run_dir.absolute()), retries) for job in jobs
    ]
    before(jobs)
    try:
        with outside_of_a_job(settings):
            return [job.job_id for job in executor.submit_array(tasks)]
    except (FailedJobError, FailedSubmissionError) as error:
        raise UserError(f"Slurm refused: {_refusal(str(error))}{_advice(settings)}") from error


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


def private_folder(folder: Path) -> Path:
    """Make a folder that only we can read and write."""
    folder = folder.absolute()
    if "%" in str(folder):
        raise UserError(f"{folder}: Slurm reads % in a path as a pattern; choose another --log_dir")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise UserError(f"{folder} is not ours alone: delete it, or choose another --log_dir")
    folder.chmod(0o700)
    return folder


def _refusal(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return " ".join(line.removeprefix("sbatch: ").removeprefix("error: ") for line in lines)


def _advice(settings: SlurmSettings) -> str:
    if settings.partition is None:
        return "; see configs/slurm.yaml and the flags of --mode sbatch"
    command = ["sinfo", "--noheader", "--format=%R"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    partitions = ", ".join(sorted(set(answer.stdout.split())))
    return f"; --partition {settings.partition}: there are {partitions or 'none'}"
