"""Networks by name, their heads, and the weights they start from."""

import urllib.error
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from src.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from src.io import UserError
from src.models.build import build_model, check_resolution
from src.models.weights import download_weights, read_weights

SMALL = "shufflenet_v2_x0_5"  # the smallest of torchvision: its head is `fc`, 1024 wide


def small(num_tasks: int = 1, seed: int = 0, weights: Path | None = None) -> torch.nn.Module:
    return build_model(SMALL, num_tasks, False, weights and str(weights), seed)


@pytest.fixture(scope="module")
def backbone() -> dict[str, torch.Tensor]:
    """Tensors of another network with 1,000 classes, as torchvision would hand them out."""
    state = small(seed=7).backbone.state_dict()
    state["fc.weight"], state["fc.bias"] = torch.zeros(1000, 1024), torch.zeros(1000)
    return state


@pytest.mark.parametrize("name", [SMALL, "mobilenet_v3_small", "mnasnet0_5", "resnet18"])
def test_a_network_has_one_logit_per_task(name):
    model = build_model(name, 3, False, None, seed=0).eval()
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize("name", ["alexnet", "inception_v3", "vit_b_16"])
def test_a_network_that_cannot_take_the_images_is_named_with_their_size(name):
    model = build_model(name, 1, False, None, seed=0)
    with pytest.raises(UserError, match=rf"exp.model.name={name} takes no images of 32x32 \(.+\)"):
        check_resolution(model, name, [32, 32])


def test_trying_a_network_changes_nothing_of_it_nor_of_the_generator():
    model = build_model("mobilenet_v3_small", 1, False, None, seed=0)  # batch norm and dropout
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generator = torch.random.get_rng_state()
    check_resolution(model, "mobilenet_v3_small", [32, 32])
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_initial_weights_are_a_function_of_the_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, again, other = small(seed=1), small(seed=1), small(seed=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    for (name, first), second in zip(one.state_dict().items(), again.state_dict().values()):
        assert torch.equal(first, second), name
    assert not torch.equal(one.head.weight, other.head.weight)
    assert not torch.equal(one.backbone.conv1[0].weight, other.backbone.conv1[0].weight)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnet_50", "did you mean 'resnet50'"),
        ("fasterrcnn_resnet50_fpn", "..."),
        ("x", "..."),
    ],
)
def test_an_unknown_network_is_named_with_the_nearest_one(name, hint):
    with pytest.raises(UserError) as raised:
        build_model(name, 1, False, None, 0)
    assert f"exp.model.name='{name}': no torchvision classifier has this name" in str(raised.value)
    assert hint in str(raised.value)


def test_a_network_without_a_linear_head_is_refused():
    with pytest.raises(UserError, match="SqueezeNet has no linear head"):
        build_model("squeezenet1_1", 1, False, None, 0)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_local_backbone_is_loaded_whole_and_the_head_stays_new(tmp_path, backbone, suffix):
    path = tmp_path / f"weights{suffix}"
    save_file(backbone, path) if suffix == ".safetensors" else torch.save(backbone, path)
    model, fresh = small(2, weights=path), small(2)
    loaded = model.backbone.state_dict()
    for name, tensor in backbone.items():
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked"):
            assert torch.equal(loaded[name], tensor), name
    assert torch.equal(model.head.weight, fresh.head.weight)
    assert torch.equal(model.head.bias, fresh.head.bias)


def test_a_checkpoint_of_this_project_is_a_backbone_too(tmp_path):
    path = tmp_path / "ckpt.1.pt"
    other = small(5, seed=3)
    torch.save({"model": other.state_dict(), "epoch": 1}, path)
    assert torch.equal(
        small(2, weights=path).backbone.conv1[0].weight, other.backbone.conv1[0].weight
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("conv1.0.weight"), "it lacks conv1.0.weight"),
        (lambda state: state.update(extra=torch.zeros(1)), "it has extra"),
        (
            lambda state: state.update({"conv1.0.weight": torch.zeros(2, 3, 3, 3)}),
            "conv1.0.weight has shape (2, 3, 3, 3) instead of (24, 3, 3, 3)",
        ),
        (
            lambda state: [state.pop(name) for name in list(state) if "branch1" in name],
            "more",
        ),
    ],
)
def test_a_backbone_that_does_not_match_in_every_tensor_is_refused(
    tmp_path, backbone, change, message
):
    state = dict(backbone)
    change(state)
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(UserError) as raised:
        small(weights=tmp_path / "weights.pt")
    assert "does not fit ShuffleNetV2" in str(raised.value) and message in str(raised.value)


