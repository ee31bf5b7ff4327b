"""The training loop on a network of one convolution: what each setting does, and what stops it."""

import math

import pytest
import torch

from src.io import UserError
from src.runs.folder import Run
from src.training import loop as training
from src.training.checkpoints import load_checkpoint
from src.training.devices import choose_device, choose_precision
from tests.tiny_training import CPU, EPOCHS, STEPS_PER_EPOCH, at, make_trainer, outcome


def weights_of(trainer: training.Trainer) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in trainer.model.state_dict().values()]


def trained(folder, **options) -> training.Trainer:
    trainer = make_trainer(folder, **options)
    trainer.train()
    return trainer


# ---------------------------------------------------------------------------- a run


def test_a_run_logs_its_steps_and_validates_and_saves_each_epoch(tmp_path):
    trained(tmp_path)
    result = outcome(tmp_path)
    assert result["status"] == "done"
    # Three steps an epoch; a line every second step, at an epoch's end, and for its validation.
    places = [(line["step"], line["epoch"], "val/Young/avg_acc" in line)
              for line in result["metrics"]]  # fmt: skip
    assert places == [
        *[(2, 1, False), (3, 1, False), (3, 1, True)],
        *[(4, 2, False), (6, 2, False), (6, 2, True)],
        *[(8, 3, False), (9, 3, False), (9, 3, True)],
    ]
    assert result["checkpoints"] == ["ckpt.1.pt", "ckpt.2.pt", "ckpt.3.pt", "ckpt.last.pt"]
    assert (result["state"]["epoch"], result["state"]["step"]) == (3, 9)
    run = Run(tmp_path)
    assert list(result["history"]["epochs"]) == ["1", "2", "3"]
    assert all(run.epoch_stats(epoch).exists() for epoch in (1, 2, 3))
    assert all(run.logits("val", epoch).exists() for epoch in (1, 2, 3))
    status = run.status()
    assert (status["step"], status["total_steps"], status["epoch"]) == (9, 9, 3)


def test_a_log_line_holds_the_mean_loss_of_its_steps_per_task(tmp_path):
    trained(tmp_path / "one", log_every_n_steps=1, tasks=("Young",))
    trained(tmp_path / "two", log_every_n_steps=2, tasks=("Young",))
    singles = [line for line in outcome(tmp_path / "one")["metrics"] if "train/loss" in line]
    pair = outcome(tmp_path / "two")["metrics"][0]
    assert pair["step"] == 2
    mean = (singles[0]["train/loss"] + singles[1]["train/loss"]) / 2
    assert pair["train/loss"] == pytest.approx(mean, rel=1e-6)
    assert pair["train/Young/loss"] == pytest.approx(mean, rel=1e-6)
    assert pair["train/Young/weight"] == 1.0


def test_the_first_step_is_plain_sgd_by_hand(tmp_path):
    trainer = make_trainer(tmp_path, max_steps=1, weight_decay=0.01)
    model = trainer.model.train()
    before = model.head.weight.detach().clone()
    batches = trainer.schedule.batches(seed=0, epoch=1, batch_size=8)
    images, positions = next(training.iterate_batches(trainer.images, batches[:1], CPU))
    running = {name: buffer.clone() for name, buffer in model.named_buffers()}
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        model(images), trainer.method.tables.labels[positions].float(), reduction="none"
    )
    loss.mean(dim=0).sum().backward()
    expected = before - 0.1 * (model.head.weight.grad + 0.01 * before)
    for name, buffer in model.named_buffers():
        buffer.copy_(running[name])
    trainer.train()
    torch.testing.assert_close(model.head.weight.detach(), expected)


def test_the_learning_rate_warms_up_and_then_is_constant_or_cosine(tmp_path):
    def rates(schedule, warmup_steps=0):
        folder = tmp_path / f"{schedule}{warmup_steps}"
        options = {"schedule": schedule, "warmup_steps": warmup_steps, "log_every_n_steps": 1}
        trained(folder, **options)
        lines = outcome(folder)["metrics"]
        return [line["train/lr"] for line in lines if "train/lr" in line]

    def cosine(steps):
        return [0.05 * (1 + math.cos(math.pi * step / steps)) for step in range(steps)]

    total = EPOCHS * STEPS_PER_EPOCH
    assert rates(None) == [0.1] * total
    assert rates("cosine") == pytest.approx(cosine(total))
    rise = [0.025, 0.05, 0.075, 0.1]
    assert rates(None, 4) == pytest.approx(rise + [0.1] * (total - 4))
    assert rates("cosine", 4) == pytest.approx(rise + cosine(total - 4))


