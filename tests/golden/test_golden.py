"""Losses, orders of examples and pixels of every preset equal the recorded ones.

After an intended change: python -m tests.golden.record --out tests/golden/losses.json
"""

import json
from pathlib import Path

from tests.golden.compare import differences
from tests.golden.presets import PRESETS
from tests.golden.record import format_records, record

STORED = json.loads((Path(__file__).parent / "losses.json").read_text())
OTHER_CPU = 1e-4  # two kinds of CPU round differently


def test_losses_and_hashes_equal_the_recorded_ones(tmp_path):
    recorded = json.loads(format_records(record(tmp_path, list(PRESETS))))
    assert len(recorded) == len(PRESETS) + 1  # jtt has two stages
    assert differences(STORED, recorded, OTHER_CPU) == []


def test_differences_names_what_changed():
    run = {"losses": [[0.5, 0.5], [0.25, 0.25]], "indices": ["a"], "pixels": "b"}
    other = {"losses": [[0.5, 0.5], [0.2501, 0.25]], "indices": ["c"], "pixels": "b"}
    assert differences({"erm": run}, {"erm": run}) == []
    assert differences({"erm": run}, {"erm": other}, tolerance=1e-3) == ["erm: other indices"]
    lines = differences({"erm": run, "rwg": run}, {"erm": other})
    assert lines[:2] == ["rwg: recorded on one side only", "erm: other indices"]
    assert lines[2].startswith("erm: step 2")