class Code:
    def __reduce__(self):
        return (print, ("pickled code was run",))


def test_files_that_are_no_weights_are_refused_and_pickled_code_is_not_run(tmp_path, capsys):
    with pytest.raises(UserError, match="no such file"):
        read_weights(tmp_path / "none.pt")
    for name, content in (("a.pt", b"rubbish"), ("a.safetensors", b"rubbish"), ("b.pt", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="cannot be read"):
            read_weights(tmp_path / name)
    torch.save({"a": Code()}, tmp_path / "code.pt")
    with pytest.raises(UserError, match="cannot be read"):
        read_weights(tmp_path / "code.pt")
    torch.save({"a": 1}, tmp_path / "numbers.pt")
    with pytest.raises(UserError, match="holds no table of tensors"):
        read_weights(tmp_path / "numbers.pt")
    assert capsys.readouterr().out == ""


def test_without_network_and_file_the_error_says_both_ways_out(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", offline)
    with pytest.raises(UserError) as raised:
        download_weights(SMALL)
    assert "cannot be downloaded" in str(raised.value)
    assert "exp.model.weights=PATH" in str(raised.value)
    assert "exp.model.pretrained=false" in str(raised.value)
    with pytest.raises(UserError, match="ImageNet weights of shufflenet_v2_x0_5"):
        build_model(SMALL, 1, True, None, 0)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_dropped_with_a_note(tmp_path, backbone, prefix, capsys):
    path = tmp_path / "weights.pt"
    counters = "num_batches_tracked"  # may be absent
    torch.save({prefix + k: v for k, v in backbone.items() if counters not in k}, path)
    loaded = small(weights=path).backbone.state_dict()
    assert torch.equal(loaded["conv1.0.weight"], backbone["conv1.0.weight"])
    assert loaded["conv1.1.num_batches_tracked"] == 0
    assert "which is dropped" in capsys.readouterr().out


@pytest.mark.celeba
def test_the_imagenet_weights_beside_celeba_fill_a_resnet50(celeba_root):
    path = celeba_root.resolve().parent / "weights" / "resnet50_imagenet_v1_fp16.safetensors"
    if not path.exists():
        pytest.skip(f"no {path}")
    model = build_model("resnet50", 2, True, str(path), 0)
    given = read_weights(path)
    state = model.backbone.state_dict()
    backbone = {name for name in state if not name.startswith("fc.")}
    backbone = {name for name in backbone if not name.endswith("num_batches_tracked")}
    assert len(backbone) == 265  # 53 convolutions, 53 batch norms of four tensors
    for name in backbone:
        assert torch.equal(state[name], given[name].float()), name


def test_a_timm_network_has_its_own_normalisation():
    pytest.importorskip("timm")
    name = "timm/vit_tiny_patch16_224.augreg_in21k"  # mean and deviation 0.5
    model = build_model(name, 3, False, None, seed=0).eval()
    first = model.backbone[0]
    grey = torch.rand(1, 3, 4, 4)
    mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    assert torch.allclose(first((grey - mean) / std), (grey - 0.5) / 0.5, atol=1e-5)
    assert not any(key.startswith("backbone.0") for key in model.state_dict())
    with pytest.raises(UserError, match=r"timm has no such model; did you mean 'timm/resnet18'"):
        build_model("timm/resnet118", 1, False, None, 0)


def test_weights_of_a_timm_network_are_loaded_from_a_file(tmp_path):
    timm = pytest.importorskip("timm")
    source = timm.create_model("resnet18", num_classes=10)
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    model = build_model("timm/resnet18", 2, True, str(tmp_path / "weights.pt"), seed=0).eval()
    images = torch.rand(2, 3, 32, 32)
    wanted = source.eval().forward_head(source.forward_features(images), pre_logits=True)
    with torch.no_grad():
        assert torch.allclose(model.features(images), wanted, atol=1e-5)


@pytest.mark.parametrize("what", [True, "bn"])
def test_what_is_frozen_stays(what):
    model = build_model(SMALL, 1, False, None, seed=0, freeze=what).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(torch.rand(4, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    changed = {name for name, t in model.state_dict().items() if not torch.equal(t, before[name])}
    assert changed >= {"head.weight", "head.bias"}
    statistics = {name for name in changed if "running" in name or "num_batches" in name}
    assert not statistics
    assert any(name.startswith("backbone.") for name in changed) == (what == "bn")