def test_max_steps_ends_a_run_in_mid_epoch_with_a_validation_and_a_checkpoint(tmp_path):
    trained(tmp_path, max_steps=4)
    result = outcome(tmp_path)
    assert (result["state"]["step"], result["state"]["epoch"]) == (4, 2)
    assert list(result["history"]["epochs"]) == ["1", "2"]
    assert result["status"] == "done"
    trained(tmp_path / "more", max_steps=400)
    assert outcome(tmp_path / "more")["state"]["step"] == 9


def test_all_checkpoints_are_kept_or_the_best_of_each_rule_and_the_last(tmp_path):
    trained(tmp_path / "all", total_epochs=6, keep_ckpts="all")
    trained(tmp_path / "best", total_epochs=6, keep_ckpts="best")
    assert Run(tmp_path / "all").saved_epochs() == [1, 2, 3, 4, 5, 6]
    history = outcome(tmp_path / "best")["history"]
    assert history == outcome(tmp_path / "all")["history"]
    assert Run(tmp_path / "best").saved_epochs() == sorted({*history["selected"].values(), 6})


def test_epochs_between_two_validations_train_alike(tmp_path):
    trained(tmp_path / "every", total_epochs=5)
    trained(tmp_path / "some", total_epochs=5, val_every_n_epochs=2, keep_ckpts=[3])
    every, some = outcome(tmp_path / "every"), outcome(tmp_path / "some")
    assert some["state"]["model"] == every["state"]["model"]
    chosen = {epoch: every["history"]["epochs"][epoch] for epoch in ("2", "4", "5")}
    assert some["history"]["epochs"] == chosen
    kept = {3, 5, *some["history"]["selected"].values()}
    assert Run(tmp_path / "some").saved_epochs() == sorted(kept)


def test_static_weights_1_0_train_the_first_task_alone(tmp_path):
    both = make_trainer(tmp_path / "both", weights=[1.0, 0.0], weight_decay=0.0)
    before = [parameter.detach().clone() for parameter in both.model.head.parameters()]
    both.train()
    for now, then in zip(both.model.head.parameters(), before):
        assert torch.equal(now[1], then[1]) and not torch.equal(now[0], then[0])
    equal = trained(tmp_path / "equal", weight_decay=0.0)
    assert not torch.equal(both.model.backbone[0].weight, equal.model.backbone[0].weight)
    first = next(line for line in outcome(tmp_path / "both")["metrics"] if "train/loss" in line)
    assert (first["train/Young/weight"], first["train/Bald/weight"]) == (1.0, 0.0)
    assert first["train/loss"] == pytest.approx(first["train/Young/loss"])


# ---------------------------------------------------------------------------- what changes nothing


def test_logging_saving_and_reading_ahead_do_not_change_the_weights(tmp_path, monkeypatch):
    reference = trained(tmp_path / "reference")
    variants = {
        "log": {"log_every_n_steps": 1},
        "save": {"save_every_minutes": 1e-9},
        "keep": {"keep_ckpts": "best"},
        "board": {"trackers": ["tensorboard"]},
    }
    for name, change in variants.items():
        assert weights_of(trained(tmp_path / name, **change)) == weights_of(reference), name
    for prefetch in (1, 7):
        read = training.iterate_batches
        monkeypatch.setattr(
            training,
            "iterate_batches",
            lambda *args, read=read, prefetch=prefetch, **kw: read(*args, prefetch=prefetch, **kw),
        )
        again = trained(tmp_path / f"prefetch{prefetch}")
        monkeypatch.undo()
        assert weights_of(again) == weights_of(reference)


def test_the_seed_changes_the_order_of_examples(tmp_path):
    assert weights_of(trained(tmp_path / "0")) != weights_of(trained(tmp_path / "1", seed=1))


def test_a_checkpoint_is_saved_in_mid_epoch_when_its_time_has_come(tmp_path):
    class Killed(BaseException):
        pass

    def die(trainer):
        if trainer.step == 2:
            raise Killed

    for minutes, saved in ((1e-9, True), (10.0, False)):
        folder = tmp_path / str(minutes)
        with pytest.raises(Killed):
            trained(folder, hook=die, save_every_minutes=minutes)
        assert Run(folder).checkpoint("last").exists() == saved
    assert load_checkpoint(Run(tmp_path / "1e-09").checkpoint("last"))["step"] == 2


def test_a_full_gpu_is_a_plain_message(tmp_path):
    def full():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB. GPU 0 has ...")

    with pytest.raises(UserError, match=r"CUDA out of memory: lower exp\.dataloader\.batch_size"):
        make_trainer(tmp_path, hook=at(4, full)).train()
    assert Run(tmp_path).status()["state"] == "failed"


# ---------------------------------------------------------------------------- what is not finite


