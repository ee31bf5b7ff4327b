"""Submission to Slurm through submitit: one array per call, from configs/slurm.yaml and flags."""

import argparse
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from scripts.jobs.job import ROOT, Job
from src.io import UserError, did_you_mean

SETTINGS_FILE = ROOT / "configs" / "slurm.yaml"


@dataclass
class SlurmSettings:
    """What each run asks for; see configs/slurm.yaml."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    time: int = 720
    gpus: int = 1
    cpus: int = 8
    mem_gb: float = 32
    array_limit: int = 16
    signal_seconds: int = 120
    max_requeues: int = 100
    sbatch: dict[str, Any] = field(default_factory=dict)
    setup: list[str] = field(default_factory=list)


def add_slurm_arguments(parser: argparse.ArgumentParser) -> None:
    """A flag for each setting; what is not given comes from the file."""
    group = parser.add_argument_group("with --mode sbatch, over configs/slurm.yaml")
    group.add_argument("--slurm_config", type=Path, default=SETTINGS_FILE, metavar="FILE")
    for item in fields(SlurmSettings):
        if item.name == "sbatch":
            group.add_argument("--sbatch", action="append", metavar="KEY=VALUE")
        elif item.name == "setup":
            group.add_argument("--setup", action="append", metavar="LINE")
        else:
            kind = item.type if item.type in (int, float) else str
            group.add_argument(f"--{item.name}", type=kind, metavar=kind.__name__.upper())


def read_settings(args: argparse.Namespace) -> SlurmSettings:
    """The file's settings with those of the flags over them."""
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    path = args.slurm_config
    names = [item.name for item in fields(SlurmSettings)]
    flags = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if "sbatch" in flags:
        flags["sbatch"] = dict(_option(text) for text in flags["sbatch"])
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        if not isinstance(found, dict):
            raise UserError(f"{path}: it is no table of settings; see configs/slurm.yaml")
        for name in map(str, found):
            if name not in names:
                raise UserError(f"{path}: {name}: there is no such key{did_you_mean(name, names)}")
        merged = OmegaConf.merge(OmegaConf.structured(SlurmSettings), found, flags)
        settings = OmegaConf.to_object(merged)
    except OSError as error:
        raise UserError(f"--slurm_config {path}: {error.strerror}") from error
    except (OmegaConfBaseException, yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}") from error
    _check(settings, path)
    return settings


def _option(text: str) -> tuple[str, Any]:
    key, equals, value = text.removeprefix("--").partition("=")
    if not key:
        raise UserError(f"--sbatch {text!r}: write KEY=VALUE, or KEY alone for a switch")
    return key, value if equals else True


def _check(settings: SlurmSettings, path: Path) -> None:
    low = {
        "time": 1,
        "gpus": 0,
        "cpus": 1,
        "array_limit": 1,
        "max_requeues": 0,
        "signal_seconds": 1,
    }
    problems = [
        f"{name}={getattr(settings, name)} ({path} or --{name}): at least {least}"
        for name, least in low.items()
        if getattr(settings, name) < least
    ]
    if not 0 < settings.mem_gb < 1e6:  # NaN is not, either
        problems.append(f"mem_gb={settings.mem_gb} ({path} or --mem_gb): more than 0, and finite")
    if settings.signal_seconds >= 60 * settings.time:
        problems.append(
            f"signal_seconds={settings.signal_seconds}: a run needs some of its {settings.time} "
            f"minutes before it is told to save"
        )
    if problems:
        raise UserError(problems)


def check_slurm() -> None:
    """Raises a UserError where no job can be submitted."""
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise UserError("there is no sbatch on PATH, so this is no Slurm cluster: use --mode shell")


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
        before: called with the jobs once all is well, just before Slurm gets them.

    Raises:
        UserError: Slurm's own refusal, such as an unknown partition.
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
        return [job.job_id for job in executor.submit_array(tasks)]
    except (FailedJobError, FailedSubmissionError) as error:
        raise UserError(f"Slurm refused: {_refusal(str(error))}{_advice(settings)}") from error


def parameters(settings: SlurmSettings, jobs: Sequence[Job]) -> Mapping[str, Any]:
    """Settings in the words of submitit's SlurmExecutor."""
    name = jobs[0].name.split("/")[0]
    wanted = {
        "job_name": name,
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "constraint": settings.constraint,
        "time": settings.time,
        "gpus_per_node": settings.gpus or None,
        "cpus_per_task": settings.cpus,
        "mem": f"{round(1024 * settings.mem_gb)}MB",
        "array_parallelism": settings.array_limit,
        "signal_delay_s": settings.signal_seconds,
        "stderr_to_stdout": True,
        # Without `requeue` a cluster may refuse to take back a job that saved.
        "additional_parameters": {"requeue": True, **settings.sbatch},
        # The job's folder is where it was submitted; the project may lie elsewhere.
        "setup": [f"export PYTHONPATH={shlex.quote(str(ROOT))}:$PYTHONPATH", *settings.setup],
    }
    wanted = {key: value for key, value in wanted.items() if value is not None}
    # What is no shell line of the user's stays on its own line of the script.
    texts = {key: value for key, value in wanted.items() if key != "setup"}
    check_printable({**texts.pop("additional_parameters"), **texts})
    return wanted


def check_printable(values: Mapping[str, Any]) -> None:
    """Raises a UserError where a line break or the like would start a line of its own in the
    script for Slurm, which a shell runs."""
    problems = [
        f"{key} {value!r} has a line break or another sign that cannot be printed: leave it out"
        for key, value in values.items()
        if not f"{key}{value}".isprintable()
    ]
    if problems:
        raise UserError(problems)


def private_folder(folder: Path) -> Path:
    """Make a folder that only we can write and read, or make sure that it is one."""
    folder = folder.absolute()
    check_printable({"the folder": str(folder)})
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
