"""Jobs are printed, run or submitted; none runs twice, and one that fails stops no other."""

import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from scripts.job_manager import Job, split_overrides
from scripts.jobs.estimate import parameters, split_sizes, trained_stages
from scripts.jobs.job import LOCK_NAME, JobProcess
from scripts.jobs.shell import environments
from scripts.jobs.slurm import SlurmSettings, read_settings
from scripts.jobs.states import find_runs, is_to_start, status_of
from src.config.compose import load_config
from src.io import UserError, exclusive, write_json
from src.models.build import build_model
from src.runs.folder import Run
from tests.jobs import counting, job_manager, parsed

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(autouse=True)
def no_slurm(monkeypatch):
    """Whatever this machine has, these tests see no Slurm and no GPU."""
    monkeypatch.setenv("PATH", "/usr/bin-without-slurm:/bin")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("scripts.jobs.states.shutil.which", lambda name: None)
    monkeypatch.setattr("scripts.jobs.slurm.shutil.which", lambda name: None)


def run_shell(jobs: list[Job], log_dir: Path, **flags: object) -> int:
    return job_manager(mode="shell", log_dir=log_dir, **flags).run(jobs)


def starts(folder: Path) -> list[str]:
    return (folder / "starts").read_text().splitlines()


def state(folder: Path) -> str:
    return json.loads((folder / "status.json").read_text())["state"]


# ---------------------------------------------------------------------------- debug


def test_debug_prints_only_lines_that_bash_reads_back_as_the_commands(tmp_path, capsys):
    argv = ["python", "other.py", "a=['it is, x']", 'b="c$d`e`"', "f=g h\\", "!"]
    jobs = [Job(f"{n}", [*argv, str(n)], tmp_path / f"{n}") for n in range(3)]
    assert job_manager(log_dir=tmp_path).run(jobs) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    for line, job in zip(out.splitlines(), jobs):
        bash = ["bash", "-c", f"for word in {line}; do printf '%s\\0' \"$word\"; done"]
        words = subprocess.run(bash, capture_output=True, text=True, check=True).stdout
        assert words.split("\0")[:-1] == job.argv
    assert "runs to start: 3" in err
    assert list(tmp_path.iterdir()) == []


def test_jobs_that_share_a_folder_are_refused(tmp_path):
    with pytest.raises(UserError, match="share a run folder"):
        job_manager().run([counting(tmp_path / "a"), counting(tmp_path / "a")])


# ---------------------------------------------------------------------------- shell


def test_a_failing_job_stops_no_other_and_shows_in_exit_code_and_table(tmp_path, capsys):
    bad, good = tmp_path / "bad", tmp_path / 'it\'s a "good" one'
    assert run_shell([counting(bad, "--fail", "9"), counting(good)], tmp_path) == 1
    out = capsys.readouterr().out
    assert "failed: test/bad: exit code 1" in out and "the last words" in out
    assert str(bad / "log.txt") in out
    assert out.endswith("1 failed, 1 done\n")
    assert (state(bad), state(good)) == ("failed", "done")
    assert json.loads((bad / "status.json").read_text())["log_tail"][-2:] == [
        "about to fail",
        "the last words",
    ]


@pytest.mark.parametrize(
    ("failing", "retries", "code", "tries"),
    [
        ("--fail 1", 1, 0, 2),
        ("--fail 1", 0, 1, 1),
        ("--fail 1 --code 2", 1, 1, 1),  # a user's mistake: a second try would end in the same way
        ("--fail 2 --die", 1, 1, 2),
    ],
)
def test_a_failed_job_is_tried_again(tmp_path, capsys, failing, retries, code, tries):
    job = counting(tmp_path / "a", *failing.split())
    assert run_shell([job], tmp_path, retries=retries) == code
    assert len(starts(tmp_path / "a")) == tries
    died = "killed by SIGKILL (out of memory?)" in capsys.readouterr().out
    assert died == ("--die" in failing)


def test_a_second_call_starts_only_what_is_not_done(tmp_path, capsys):
    jobs = [counting(tmp_path / "a"), counting(tmp_path / "b", "--fail", "2")]
    assert run_shell(jobs, tmp_path) == 1
    assert run_shell(jobs, tmp_path) == 0
    assert "left out: 1 failed, 1 done" in capsys.readouterr().err
    assert run_shell(jobs, tmp_path, rerun="failed") == 0
    assert len(starts(tmp_path / "a")) == 1 and len(starts(tmp_path / "b")) == 3
    assert (tmp_path / "b" / "trace").read_text() == "step 1\n"