def break_at(step: int, value: float):
    """A hook that adds `value` to the biases of the head before one training step."""

    def hook(trainer):
        if trainer.step == step and trainer.model.training:
            trainer.model.head.bias.data += value

    return hook


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_loss_that_is_not_finite_never_reaches_the_weights_and_the_step_is_named(
    tmp_path, precision
):
    before = trained(tmp_path / "before", max_steps=4, precision=precision)
    broken = make_trainer(
        tmp_path / "broken",
        hook=break_at(4, math.nan),
        precision=precision,
        log_every_n_steps=1,
    )
    with pytest.raises(UserError) as raised:
        broken.train()
    assert "the loss was not finite at step 5" in str(raised.value)
    assert "exp.optimizer.lr (now 0.1)" in str(raised.value)
    for (name, one), other in zip(before.model.named_parameters(), broken.model.parameters()):
        if name != "head.bias":  # the test itself broke that one
            assert torch.equal(one, other), name
    result = outcome(tmp_path / "broken")
    assert result["state"]["step"] == 3 and result["status"] == "failed"
    assert result["metrics"][-1]["step"] == 4
    assert "at step 5" in Run(tmp_path / "broken").status()["error"]


def test_an_infinite_logit_of_fp16_stops_the_run_though_its_gradient_is_finite(tmp_path):
    # 1e6 does not fit into fp16; the loss of label 0 is infinite, its gradient is 1.
    broken = make_trainer(
        tmp_path, hook=break_at(0, 1e6), precision="fp16", log_every_n_steps=1, weight_decay=0.0
    )
    before = broken.model.backbone[0].weight.detach().clone()
    with pytest.raises(UserError, match="not finite at step 1"):
        broken.train()
    assert torch.equal(broken.model.backbone[0].weight, before)


def test_the_first_bad_step_is_named_where_several_came_before_the_log_line(tmp_path):
    broken = make_trainer(tmp_path, hook=break_at(3, math.nan), log_every_n_steps=50)
    with pytest.raises(UserError, match="not finite at step 4;"):
        broken.train()


def test_gradients_that_overflow_in_fp16_are_no_error(tmp_path):
    # The first scale, 65536, times 1e4 overflows; the scaler halves it until it fits.
    trainer = make_trainer(tmp_path, weights=[1e4, 0.0], precision="fp16", lr=1e-6, total_epochs=6)
    before = trainer.model.head.weight.detach().clone()
    trainer.train()
    assert trainer.compute.scaler.get_scale() < 65536
    moved = (trainer.model.head.weight.detach() - before).abs().max()
    assert 0 < moved < 0.1  # a momentum that a skipped first step left unset would throw it far


@pytest.mark.parametrize("lr", [1e6, 1e20, 1e38])
def test_a_learning_rate_far_too_large_ends_with_advice_and_saves_no_broken_weight(tmp_path, lr):
    trainer = make_trainer(tmp_path, lr=lr, total_epochs=30)
    with pytest.raises(UserError, match=r"exp\.optimizer\.lr"):
        trainer.train()
    assert Run(tmp_path).status()["state"] == "failed"
    if Run(tmp_path).checkpoint("last").exists():
        model = load_checkpoint(Run(tmp_path).checkpoint("last"))["model"]
        assert all(torch.isfinite(tensor).all() for tensor in model.values())


def test_running_statistics_that_are_infinite_are_not_saved(tmp_path):
    trainer = make_trainer(tmp_path, save_every_minutes=1e-9)
    trainer.model.backbone[1].running_var.fill_(math.inf)
    with pytest.raises(UserError, match="became infinite by step 1"):
        trainer.train()
    assert not Run(tmp_path).checkpoint("last").exists()


# ---------------------------------------------------------------------------- devices


def test_auto_is_fp32_on_a_cpu_and_a_device_that_is_not_there_is_a_user_error():
    assert choose_precision("auto", CPU) == "fp32"
    assert choose_precision("bf16", CPU) == "bf16"
    assert choose_device("cpu") == CPU
    for device in ("gpu", "meta", "meta:x", "hpu", "privateuseone", "cuda:-1", "cuda:99"):
        with pytest.raises(UserError, match=f"exp.train.device={device}: .*use auto, cpu or cuda"):
            choose_device(device)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_trains_to_almost_the_same_weights(tmp_path, precision):
    one = trained(tmp_path / "fp32")
    other = trained(tmp_path / precision, precision=precision)
    assert weights_of(one) != weights_of(other)
    for first, second in zip(one.model.parameters(), other.model.parameters()):
        assert second.dtype == torch.float32
        torch.testing.assert_close(first, second, atol=0.05, rtol=0.05)


def test_dropout_is_drawn_from_the_seed_whatever_was_drawn_before(tmp_path):
    runs = {}
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        torch.rand(7)  # the global generator stands elsewhere each time
        make_trainer(tmp_path / name, dropout=0.5, seed=seed).train()
        runs[name] = outcome(tmp_path / name)
    assert runs["one"] == runs["again"] != runs["other"]
