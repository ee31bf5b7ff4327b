"""Probes of features with a known answer: is the task in them, and does the head use it?"""

import shutil

import numpy as np
import pytest
from PIL import Image

from scripts import probe_features
from src.api import load_run
from src.data.groupings import parse_grouping
from src.data.table import Table
from src.io import UserError, read_json
from src.report.runs import ReportRun
from src.report.text import probe_table
from src.runs.folder import Run
from src.runs.probes import HeadFigures, ProbeFile
from src.spurious.probes import probe, verdict

GROUPING = parse_grouping("Blond_Hair:Male")
SIZES = (100, 100, 100, 20)  # rows of the groups; blond men are rare


def rows(sizes=SIZES) -> Table:
    groups = np.repeat(np.arange(4), sizes)
    codes = np.stack([groups // 2, groups % 2], 1).astype(np.int8)
    names = np.array([f"{row}.jpg" for row in range(len(groups))])
    return Table(names, np.ones(len(names), np.uint8), codes, ("Blond_Hair", "Male"))


def features(table: Table, signal: float, seed: int) -> np.ndarray:
    """Return features (N, 3): the task with noise, the attribute without, and noise."""
    task, male = (2.0 * table.column(name) - 1 for name in ("Blond_Hair", "Male"))
    noise = np.random.default_rng(seed).normal(size=(3, len(table)))
    return np.stack([signal * task + noise[0], male + 0.01 * noise[1], noise[2]], 1)


def probe_with(signal: float, own: np.ndarray):
    table = rows()
    pair = features(table, signal, 1), features(table, signal, 2)
    return probe(GROUPING, pair, (table, table), own)


def test_a_wrong_head_on_good_features_is_recognised():
    blond, male = rows().column("Blond_Hair"), rows().column("Male")
    probes = probe_with(3.0, own=blond * (1 - male))  # never finds a blond man
    assert (probes.own.worst, probes.own.worst_group) == (0.0, "Blond_Hair=1 Male=1")
    assert probes.own.average == 300 / 320
    assert probes.balanced.worst > 0.9 and probes.group_size == 20
    assert probes.p_value < 1e-4 and probes.verdict.startswith("The features are there")
    assert probes.accuracies["Blond_Hair"] > 0.95 and probes.accuracies["Male"] == 1


def test_missing_features_are_recognised():
    blond, male = rows().column("Blond_Hair"), rows().column("Male")
    probes = probe_with(0.0, own=blond * (1 - male))
    # The probe of the task finds only that men are rarely blond: (100/200 + 100/120) / 2. The
    # balanced layer guesses: it finds half of the 20, which is no sign of a feature.
    assert probes.accuracies["Blond_Hair"] == pytest.approx(2 / 3, abs=0.05)
    assert probes.verdict.startswith("The features are missing")


def test_a_gain_on_few_rows_is_no_verdict():
    own, fitted = (
        HeadFigures(average=0.9, worst=worst, low=0.2, high=0.9, worst_group="g")
        for worst in (0.5, 0.8)
    )
    assert verdict(own, fitted, 0.5, 0.01).startswith("The features are there")
    assert verdict(own, fitted, 0.5, 0.3).startswith("Too few rows to tell")


def test_a_fair_network_is_left_alone():
    probes = probe_with(3.0, own=rows().column("Blond_Hair"))
    assert probes.own.worst == 1 and probes.p_value == 1
    assert probes.verdict.startswith("No sign")


def test_groupings_that_cannot_be_probed_are_refused():
    table, few = rows(), rows((20, 20, 20, 3))
    with pytest.raises(UserError, match="has no attribute to probe"):
        probe(parse_grouping("Blond_Hair"), (None, None), (table, table), None)
    with pytest.raises(UserError, match="3 rows of 'Blond_Hair=1 Male=1' to fit on"):
        probe(GROUPING, (features(few, 1, 1),) * 2, (few, few), few.column("Male"))


def test_the_command_writes_what_the_report_shows(finished_run, tmp_path, capsys):
    run = Run(shutil.copytree(finished_run, tmp_path / "run"))
    probe_features.main(["--log_dir", str(run.path), "--groupings", "Young:Male", "--fit", "train"])
    printed = capsys.readouterr().out
    found = read_json(run.results / "test_probes_best-group.json", ProbeFile)
    (probes,) = found.probes
    assert (probes.grouping, found.measured) == ("Young:Male", "test")
    assert probes.verdict in printed
    evaluation = load_run(run.path).evaluate("test", ["Young:Male"])
    assert probes.own.worst == evaluation["accuracy"].min()
    described = ReportRun(run.path).describe()
    assert described["probes"][0]["own"]["worst"] == probes.own.worst
    _, line = probe_table([described])
    assert line[1:3] == ("Young:Male", "1") and line[-1] in probes.verdict


def test_probes_on_other_data_leave_those_of_the_run(finished_run, tiny_celeba, tmp_path):
    run = Run(shutil.copytree(finished_run, tmp_path / "run"))
    other = shutil.copytree(tiny_celeba, tmp_path / "other")
    for path in sorted(other.rglob("*.jpg"))[64:]:
        Image.new("RGB", (178, 218)).save(path)
    command = ["--log_dir", str(run.path), "--groupings", "Young:Male", "--fit", "train"]
    probe_features.main(command)
    before = run.probes("test", "best-group").read_bytes()
    probe_features.main([*command, "--root", str(other)])
    assert run.probes("test", "best-group").read_bytes() == before
    assert len(list(run.results.glob("test_probes_*.json"))) == 2
    assert len(ReportRun(run.path).describe()["probes"]) == 1
