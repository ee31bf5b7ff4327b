"""Group DRO on the excess over the losses of another run."""

import math

import numpy as np
import pytest
import torch

from src.evaluation.logits import Logits, Source, save_logits
from src.io import UserError
from src.objective.options import GroupDROOptions, ObjectiveOptions
from src.objective.reference import reference_losses
from tests.objective.build import make_tables
from tests.objective.test_groups import COUNTS, LOSSES, dro, q, step


def test_q_follows_the_excess_and_the_scalar_the_losses():
    layer = dro(COUNTS, eta=0.01)
    layer.tables.reference = torch.tensor([[0.1, 0.2, 0.3, 1.9]])
    (scalar,) = step(layer, LOSSES)
    rises = np.exp(0.01 * np.array([0.1, 0.2, 0.3, 0.1]))
    assert q(layer)[0] == pytest.approx(rises / rises.sum(), abs=1e-6)
    assert scalar == pytest.approx(rises @ LOSSES / rises.sum(), abs=1e-6)
    before = q(layer)[0]
    step(layer, [0.1, 0.2, 0.3, None])  # no excess, and an absent group has none either
    assert q(layer)[0] == pytest.approx(before, abs=1e-6)


def saved(path, tasks: tuple[str, ...], values: list[list[float]], rows: str = "rows") -> str:
    source = Source("train", "1", "weights", rows)
    save_logits(path, Logits(np.array(values, np.float32), tasks, (2,) * len(tasks), source))
    return str(path)


def test_references_are_mean_losses_of_groups_in_saved_logits(tmp_path):
    tables = make_tables([[1, 0], [1, -1], [0, 1]], groups=[[3, 1], [3, 0], [0, -1]])
    tables.tasks = ["Young", "Bald"]
    log3 = math.log(3)  # of probabilities 3/4 and 1/4
    one = saved(tmp_path / "a.npz", ("Young",), [[0.0], [log3], [log3]])
    other = saved(tmp_path / "b.npz", ("Bald", "Young"), [[-log3, 9], [5, 9], [5, 9]])
    found = reference_losses([one, other], tables, "rows")
    young = [math.log(4), 0, 0, (math.log(2) + math.log(4 / 3)) / 2]
    torch.testing.assert_close(found, torch.tensor([young, [0, math.log(4 / 3), 0, 0]]))
    with pytest.raises(UserError, match="none of the files has the task Bald"):
        reference_losses([one], tables, "rows")
    with pytest.raises(UserError, match="not logits of these train examples"):
        reference_losses([one], tables, "other rows")


def test_options_without_a_reference_are_saved_as_before():
    assert "reference" not in ObjectiveOptions(task="dro").chosen()["dro"]
    with pytest.raises(ValueError, match="set one"):
        GroupDROOptions(reference=["a.npz"], normalize=True)
