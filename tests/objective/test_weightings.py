"""The layers across tasks, by hand, mostly at S = (0.2, 0.5)."""

import math

import pytest
import torch

from src.objective.across import ACROSS_LAYERS
from src.objective.layer import AcrossLayer
from src.objective.options import FAMOOptions, ObjectiveOptions, STCHOptions, TaskDROOptions
from tests.tiny_training import make_trainer

S = (0.2, 0.5)
YES, NO = torch.tensor(True), torch.tensor(False)


def make(name: str, tasks: int = 2, alpha: float = 0.5, **options) -> AcrossLayer:
    layer = ACROSS_LAYERS[name](ObjectiveOptions(**options), [1.0] * tasks, alpha)
    layer.start_epoch(1)
    return layer


def step(layer: AcrossLayer, scalars=S, finite=YES) -> tuple[float, list[float]]:
    """One training step: the scalar and the weights."""
    total, weights = layer(torch.tensor(scalars))
    layer.commit(finite)
    return total.item(), weights.tolist()


def gradient(layer: AcrossLayer, scalars=S) -> list[float]:
    """The derivatives of the scalar by S."""
    leaf = torch.tensor(scalars, requires_grad=True)
    layer(leaf)[0].backward()
    return leaf.grad.tolist()


@pytest.mark.parametrize("name", ACROSS_LAYERS)
def test_the_reported_weights_are_the_gradient(name):
    layer = make(name)
    assert gradient(layer) == pytest.approx(step(layer)[1], rel=1e-5)


@pytest.mark.parametrize("name", ACROSS_LAYERS)
def test_a_loss_that_is_no_number_makes_the_scalar_none(name):
    assert not math.isfinite(step(make(name), (math.nan, math.nan), NO)[0])


@pytest.mark.parametrize("name", ACROSS_LAYERS)
def test_a_bad_step_changes_no_state(name):
    layer = make(name)
    step(layer)
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    step(layer, (math.nan, 0.5), NO)
    layer.observe(torch.tensor([math.nan, 0.5]), NO)
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())


@pytest.mark.parametrize("name", ACROSS_LAYERS)
def test_a_task_without_labels_keeps_its_state(name):
    layer = make(name)
    step(layer)
    layer.observe(torch.tensor([0.1, 0.4]), YES)
    layer.observe(torch.tensor([0.1, 0.0]), YES)
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    total, weights = layer(torch.tensor([0.2, 0.0]))
    layer.commit(YES)
    layer.observe(torch.tensor([0.1, 0.0]), YES)
    assert torch.isfinite(total.detach()) and torch.isfinite(weights).all()
    for key, value in layer.state_dict().items():
        assert value.flatten()[-1] == before[key].flatten()[-1], key  # the task's, or a flag
    for learnt in layer.parameters():
        assert torch.autograd.grad(total, learnt)[0][1] == 0


def test_static_weights_multiply_the_losses():
    layer = ACROSS_LAYERS["static"](ObjectiveOptions(), [0.25, 0.75], 0.5)
    assert step(layer, (0.4, 0.8)) == (pytest.approx(0.25 * 0.4 + 0.75 * 0.8), [0.25, 0.75])


@pytest.mark.parametrize(
    ("alpha", "weights"), [(0.0, [1.0, 1.0]), (0.5, [0.5, 1.0]), (1.0, [0.25, 1.0])]
)
def test_lbtw_weighs_by_the_ratio_to_the_first_loss(alpha, weights):
    layer = make("lbtw", alpha=alpha)
    assert step(layer, (0.8, 0.5)) == (pytest.approx(1.3), [1.0, 1.0])
    expected = pytest.approx(0.2 * weights[0] + 0.5)  # not divided by the sum of the weights
    assert step(layer, (0.2, 0.5)) == (expected, pytest.approx(weights))


def test_the_first_loss_of_lbtw_waits_for_a_label_and_a_finite_step():
    layer = make("lbtw")
    step(layer, (0.0, 0.5))
    step(layer, (math.nan, 0.5), NO)
    assert step(layer, (0.8, 0.5))[1] == [1.0, 1.0]
    assert step(layer, (0.2, 0.5))[1] == pytest.approx([0.5, 1.0])


def test_a_first_loss_of_lbtw_counts_as_at_least_1e_3():
    layer = make("lbtw")
    step(layer, (1e-9, 0.5))
    assert step(layer, (4e-3, 0.5))[1] == pytest.approx([2.0, 1.0])


def test_the_first_loss_of_lbtw_is_that_of_the_current_epoch():
    layer = make("lbtw", alpha=1.0)
    step(layer, (0.8, 0.5))
    layer.start_epoch(2)
    assert step(layer, (0.4, 0.4))[1] == [1.0, 1.0]
    assert step(layer, (0.2, 0.4))[1] == [0.5, 1.0]


def test_stch_leaves_a_task_without_labels_out():
    assert step(make("stch", 3), (0.2, 0.5, 0.0))[1] == pytest.approx([0.4256, 0.5744, 0], abs=5e-5)


def test_epoch_means_count_the_steps_with_a_label():
    layer = make("dwa")
    for scalars in ((0.4, 0.5), (0.4, 0.0), (0.4, 0.7)):
        step(layer, scalars)
    assert layer.epoch_means.restart(torch.zeros(2)).tolist() == pytest.approx([0.4, 0.6])


def test_uw_learns_from_s_0():
    layer = make("uw")
    with torch.no_grad():
        layer.s.copy_(torch.tensor([0.0, 0.5]))
    total, weights = step(layer)
    assert total == pytest.approx(0.5016, abs=5e-5)
    assert weights == pytest.approx([0.5, 0.3033], abs=5e-5)


