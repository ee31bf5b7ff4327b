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
from typing import Any, Protocol

import pandas as pd
import yaml

from src.io import UserError, exclusive, read_json, write_json
from src.runs.folder import Run

# What a tracker gets of a run folder besides the metrics.
FILES = ("config.yaml", "provenance.json", "metrics.jsonl", "results/*.json", "results/*.png")


class Tracker(Protocol):
    """Where metrics of a run go."""

    def log(self, step: int, values: dict[str, float]) -> None: ...

    def close(self, state: str) -> None:
        """End with done, stopped or failed."""


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
        for pattern in FILES:
            for path in self._path.glob(pattern):
                self._run.save(str(path), base_path=str(self._path), policy="now")
        self._run.summary["state"] = state
        self._run.finish(exit_code=1 if state == "failed" else 0)


class MLflow:
    """A run of MLflow, continued when training resumes."""

    def __init__(self, run: Run, step: int):
        from mlflow import MlflowClient

        self._path = run.path
        # Runs that start at once must not all create the file and the experiment.
        with exclusive(Path("mlflow.lock"), "waiting for another run that opens MLflow"):
            self._client = MlflowClient(
                os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
            )
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "group-robust")
            known = self._client.get_experiment_by_name(name)
            experiment = known.experiment_id if known else self._client.create_experiment(name)
        self._id = self._find(run, experiment) or self._create(run, experiment)

    def _find(self, run: Run, experiment: str) -> str | None:
        """Return the id of the run if an earlier session tracked it, and mark it as running."""
        found = self._client.search_runs([experiment], f"tags.id = '{run_id(run, 'mlflow')}'")
        if not found:
            return None
        self._client.set_terminated(found[0].info.run_id, "RUNNING")
        return found[0].info.run_id

    def _create(self, run: Run, experiment: str) -> str:
        tags = {"folder": str(run.path.resolve()), "id": run_id(run, "mlflow")}
        created = self._client.create_run(experiment, tags=tags, run_name=run_name(run))
        for key, value in read_settings(run).items():
            self._client.log_param(created.info.run_id, key, value)
        return created.info.run_id

    def log(self, step: int, values: dict[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        names = {key: re.sub(r"[^\w\-. /]", "_", key) for key in values}
        metrics = [Metric(names[key], value, now, step) for key, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self, state: str) -> None:
        for pattern in FILES:
            for path in self._path.glob(pattern):
                folder = path.parent.relative_to(self._path).as_posix()
                self._client.log_artifact(self._id, str(path), None if folder == "." else folder)
        self._client.set_tag(self._id, "state", state)
        end = {"done": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}[state]
        self._client.set_terminated(self._id, end)


TRACKERS = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}


class Forgiving:
    """A tracker whose errors are printed once and end tracking, not training."""

    def __init__(self, name: str, tracker: Tracker):
        self._name, self._tracker = name, tracker

    def log(self, step: int, values: dict[str, float]) -> None:
        self._call("log", step, values)

    def close(self, state: str) -> None:
        self._call("close", state)

    def _call(self, method: str, *arguments: Any) -> None:
        if self._tracker is None:
            return
        try:
            getattr(self._tracker, method)(*arguments)
        except Exception as error:  # a server that is away, a database that is locked, ...
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            print(f"warning: {self._name} stopped ({reason}); metrics.jsonl goes on", flush=True)
            self._tracker = None


def open_trackers(names: Sequence[str], run: Run, step: int) -> list[Tracker]:
    """Open the trackers of a run that continues at a step.

    Raises:
        UserError: the package of one is missing, or it cannot start.
        OSError: TensorBoard cannot write.
    """
    opened: list[Tracker] = []
    for name in names:
        if name == "tensorboard":
            opened.append(TensorBoard(run, step))
            continue
        try:
            opened.append(Forgiving(name, TRACKERS[name](run, step)))
        except ImportError as error:
            raise UserError(
                f"exp.train.tracker={name}: the package is missing: pip install {name}"
            ) from error
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"exp.train.tracker={name} cannot start ({reason})") from error
    return opened


def run_id(run: Run, tracker: str) -> str:
    """Return the identity of a run in a tracker; it is kept in trackers.json of the folder."""
    path = run.path / "trackers.json"
    known = read_json(path, dict[str, str]) if path.exists() else {}
    if tracker not in known:
        known[tracker] = uuid.uuid4().hex[:12]
        write_json(path, known)
    return known[tracker]


def run_name(run: Run) -> str:
    """Return the end of the folder's path, such as `erm/Blond_Hair-Male/seed0`."""
    return "/".join(run.path.resolve().parts[-3:])


def read_settings(run: Run) -> dict[str, Any]:
    """Return the leaves of config.yaml by dotted key."""
    if not run.config.exists():
        return {}
    return pd.json_normalize(yaml.safe_load(run.config.read_text())).to_dict("records")[0]
