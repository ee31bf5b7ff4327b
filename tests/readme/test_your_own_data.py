"""The commands of docs/your_own_data.md, from nothing to the report."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from src.io import read_json

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "your_own_data.md").read_text()
COMMANDS = "".join(re.findall(r"```shell\n(.*?)```", PAGE, re.DOTALL))


def test_the_page_has_its_commands():
    assert COMMANDS.count("python ") == 6


@pytest.mark.slow
def test_your_own_data_from_nothing_to_the_report(tmp_path):
    script = (
        COMMANDS.replace("data/shapes", f"{tmp_path}/shapes")
        .replace("logs/", f"{tmp_path}/logs/")
        .replace("--train 4000", "--train 600")
        .replace("total_epochs=3", f"total_epochs=1 exp.dataset.cache_dir={tmp_path}/cache")
        .replace("--dataset table", f"--dataset table --cache_dir {tmp_path}/cache")
        .replace("report_results", f"report_results --out_dir {tmp_path}/report")
        .replace("exp/model=resnet18", "exp/model=shufflenet_v2_x0_5")
        .replace("python ", f"{sys.executable} ")
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-ec", script], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "shape=square texture=checks" in done.stdout
    rows = read_json(tmp_path / "report" / "report.json")["rows"]
    assert {row["method"] for row in rows} == {"erm", "rwg"}
    assert all(len(row["groups"]) == 9 for row in rows)
