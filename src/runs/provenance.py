"""What a run was made from and with: data, versions, device. Kept in provenance.json.

`data` holds the identity of the train and validation split. A run whose data changed is not
resumed. `sessions` has an entry for each start with other versions or another device.
"""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from src.data.table import Table
from src.evaluation.logits import rows_identity
from src.io import UserError, read_json, write_json
from src.runs.folder import Run

ROOT = Path(__file__).parents[2]
# Values that decide the bits of a result; a change is printed.
DECIDE_BITS = ("torch", "device", "precision", "threads", "processes", "code")


class DataIdentity(BaseModel):
    """Identity of a split: of its rows (names and labels), and of its images."""

    rows: str
    images: dict[str, str]


class Provenance(BaseModel):
    """The contents of provenance.json."""

    data: dict[str, DataIdentity]
    sessions: list[dict[str, Any]]


def data_identity(rows: Table, images: Any) -> DataIdentity:
    """Identify a split by its rows and its image source."""
    return DataIdentity(rows=rows_identity(rows.names, rows.codes), images=images.fingerprint)


def describe_session(device: Any, precision: str, processes: int = 1) -> dict[str, Any]:
    """Describe what this process runs with, beside `processes` - 1 others."""
    import torch

    cuda = device.type == "cuda"
    return {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if cuda else f"cpu ({_cpu_name()})",
        "precision": precision,
        "threads": torch.get_num_threads(),
        "processes": processes,
        "code": code_version(),
        "python": platform.python_version(),
        "host": platform.node(),
    }


def _cpu_name() -> str:
    """Return the model of the CPU, which decides the bits of a result."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def code_version() -> str:
    """Return the git commit of the code, with `-dirty` if files changed; `unknown` without git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"


def record_data(run: Run, dataset: Any) -> None:
    """Check that the rows are those of a staged run, or write them to provenance.json.

    Each stage that trains also records its images and sessions, in its own folder.

    Raises:
        UserError: the run was made from other data.
    """
    rows = {split: dataset.split(split) for split in ("train", "val")}
    data = {
        split: DataIdentity(rows=rows_identity(own.names, own.codes), images={})
        for split, own in rows.items()
    }
    if not run.provenance.exists():
        write_json(run.provenance, Provenance(data=data, sessions=[]).model_dump())
    _known_sessions(run, data)


def record_provenance(run: Run, data: dict[str, DataIdentity], session: dict[str, Any]) -> None:
    """Check that the data are those of the run, and write provenance.json.

    Raises:
        UserError: the run was made from other data.
    """
    sessions = _known_sessions(run, data) if run.provenance.exists() else []
    if sessions:
        changed = [name for name in DECIDE_BITS if sessions[-1].get(name, 1) != session[name]]
        for name in changed:
            print(
                f"note: {name} is {session[name]}, was {sessions[-1].get(name)}: "
                f"results are not bit-identical to an uninterrupted run",
                flush=True,
            )
        if not changed:
            return
    splits = {name: identity.model_dump() for name, identity in data.items()}
    write_json(run.provenance, {"data": splits, "sessions": [*sessions, session]})


def _known_sessions(run: Run, data: dict[str, DataIdentity]) -> list[dict[str, Any]]:
    known = read_json(run.provenance, Provenance)
    problems = differences(known.data, data)
    if problems:
        raise UserError(
            f"{run.path} was started on other data: {'; '.join(problems)}. Put the old data back, "
            f"or choose another exp.train.log_dir"
        )
    return known.sessions


def record_split(run: Run, dataset: Any, split: str) -> None:
    """Record the identity of a split at its first evaluation, for `is_other_data`."""
    if not run.provenance.exists():
        return
    known = read_json(run.provenance, Provenance)
    if split not in known.data:
        known.data[split] = data_identity(dataset.split(split), dataset.images(split))
        write_json(run.provenance, known.model_dump())


def is_other_data(run: Run, dataset: Any, split: str) -> bool:
    """Return whether val or this split is not the one that a run was trained or evaluated with."""
    if not run.provenance.exists():
        return False
    known = read_json(run.provenance, Provenance).data
    # Images of train may have been whole frames.
    compared = sorted({"val", split} & known.keys() - {"train"})
    now = {name: data_identity(dataset.split(name), dataset.images(name)) for name in compared}
    return bool(differences(known, now))


def differences(known: dict[str, DataIdentity], data: dict[str, DataIdentity]) -> list[str]:
    """Say what differs between the data that a run was made from and these, a line per split."""
    problems = []
    for split, identity in data.items():
        before = known.get(split)
        if before is None:
            continue
        if before.rows != identity.rows:
            problems.append(f"the names, labels or number of its {split} examples changed")
        # Decoded and streamed images have different kinds of fingerprints.
        same_kinds = before.images.keys() & identity.images.keys()
        if any(before.images[kind] != identity.images[kind] for kind in same_kinds):
            problems.append(f"the images of its {split} split changed")
    return problems
