"""Trackers of metrics: TensorBoard, Weights & Biases, MLflow. metrics.jsonl is always written.

Nothing leaves the machine unless the user asks: W&B is offline unless WANDB_MODE says otherwise
(`wandb sync` uploads later), and MLflow writes to the SQLite file mlflow.db in the working folder
unless MLFLOW_TRACKING_URI names a server.
"""

import os
import re
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from src.io import UserError, exclusive, first_line, read_json, write_json
from src.runs.folder import Run

# Each tracker has `log(step, values)` and `close(state)`, with state done, stopped or failed.


class TensorBoard:
    """Writes event files into the run folder. Disk errors are raised as `OSError`."""

    def __init__(self, run: Run, step: int):
        from torch.utils.tensorboard import SummaryWriter

        self._hook, threading.excepthook = threading.excepthook, self._ignore_disk_errors
        self._board = SummaryWriter(str(run.path), purge_step=step + 1 if step else None)

    def log(self, step: int, values: dict[str, float]) -> None:
        for key, value in values.items():
            self._board.add_scalar(key, value, step)

    def close(self, state: str) -> None:
        self._board.close()
        # Kept if closing failed: TensorBoard's thread may be about to report the same error.
        threading.excepthook = self._hook

    def _ignore_disk_errors(self, failure: threading.ExceptHookArgs) -> None:
        """Silence disk errors in TensorBoard's thread, which raises them in the next call, too."""
        if not issubclass(failure.exc_type, OSError):
            self._hook(failure)


class WandB:
    """A run of Weights & Biases, kept in the run folder and continued when training resumes."""

    def __init__(self, run: Run, step: int):
        import wandb

        self._path = run.path
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "group-robust"),
            name=run_name(run),
            id=run_id(run, "wandb"),
            dir=str(run.path),
            config=read_settings(run),
            mode=os.environ.get("WANDB_MODE", "offline"),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True),
        )
        # An axis of our own: W&B's own step may not go back, as it does after a kill.
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, values: dict[str, float]) -> None:
        self._run.log({**values, "step": step})

    def close(self, state: str) -> None:
        for path in files_of(self._path):
            self._run.save(str(path), base_path=str(self._path), policy="now")
        self._run.summary["state"] = state
        self._run.finish(exit_code=1 if state == "failed" else 0)


class MLflow:
    """A run of MLflow, continued when training resumes."""

    def __init__(self, run: Run, step: int):
        from mlflow import MlflowClient

        self._path = run.path
        uri = os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "group-robust")
        # Runs that start at once must not all create the file and the experiment.
        with exclusive(Path("mlflow.lock"), "waiting for another run that opens MLflow"):
            self._client = MlflowClient(uri)
            known = self._client.get_experiment_by_name(name)
            experiment = known.experiment_id if known else self._client.create_experiment(name)
        tags = {"folder": str(run.path.resolve()), "id": run_id(run, "mlflow")}
        found = self._client.search_runs([experiment], f"tags.id = '{tags['id']}'")
        if found:  # tracked by an earlier session
            self._id = found[0].info.run_id
            self._client.set_terminated(self._id, "RUNNING")
            return
        created = self._client.create_run(experiment, tags=tags, run_name=run_name(run))
        self._id = created.info.run_id
        for key, value in read_settings(run).items():
            self._client.log_param(self._id, key, value)

    def log(self, step: int, values: dict[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        names = {key: re.sub(r"[^\w\-. /]", "_", key) for key in values}
        metrics = [Metric(names[key], value, now, step) for key, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self, state: str) -> None:
        for path in files_of(self._path):
            folder = path.parent.relative_to(self._path).as_posix()
            self._client.log_artifact(self._id, str(path), None if folder == "." else folder)
        self._client.set_tag(self._id, "state", state)
        end = {"done": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}[state]
        self._client.set_terminated(self._id, end)


class Forgiving:
    """Calls a tracker until its first error, which is printed and ends tracking, not training."""

    def __init__(self, name: str, tracker: Any):
        self._name, self._tracker = name, tracker

    def log(self, step: int, values: dict[str, float]) -> None:
        self._call("log", step, values)

    def close(self, state: str) -> None:
        self._call("close", state)

    def _call(self, method: str, *arguments: Any) -> None:
        try:
            if self._tracker is not None:
                getattr(self._tracker, method)(*arguments)
        except Exception as error:  # a server that is away, a database that is locked, ...
            reason = first_line(error)
            print(f"warning: {self._name} stopped ({reason}); metrics.jsonl goes on", flush=True)
            self._tracker = None


def open_trackers(names: Sequence[str], run: Run, step: int) -> list[Any]:
    """Open the trackers of a run that continues at a step.

    Raises:
        UserError: the package of one is missing, or it cannot start.
        OSError: TensorBoard cannot write.
    """
    opened: list[Any] = []
    for name in names:
        try:
            if name == "tensorboard":
                opened.append(TensorBoard(run, step))
            else:
                opened.append(Forgiving(name, {"wandb": WandB, "mlflow": MLflow}[name](run, step)))
        except OSError:
            raise
        except Exception as error:
            missing = isinstance(error, ImportError)
            reason = f"the package is missing: pip install {name}" if missing else first_line(error)
            raise UserError(f"exp.train.tracker={name} cannot start: {reason}") from error
    return opened


def run_id(run: Run, tracker: str) -> str:
    """Return the identity of a run in a tracker; it is kept in trackers.json of the folder."""
    path = run.path / "trackers.json"
    known = read_json(path, dict[str, str]) if path.exists() else {}
    if tracker not in known:
        known[tracker] = uuid.uuid4().hex[:12]
        write_json(path, known)
    return known[tracker]


def files_of(folder: Path) -> list[Path]:
    """List what a tracker gets of a run folder besides the metrics."""
    patterns = (
        "config.yaml",
        "provenance.json",
        "metrics.jsonl",
        "results/*.json",
        "results/*.png",
    )
    return [path for pattern in patterns for path in folder.glob(pattern)]


def run_name(run: Run) -> str:
    """Return the end of the folder's path, such as `erm/Blond_Hair-Male/seed0`."""
    return "/".join(run.path.resolve().parts[-3:])


def read_settings(run: Run) -> dict[str, Any]:
    """Return the leaves of config.yaml by dotted key."""
    return pd.json_normalize(yaml.safe_load(run.config.read_text())).to_dict("records")[0]
