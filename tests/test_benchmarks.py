"""The benchmarks: how rows are made, and small runs of some of them."""

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import run as bench_run
from benchmarks import scaling
from benchmarks.compare import absolute, compare, interleave
from benchmarks.ours import Bench
from benchmarks.rows_tasks import timed
from benchmarks.rows_train import agreement_row, difference
from src.training.devices import choose_device


def test_sides_take_turns():
    turns = []
    pairs = interleave(lambda: turns.append("a") or 2.0, lambda: turns.append("b") or 1.0, 3)
    assert turns == ["a", "b", "a", "b", "a", "b"]
    assert pairs == [(2.0, 1.0)] * 3


def test_ratio_is_the_median_of_pairs():
    # A busy machine halves the third pair, of which the ratio stays 4: ratios 4, 5, 4.
    row = compare("name", "images/s", [(40, 10), (50, 10), (20, 5)], target=4.5)
    assert (row.value, row.ours, row.theirs) == (4, 40, 10)
    assert row.score == pytest.approx(4 / 4.5)
    assert compare("name", "images/s", [(2, 1)], target=None).score is None


def test_a_limit_is_met_below_it():
    assert absolute("name", "s", [3.0, 9.0, 4.0], 8, "").score == 2


def test_time_spent_in_a_function_is_noted():
    double = timed(lambda x, times=2: times * x)
    assert double(3) == 6 and double(3, times=4) == 12
    assert len(double.times) == 2 and min(double.times) > 0


def test_loss_curves_are_apart_by_shares_of_the_mean_loss():
    assert difference(np.array([1.0, 2.2]), np.array([1.0, 3.0])) == pytest.approx((0.4, 0.2))


def test_a_row_that_fails_is_named_and_costs_no_other(tmp_path, monkeypatch, capsys):
    def broken(bench):
        raise ValueError("no faces")

    rows = {"broken": broken, "sound": lambda bench: absolute("a row", "s", [3.0], 8, "")}
    monkeypatch.setattr(bench_run, "table", lambda device: rows)
    argv = ["run", "--device", "cpu", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", argv)
    with pytest.raises(SystemExit, match="not measured: broken"):
        bench_run.main()
    report = json.loads((tmp_path / "bench.json").read_text())
    assert [row["key"] for row in report["rows"]] == ["sound"]
    assert report["failed"] == {"broken": "ValueError: no faces"}
    rows["more"] = lambda bench: compare("another", "s", [(2, 1)], target=None)
    monkeypatch.setattr("sys.argv", [*argv, "--only", "more"])
    bench_run.main()
    report = json.loads((tmp_path / "bench.json").read_text())
    assert [row["key"] for row in report["rows"]] == ["sound", "more"]
    assert "another" in capsys.readouterr().out


@pytest.mark.slow
def test_the_picture_of_growth_shows_every_case(tmp_path):
    lines = [(panel, case, 1000, 0.5, 0.0) for case, (panel, _) in scaling.CASES.items()]
    columns = ["panel", "case", "size", "CPU seconds", "GB more"]
    scaling.draw(pd.DataFrame(lines, columns=columns), tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("case", ["images read", "tasks balanced", "groups evaluated"])
def test_each_case_of_growth_can_be_measured(tmp_path, case):
    size = scaling.CASES[case][1][0]
    scaling.prepare(case, size, tmp_path)()
    assert scaling.peak() > 0


def test_keys_of_rows_are_those_of_the_device():
    assert {"input-cpu-224", "step", "startup"} <= bench_run.table("cpu").keys()
    assert {"training-2", "agreement"} <= bench_run.table("cuda").keys()


@pytest.mark.slow
def test_both_loops_have_the_same_losses(tmp_path):
    threads = torch.get_num_threads()
    bench = Bench(tmp_path, choose_device("cpu"), (320, 32, 32), workers=0)
    row = agreement_row(bench, "resnet18", 64, steps=10)
    torch.set_num_threads(threads)
    assert row.score >= 1
    assert json.dumps(asdict(row))
