"""Trackers get the numbers of metrics.jsonl; the real W&B and MLflow where they are installed."""

import struct
import sys
from collections.abc import Iterator

import pytest

from src.io import UserError, read_json
from src.runs.folder import Run
from src.training.metrics_log import MetricsLog, read_metrics
from src.training.trackers import Forgiving, read_settings
from tests.tiny_training import at, make_trainer


@pytest.fixture
def run(tmp_path) -> Run:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("exp: {seed: 3, optimizer: {lr: 0.1}}")
    return Run(tmp_path / "run")


def test_a_failing_tracker_is_named_once_and_training_goes_on(capsys):
    class Away:
        def log(self, step, values):
            raise ConnectionError("no server")

    tracker = Forgiving("mlflow", Away())
    tracker.log(1, {"train/loss": 0.5})
    tracker.log(2, {"train/loss": 0.4})
    tracker.close("done")
    assert capsys.readouterr().out.count("warning: mlflow stopped (no server)") == 1


def test_a_missing_package_is_named(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="the package is missing: pip install wandb"):
        MetricsLog(run, 0, 0, ["wandb"])


def test_settings_are_the_leaves_of_the_configuration(run):
    assert read_settings(run) == {"exp.seed": 3, "exp.optimizer.lr": 0.1}


def stop_and_resume(run: Run, tracker: str) -> dict[int, float]:
    """Train with a tracker, fail at step 5, continue; return the loss by step of metrics.jsonl."""
    with pytest.raises(ZeroDivisionError):
        make_trainer(run.path, trackers=[tracker], hook=at(5, lambda: 1 / 0)).train()
    make_trainer(run.path, trackers=[tracker]).train()
    lines = [line for line in read_metrics(run) if "train/loss" in line]
    return {line["step"]: line["train/loss"] for line in lines}


@pytest.mark.slow
def test_mlflow_gets_one_run_with_all_numbers(run, tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    losses = stop_and_resume(run, "mlflow")
    client = MlflowClient("sqlite:///mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "group-robust"]
    (tracked,) = client.search_runs([experiment.experiment_id])
    assert tracked.info.status == "FINISHED" and tracked.data.tags["state"] == "done"
    assert tracked.data.tags["folder"] == str(run.path)
    assert tracked.data.params["exp.optimizer.lr"] == "0.1"
    history = client.get_metric_history(tracked.info.run_id, "train/loss")
    assert {point.step: point.value for point in history} == losses
    names = {item.path for item in client.list_artifacts(tracked.info.run_id)}
    assert {"config.yaml", "metrics.jsonl", "results"} <= names


def leveldb_records(data: bytes) -> Iterator[bytes]:
    """Read a log in LevelDB's format: parts with CRC, length and kind, in blocks of 32 KiB."""
    place, whole = 7, b""  # W&B counts its 7 bytes of header as part of the first block
    data = b"\0" * 7 + data
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # complete, or the last of several parts
            yield whole
            whole = b""


@pytest.mark.slow
def test_wandb_keeps_its_run_offline_in_the_folder(run, monkeypatch):
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.delenv("WANDB_MODE", raising=False)
    losses = stop_and_resume(run, "wandb")
    identity = read_json(run.path / "trackers.json")["wandb"]
    tracked, configs = {}, set()
    files = sorted(run.path.glob(f"wandb/offline-run-*/run-{identity}.wandb"))
    assert len(files) == 2  # one of each session; `wandb sync` joins them
    for file in files:
        for data in leveldb_records(file.read_bytes()[7:]):  # after ":W&B" and a version
            record = Record.FromString(data)
            configs |= {item.key for item in record.run.config.update}
            row = {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
            if "train/loss" in row:
                tracked[int(row["step"])] = float(row["train/loss"])
    assert tracked == losses and "exp.optimizer.lr" in configs
