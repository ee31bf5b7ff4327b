"""Jobs that count, and the job manager that command-line flags make."""

import argparse
from pathlib import Path

from scripts.job_manager import Job, JobManager, add_job_arguments


def counting(folder: Path, *arguments: str, steps: int = 1) -> Job:
    argv = ["python", "tests/counting_job.py", str(folder), str(steps), *arguments]
    return Job(f"test/{folder.name}", argv, folder)


def parsed(**flags: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_job_arguments(parser)
    argv = []
    for name, value in flags.items():
        for each in value if isinstance(value, list) else [value]:
            argv += [f"--{name}", str(each)]
    return parser.parse_args(argv)


def job_manager(**flags: object) -> JobManager:
    """Return the manager of `--name value` for each flag; a list repeats its flag."""
    return JobManager(parsed(**flags))