def test_imtl_l_learns_from_s_0():
    layer = make("imtl_l")
    with torch.no_grad():
        layer.s.copy_(torch.tensor([0.0, 0.5]))
    assert step(layer)[0] == pytest.approx(0.5244, abs=5e-5)


def test_dwa_compares_the_means_of_two_epochs():
    layer = make("dwa")
    for scalars in ((0.5, 0.6), (0.3, 0.64)):  # mean (0.4, 0.62)
        assert step(layer, scalars)[1] == [1.0, 1.0]
    layer.start_epoch(2)
    assert step(layer, (0.3, 0.6))[1] == [1.0, 1.0]
    layer.start_epoch(3)
    assert step(layer)[1] == pytest.approx([0.9456, 1.0544], abs=5e-5)


def test_rlw_weights_sum_to_t_and_depend_on_seed_and_step():
    layer = make("rlw", 3)
    drawn = []
    for seed, number in ((0, 0), (0, 1), (1, 0), (0, 0)):
        layer.draw(seed, number)
        drawn.append(step(layer, (0.2, 0.5, 0.1))[1])
        assert sum(drawn[-1]) == pytest.approx(3)
    assert drawn[0] == drawn[3] and drawn[0] != drawn[1] != drawn[2]


def test_gls_is_the_geometric_mean():
    total, weights = step(make("gls"))
    assert total == pytest.approx(math.sqrt(0.1))
    assert weights == pytest.approx([0.7906, 0.3162], abs=5e-5)


def test_log_weighs_by_the_inverse_loss():
    total, weights = step(make("log"))
    assert total == pytest.approx(math.log(0.1)) and weights == pytest.approx([5, 2])


@pytest.mark.parametrize(
    ("mu", "weights"), [(1.0, [0.4256, 0.5744]), (0.1, [0.0474, 0.9526])], ids=["smooth", "hard"]
)
def test_stch_is_a_smooth_maximum(mu, weights):
    total, found = step(make("stch", stch=STCHOptions(mu=mu)))
    assert found == pytest.approx(weights, abs=5e-5)
    assert total == pytest.approx(mu * math.log(math.exp(0.2 / mu) + math.exp(0.5 / mu)))
    assert mu != 1 or total == pytest.approx(1.0544, abs=5e-5)


def test_stch_divides_by_the_last_mean_of_the_warm_up():
    layer = make("stch", stch=STCHOptions(warmup_epochs=1))
    assert step(layer, (0.1, 0.5))[1] == pytest.approx([10, 2])
    assert step(layer, (0.3, 0.5))[1] == pytest.approx([1 / 0.3, 2])
    layer.start_epoch(2)
    total, weights = step(layer, (0.2, 0.5))  # both are as large as their means
    assert total == pytest.approx(1 + math.log(2)) and weights == pytest.approx([2.5, 1])


def test_task_dro_raises_the_weight_of_the_worst_task():
    total, weights = step(make("task_dro"))
    assert weights == pytest.approx([2 * 0.49925, 2 * 0.50075], abs=1e-5)
    assert total == pytest.approx(0.70045, abs=5e-6)


def test_task_dro_with_eta_0_is_the_sum():
    layer = make("task_dro", task_dro=TaskDROOptions(eta=0))
    step(layer)
    assert step(layer) == (pytest.approx(0.7), pytest.approx([1, 1]))


def test_famo_follows_the_fall_of_the_losses():
    layer = make("famo", famo=FAMOOptions(weight_decay=0))
    total, weights = step(layer)
    assert weights == pytest.approx([5 / 7, 2 / 7])
    assert total == pytest.approx(0.285714 * math.log(0.1) / 2, rel=1e-5)
    layer.observe(torch.tensor([0.18, 0.49]), YES)
    # Adam's first step is the sign of the gradient (0.0213, -0.0213) times lr.
    assert layer.learner.moment.tolist() == pytest.approx([0.00213, -0.00213], abs=5e-6)
    assert layer.learner.xi.tolist() == pytest.approx([-0.025, 0.025], rel=1e-4)


def test_famo_can_compare_with_the_next_batch():
    layer = make("famo", famo=FAMOOptions(weight_decay=0, next_batch=True))
    step(layer)
    assert layer.learner.xi.tolist() == [0, 0] and not layer.looks_again
    step(layer, (0.18, 0.49))
    assert layer.learner.xi.tolist() == pytest.approx([-0.025, 0.025], rel=1e-4)


def test_famo_learns_nothing_from_a_task_without_labels():
    layer = make("famo", famo=FAMOOptions(weight_decay=0))
    step(layer, (0.2, 0.0))
    layer.observe(torch.tensor([0.2, 0.0]), YES)
    assert layer.learner.xi.tolist() == [0, 0]


@pytest.mark.parametrize("name", ["uw", "imtl_l"])
def test_learnt_weights_are_trained_without_weight_decay(tmp_path, name):
    trainer = make_trainer(tmp_path, objective={"across": name}, weight_decay=0.5)
    s = trainer.objective.across.s
    assert [group["weight_decay"] for group in trainer.optimizer.param_groups] == [0.5, 0]
    assert trainer.optimizer.param_groups[1]["params"][0] is s
    trainer.train()
    assert (s != 0).all()


def test_famos_second_look_moves_no_batch_norm(tmp_path):
    statistics = {}
    for name in ("static", "famo"):
        trainer = make_trainer(tmp_path / name, objective={"across": name}, lr=0.0, max_steps=2)
        trainer.train()
        statistics[name] = trainer.model.backbone[1].running_mean.tolist()
    assert statistics["famo"] == statistics["static"]