def test_rerun_all_starts_anew_in_an_empty_folder(tmp_path):
    job = counting(tmp_path / "a")
    run_shell([job, counting(tmp_path / "b")], tmp_path, limit=1)
    assert not (tmp_path / "b").exists()
    (tmp_path / "a" / "ckpts").mkdir()
    (tmp_path / "a" / "ckpts" / "old").touch()
    assert run_shell([job], tmp_path, rerun="all") == 0
    assert len(starts(tmp_path / "a")) == 1 and not (tmp_path / "a" / "ckpts").exists()


def test_of_two_calls_for_the_same_runs_one_wins_and_the_other_says_so(tmp_path, capsys):
    job = counting(tmp_path / "a", "--seconds", "0.3", steps=3)
    with exclusive(tmp_path / "a" / LOCK_NAME):
        assert run_shell([job], tmp_path) == 0
    assert "runs that another process is starting, skipped: 1" in capsys.readouterr().err
    assert not (tmp_path / "a" / "starts").exists()

    codes = []
    calls = [threading.Thread(target=lambda: codes.append(_call(job, tmp_path))) for _ in "12"]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert codes == [0, 0] and len(starts(tmp_path / "a")) == 1


def _call(job: Job, log_dir: Path) -> int:
    code = (
        "import sys; from pathlib import Path; from tests.jobs import counting, job_manager\n"
        f"jobs = [counting(Path({str(job.run_dir)!r}), '--seconds', '0.3', steps=3)]\n"
        f"sys.exit(job_manager(mode='shell', log_dir={str(log_dir)!r}).run(jobs))"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode


def test_sigterm_lets_the_running_job_save_and_starts_no_other(tmp_path):
    jobs = [counting(tmp_path / name, "--seconds", "0.1", steps=100) for name in "ab"]

    def end_it():
        while not (tmp_path / "a" / "trace").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    killer = threading.Thread(target=end_it)
    killer.start()
    assert run_shell(jobs, tmp_path) == 128 + signal.SIGTERM
    killer.join()
    assert state(tmp_path / "a") == "stopped" and not (tmp_path / "b" / "starts").exists()
    assert "saved at step" in (tmp_path / "a" / "log.txt").read_text()
    steps = len((tmp_path / "a" / "trace").read_text().splitlines())
    # Started again, it goes on where it was.
    assert run_shell([counting(tmp_path / "a", steps=steps + 2)], tmp_path) == 0
    assert len((tmp_path / "a" / "trace").read_text().splitlines()) == steps + 2


def test_cores_are_shared_out_where_there_is_no_gpu(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    run_shell([counting(tmp_path / name) for name in "ab"], tmp_path, parallel=2)
    assert starts(tmp_path / "a")[0].endswith("threads=4")
    assert environments(3, 1) == [{"OMP_NUM_THREADS": "2"}] * 3


def test_each_gpu_takes_per_gpu_jobs(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    gpus = [slot["CUDA_VISIBLE_DEVICES"] for slot in environments(4, 2)]
    assert sorted(gpus) == ["4", "4", "5", "5"]
    assert environments(None, 1) == [{"CUDA_VISIBLE_DEVICES": "4"}]
    with pytest.raises(UserError, match="needs 3 GPUs, and there are 2"):
        environments(3, 1)


def test_a_full_disk_fails_the_job_with_a_message(tmp_path, capsys):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "log.txt").symlink_to("/dev/full")
    assert run_shell([counting(tmp_path / "a"), counting(tmp_path / "b")], tmp_path) == 1
    assert "the disk is full" in capsys.readouterr().out
    assert state(tmp_path / "b") == "done"


def test_a_program_that_cannot_be_started_is_named_and_the_job_has_failed(tmp_path):
    process = JobProcess(Job("a", ["no-such-program"], tmp_path / "a"))
    assert process.run() == "failed"
    assert process.error == "no-such-program cannot be started: No such file or directory"
    assert Run(tmp_path / "a").status()["error"] == process.error


# ---------------------------------------------------------------------------- states


def test_a_run_whose_process_died_goes_on_by_itself(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    run = Run(tmp_path / "a")
    run.set_status(state="running", host=socket.gethostname(), pid=ended.pid, heartbeat=time.time())
    assert status_of(run, None)["died"]
    assert run_shell([counting(run.path)], tmp_path) == 0
    assert state(run.path) == "done"


@pytest.mark.parametrize(
    ("state", "alive", "expected", "starts"),
    [
        ("queued", {"7_0"}, "queued", False),
        ("queued", {"7_1"}, "failed", True),  # cancelled while it waited
        ("queued", None, "queued", False),  # Slurm cannot be asked
        ("stopped", {"7_0"}, "queued", False),  # saved, and about to be requeued
        ("stopped", set(), "stopped", True),
        ("done", {"7_0"}, "done", False),
        ("failed", set(), "failed", False),
    ],
)
def test_slurm_says_whether_a_run_is_free(tmp_path, state, alive, expected, starts):
    run = Run(tmp_path / "a")
    run.set_status(state=state, slurm_job="7_0")
    status = status_of(run, alive)
    assert (status["state"], is_to_start(status, None)) == (expected, starts)


def test_a_slurm_job_that_is_gone_is_dead_after_a_minute_of_silence(tmp_path):
    run = Run(tmp_path / "a")
    run.set_status(state="running", host="node", pid=1, slurm_job="7", heartbeat=time.time() - 61)
    assert status_of(run, {"8"})["died"]
    run.set_status(heartbeat=time.time())
    assert status_of(run, {"8"})["state"] == "running"


def test_a_status_file_that_cannot_be_read_waits_for_rerun(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "status.json").write_text("{")
    job = counting(tmp_path / "a")
    assert run_shell([job], tmp_path) == 0
    assert not (tmp_path / "a" / "starts").exists()
    assert run_shell([job], tmp_path, rerun="failed") == 0
    assert state(tmp_path / "a") == "done"


def test_the_stages_within_a_run_are_not_runs_of_their_own(tmp_path):
    for name in ("b/config.yaml", "b/stage_1/config.yaml", "a/status.json", "c/other"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [run.path.name for run in find_runs([tmp_path, tmp_path / "b"])] == ["a", "b"]
    with pytest.raises(UserError, match="no such folder"):
        find_runs([tmp_path / "none"])


def test_a_command_without_status_of_its_own_has_a_heartbeat(tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.jobs.job.HEARTBEAT_SECONDS", 0.1)
    process = JobProcess(counting(tmp_path / "a", "--seconds", "0.6"))
    thread = threading.Thread(target=process.run)
    thread.start()
    beats = set()
    while thread.is_alive():
        time.sleep(0.05)
        with contextlib.suppress(FileNotFoundError):
            beats.add(json.loads((tmp_path / "a" / "status.json").read_text())["heartbeat"])
    assert len(beats) >= 4


# ---------------------------------------------------------------------------- Slurm's side


def test_without_sbatch_the_message_says_shell(tmp_path):
    with pytest.raises(UserError, match=r"no sbatch on PATH.*use --mode shell"):
        job_manager(mode="sbatch", log_dir=tmp_path).run([counting(tmp_path / "a")])
    assert not (tmp_path / "a").exists()
    with pytest.raises(UserError, match="--parallel and --per_gpu are for --mode shell"):
        job_manager(mode="sbatch", parallel=2)


def test_flags_win_over_the_file(tmp_path):
    file = tmp_path / "slurm.yaml"
    file.write_text("partition: long\ntime: 60\nsbatch: {nice: 5}\n")
    options = {"sbatch": ["mail-type=END", "exclusive"], "setup": "module load x"}
    settings = read_settings(parsed(slurm_config=file, time=90, **options))
    assert (settings.partition, settings.time, settings.cpus) == ("long", 90, 8)
    assert settings.sbatch == {"nice": 5, "mail-type": "END", "exclusive": True}
    assert settings.setup == ["module load x"]


def test_the_file_of_the_project_holds_every_setting_and_its_default():
    assert read_settings(parsed()) == SlurmSettings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partion: x", "partion: Extra inputs"),
        ("time: soon", "time: .*valid integer"),
        ("cpus: 0\ngpus: -1", "cpus: .*greater than or equal to 1"),
        ("time: 1\nsignal_seconds: 60", "signal_seconds=60"),
        ("- a", "slurm.yaml"),
        ("a: [", "slurm.yaml"),
        ("account: {{ name }}", "slurm.yaml"),
    ],
)
def test_a_wrong_settings_file_is_named(tmp_path, text, message):
    (tmp_path / "slurm.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_settings(parsed(slurm_config=tmp_path / "slurm.yaml"))


def test_what_stands_after_the_dashes_is_every_jobs():
    assert split_overrides(["--mode", "shell", "--", "a=1", "--", "b"]) == (
        ["--mode", "shell"],
        ["a=1", "--", "b"],
    )
    assert split_overrides(["x"]) == (["x"], [])


@pytest.fixture
def fake_sbatch(tmp_path, monkeypatch):
    """An sbatch that takes everything and says so; an srun to be found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, line in {"sbatch": "echo Submitted batch job 12", "srun": "exit 1"}.items():
        (folder / name).write_text(f"#!/bin/bash\n{line}\n")
        (folder / name).chmod(0o755)
    monkeypatch.undo()
    monkeypatch.setattr("scripts.jobs.states.slurm_jobs", lambda: None)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_the_generated_script_is_the_golden_one(tmp_path, fake_sbatch):
    logs = tmp_path / "my logs"
    (logs / ".slurm").mkdir(mode=0o755, parents=True)
    flags = {"partition": "gpu", "account": "lab", "qos": "high", "constraint": "a100"}
    flags |= {"sbatch": "nice=5", "setup": "module load cuda"}
    jobs = [Job(f"erm_tune/{n}", ["true"], logs / "erm_tune" / n) for n in "abc"]
    assert job_manager(mode="sbatch", log_dir=logs, **flags).run(jobs) == 0
    assert stat.S_IMODE((logs / ".slurm").stat().st_mode) == 0o700  # for submitit's pickles
    script = (logs / ".slurm" / "12_submission.sh").read_text()
    for path, word in ((logs, "LOGS"), (sys.executable, "PYTHON"), (ROOT, "ROOT")):
        script = script.replace(str(path), word)
    assert script == (GOLDEN / "submission.sh").read_text()
    queued = json.loads((logs / "erm_tune" / "c" / "status.json").read_text())
    assert (queued["state"], queued["slurm_job"]) == ("queued", "12_2")


# ---------------------------------------------------------------------------- estimates

TINY = ["exp=erm", "exp/model=resnet18", "exp/dataset=synthetic", "exp.train.total_epochs=3"]


def training(log_dir: Path, *overrides: str) -> Job:
    return Job("a", ["python", "train.py", *TINY, *overrides], log_dir / "a")


def test_the_cost_is_said_before_anything_starts(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = Job("b", ["python"], tmp_path / "b")
    Run(done.run_dir).set_status(state="done")
    job_manager(log_dir=tmp_path).run([training(tmp_path), done])
    err = capsys.readouterr().err
    assert "runs to start: 1; left out: 1 done" in err
    assert "hours on one device: unknown, no earlier run of resnet18 at 64x64 was measured" in err
    # 11,177,025 weights, 8 bytes each with momentum, 3 epochs of which all are kept.
    assert "at most 0.3 GB" in err

    for name, rate in {"x": 100.0, "y": 300.0, "z": 200.0}.items():
        config = {"model": {"name": "resnet18"}, "dataset": {"target_resolution": [64, 64]}}
        write_json(tmp_path / name / "config.yaml", {"exp": config})
        Run(tmp_path / name).set_status(state="done", images_per_second=rate)
    job_manager(log_dir=tmp_path).run([training(tmp_path)])
    # 3 epochs x (16,000 + 4,000/3) images at the median of 200/s are 260 s.
    assert "hours on one device: about 0.1 (0.07 a run)" in capsys.readouterr().err


def test_the_pictures_of_a_table_are_counted(shapes, tmp_path):
    table = ["exp/dataset=table", f"exp.dataset.root={shapes}", f"exp.dataset.cache_dir={tmp_path}"]
    config = load_config([*table, "exp.dataset.groupings=[shape:texture]"])
    assert split_sizes(config.dataset) == (120, 60)


@pytest.mark.parametrize(
    ("overrides", "epochs"),
    [
        (["exp=jtt"], [1, 3]),
        (["exp=jtt", "exp.dataloader.error_set=set.npz"], [3]),
        (["exp=dfr"], [3]),
        (["exp=dfr", "exp.stage_1.run=logs/erm/a"], []),
        (["exp=crt", "exp.stage_1.train.total_epochs=2"], [2]),
        (["exp=xrm"], [3]),
    ],
)
def test_only_stages_that_train_cost_time(overrides, epochs):
    config = load_config([*TINY[1:], *overrides])
    assert [stage.train.total_epochs for stage in trained_stages(config)] == epochs


def test_a_mistake_in_the_overrides_is_found_before_a_job_starts(tmp_path):
    with pytest.raises(UserError, match=re.escape("exp.optimizer.lrr")):
        run_shell([training(tmp_path, "exp.optimizer.lrr=1")], tmp_path)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("name", "inputs"),
    [("resnet18", None), ("linear", 5), pytest.param("resnet50", None, marks=pytest.mark.slow)],
)
def test_weights_are_counted_without_making_the_network(name, inputs):
    network = build_model(name, 3, False, None, 0, inputs=inputs)
    assert parameters(name, 3, inputs) == sum(p.numel() for p in network.parameters())
