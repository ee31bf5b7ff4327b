"""Jobs that are submitted from inside another Slurm job do not inherit its allocation."""

import json
import shlex
import sys
from pathlib import Path

import pytest

from tests.slurm.cluster import wait_for

pytestmark = pytest.mark.slurm

ROOT = Path(__file__).parents[2]
# Submits one job (no array) that writes the variables of its own allocation into its folder.
SUBMIT = """
import sys
from pathlib import Path
from scripts.job_manager import Job
from tests.jobs import job_manager

logs = Path(sys.argv[1])
code = "import json, os, pathlib; pathlib.Path(r'%s').write_text(json.dumps(dict(os.environ)))"
job = Job("inner", ["python", "-c", code % (logs / "seen.json")], logs / "inner")
flags = {"gpus": 0, "cpus": 1, "mem_gb": 0.2, "time": 10, "signal_seconds": 30}
sys.exit(job_manager(mode="sbatch", log_dir=logs, **flags).run([job]))
"""
OUTER = ["-n1", "-c1", "--mem-per-cpu=100", "--gres=gpu:1"]


@pytest.mark.parametrize("kind", ["salloc", "batch", "array"])
def test_a_job_submitted_inside_another_runs_on_its_own_terms(slurm, tmp_path, monkeypatch, kind):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    script = tmp_path / "submit.py"
    script.write_text(SUBMIT)
    command = [sys.executable, str(script), str(tmp_path)]
    if kind == "salloc":
        slurm.ask("salloc", *OUTER, *command)
    else:
        array = ["--array=7"] * (kind == "array")
        output = f"--output={tmp_path}/outer.out"
        slurm.ask("sbatch", *OUTER, *array, output, f"--wrap={shlex.join(command)}")
    status = tmp_path / "inner" / "status.json"
    wait_for(status.exists, 60, "the submission")
    slurm.wait_until_gone()
    logs = "".join(path.read_text() for path in (tmp_path / ".slurm").glob("*_log.out"))
    assert json.loads(status.read_text())["state"] == "done", logs
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert seen["SLURM_JOB_ID"] == json.loads(status.read_text())["slurm_job"]
    assert "SLURM_MEM_PER_CPU" not in seen and "SLURM_ARRAY_JOB_ID" not in seen
    assert seen.get("CUDA_VISIBLE_DEVICES", "") in ("", "NoDevFiles")
