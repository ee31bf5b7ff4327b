import json
from contextlib import nullcontext
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from benchmarks import memory, scaling, scaling_picture
from benchmarks import run as bench_run
from benchmarks.compare import Row, absolute, compare, interleave, median_interval
from benchmarks.ours import Bench, _Alternating
from benchmarks.picture import draw
from benchmarks.rounding import bf16_rounding
from benchmarks.rows_data import generic_weights
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
    assert row.value == 4
    assert (row.ours, row.theirs) == (40, 10)
    assert row.met is False
    assert row.score == pytest.approx(4 / 4.5)


def test_of_times_the_ratio_is_theirs_over_ours():
    assert compare("name", "s", [(0.5, 100.0)], target=100, seconds=True).value == 200


def test_time_spent_in_a_function_is_noted():
    double = timed(lambda x, times=2: times * x)
    assert double(3) == 6 and double(3, times=4) == 12
    assert len(double.times) == 2 and min(double.times) > 0


def test_a_limit_is_met_below_it():
    assert absolute("name", "s", [3.0, 9.0, 4.0], target=8).met is True
    assert absolute("name", "s", [3.0, 9.0, 4.0], target=8).score == 2
    assert absolute("name", "images/s", [2900.0], target=3000, at_most=False).met is False


def test_the_interval_of_a_median_by_hand():
    # Of 100 values, 50 +- 9.8 lie below the median: the 40th to the 61st, counted from 1.
    assert median_interval(list(range(1, 101))) == (40, 61)
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)


def test_loss_curves_are_apart_by_shares_of_the_mean_loss():
    assert difference(np.array([1.0, 2.2]), np.array([1.0, 3.0])) == pytest.approx((0.4, 0.2))


def test_steps_take_turns_on_the_next_batch_and_the_first_one():
    times = []
    stream = _Alternating(iter("abcdef"), 7, times)
    assert list(stream) == ["a", "a", "a", "b", "c", "a", "a"]
    assert [first for first, _ in times] == [False, True, True, False, False, True, True]


def test_a_row_without_target_is_neither_met_nor_missed():
    assert compare("name", "images/s", [(2, 1)], target=None).met is None


def test_rows_of_a_run_that_was_cut_are_kept(tmp_path):
    whole, cut = '{"key": "a", "value": 1}\n', '{"key": "b", "val'
    path = tmp_path / "bench.jsonl"
    path.write_text(whole + whole.replace("1", "2") + cut)
    assert bench_run.read_lines(path) == {"a": {"key": "a", "value": 2}}


def test_a_row_that_fails_is_named_and_costs_no_other(tmp_path, monkeypatch):
    def broken(bench):
        raise ValueError("no faces")

    rows = {"broken": broken, "sound": lambda bench: absolute("a row", "s", [3.0], target=8)}
    monkeypatch.setattr(bench_run, "table", lambda device: rows)
    monkeypatch.setattr("sys.argv", ["run", "--device", "cpu", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="not measured: broken"):
        bench_run.main()
    report = json.loads((tmp_path / "bench.json").read_text())
    assert [row["key"] for row in report["rows"]] == ["sound"]
    assert report["failed"] == {"broken": "ValueError: no faces"}


def test_the_picture_shows_rows_with_targets(tmp_path):
    row = Row("input", "images/s", 20.0, 2.0, 10.0, 8.0, False, 3)
    entry = asdict(row) | {"met": row.met, "score": row.score}
    report = {"machine": {"cpu": "a", "cores": 2, "torch": "3"}, "rows": [entry]}
    draw(report, tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_of_growth_has_a_panel_for_every_case(tmp_path):
    assert set(scaling.CASES) == {
        case for cases in scaling_picture.PANELS.values() for case in cases
    }
    line = {"size": 1000, "seconds": 0.5, "memory": 0.0}
    scaling_picture.draw(
        [{"case": case, **line} for case in scaling.CASES], tmp_path / "scaling.png"
    )
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")


def test_keys_of_rows_are_those_of_the_device():
    assert {"input-cpu-224", "step", "startup", "memory"} <= bench_run.table("cpu").keys()
    assert {"resnet50", "training-2", "sweep"} <= bench_run.table("cuda").keys()


def test_memory_is_measured_over_reading_at_random(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(memory, "SIZE", 30e6)
    memory.main(tmp_path, batches=3, batch_size=4)
    result = json.loads(capsys.readouterr().out)
    assert result["images"] == 12
    assert 0 < result["start"] <= result["peak"]


def test_the_generic_solver_finds_the_same_weights():
    # 3 of 4 are of class 0: weights 2/3, and 2 for the only one of class 1.
    weights = generic_weights(np.array([[0], [0], [0], [1]]))
    np.testing.assert_allclose(weights, [2 / 3, 2 / 3, 2 / 3, 2], rtol=1e-4)


def test_bf16_rounding_is_that_of_autocast():
    torch.manual_seed(0)
    images, labels = torch.randn(16, 3, 8, 8), torch.rand(16, 2).round()
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        BasicBlock(8, 8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 2),
    )
    results = []
    for context in (bf16_rounding(), torch.autocast("cpu", torch.bfloat16), nullcontext()):
        model.zero_grad()
        with context:
            logits = model(images).float()
        nn.functional.binary_cross_entropy_with_logits(logits, labels).backward()
        gradients = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
        results.append((logits.detach(), gradients))
    (rounded, ours), (autocast, theirs), (plain, exact) = results
    assert torch.equal(rounded, autocast) and not torch.equal(rounded, plain)
    assert (ours - theirs).norm() < (exact - theirs).norm() / 4  # sums in another order: not equal


@pytest.mark.slow
def test_both_loops_have_the_same_losses(tmp_path):
    threads = torch.get_num_threads()
    bench = Bench(tmp_path, choose_device("cpu"), (320, 32, 32), workers=0)
    row = agreement_row(bench, "resnet18", 64, steps=10)
    torch.set_num_threads(threads)
    assert row.met is True
    assert json.dumps(asdict(row))
