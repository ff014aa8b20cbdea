"""Bodies of torchvision and timm: their levels, deformable convolutions, frozen parts, weights from files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FrozenBatchNorm2d

from wildbox.detectors.backbones import pyramid
from wildbox.detectors.deformable import DeformableConv
from wildbox.errors import ConfigError, InputError

IMAGE = torch.linspace(-1, 1, 3 * 64 * 96).reshape(1, 3, 64, 96)


@pytest.mark.parametrize(
    "name",
    ["resnet18", "mobilenet_v3_small", "regnet_y_400mf", "timm/legacy_seresnet18", "timm/convnext_atto"],
)
def test_levels_have_the_strides_they_say(name: str) -> None:
    if name.startswith("timm/"):
        pytest.importorskip("timm")
    body = pyramid(name, out_channels=16).eval()
    maps = body(IMAGE)
    assert list(maps) == ["0", "1", "2", "3", "pool"]
    assert body.strides == (4, 8, 16, 32, 64)
    for stride, level in zip(body.strides[:4], maps.values(), strict=False):
        assert level.shape == (1, 16, 64 // stride, 96 // stride)


def test_the_body_of_a_resnet_is_torchvisions() -> None:
    own = models.resnet18().eval()
    names = {f"layer{k}": str(k) for k in (1, 2, 3, 4)}
    body = pyramid("resnet18").eval().body
    body.load_state_dict(own.state_dict(), strict=False)
    expected = list(IntermediateLayerGetter(own, names)(IMAGE).values())
    for ours, theirs in zip(body(IMAGE), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swin_t", "timm/swin_tiny_patch4_window7_224"])
def test_maps_with_channels_last_are_turned(name: str) -> None:
    """Of torchvision's and timm's Swin, on an image that is no multiple of its window."""
    if name.startswith("timm/"):
        pytest.importorskip("timm")
    body = pyramid(name).eval().body
    assert body.channels == (96, 192, 384, 768)
    assert [tuple(level.shape) for level in body(IMAGE)] == [
        (1, f, 64 // s, 96 // s) for f, s in zip((96, 192, 384, 768), (4, 8, 16, 32), strict=True)
    ]


def test_names_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="torchvision has no backbone 'resnet19'"):
        pyramid("resnet19")
    with pytest.raises(ConfigError, match="does not run on images of any size"):
        pyramid("vit_b_16")
    with pytest.raises(ConfigError, match="has 4"):
        pyramid("resnet18", frozen_stages=5)
    pytest.importorskip("timm")
    with pytest.raises(ConfigError, match="timm has no backbone 'resnet19'"):
        pyramid("timm/resnet19")
    with pytest.raises(ConfigError, match="not fit for a pyramid"):
        pyramid("timm/vit_tiny_patch16_224")


def test_deformable_convolutions_start_as_ordinary_ones_and_then_move() -> None:
    torch.manual_seed(0)
    plain = pyramid("resnet18")
    deformable = pyramid("resnet18", deformable=True)
    missing = deformable.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert len(missing) == 24
    assert all(".offset." in name for name in missing)
    convolutions = [name for name, m in deformable.named_modules() if isinstance(m, DeformableConv)]
    assert {name.split(".")[1] for name in convolutions} == {"layer2", "layer3", "layer4"}
    for ours, theirs in zip(deformable.body(IMAGE), plain.body(IMAGE), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    shifted = DeformableConv(nn.Conv2d(1, 1, 3, padding=1, bias=False))
    nn.init.constant_(shifted.offset.bias, 1.0)  # type: ignore[arg-type]
    pixels = torch.rand(1, 1, 8, 8)
    expected = nn.functional.conv2d(pixels, shifted.weight)[0, 0, 1:, 1:]
    torch.testing.assert_close(shifted(pixels)[0, 0, 1:6, 1:6], expected)
    with pytest.raises(ConfigError, match="no 3 x 3 convolution"):
        pyramid("mobilenet_v3_small", deformable=True)


@pytest.mark.parametrize("name", ["resnet18", "timm/resnet18"])
def test_frozen_stages_and_batch_norm(name: str) -> None:
    if name.startswith("timm/"):
        pytest.importorskip("timm")
    body = pyramid(name, frozen_stages=1).body
    frozen = {key for key, p in body.named_parameters() if not p.requires_grad}
    stems = {key.removeprefix("model.").split(".")[0] for key in frozen}
    assert stems == {"conv1", "layer1"}
    assert not [m for m in body.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(p.requires_grad for p in pyramid(name).parameters())
    assert [m for m in pyramid(name, frozen_batch_norm=False).modules() if isinstance(m, nn.BatchNorm2d)]


def drawn_resnet(seed: int) -> nn.Module:
    """A classifier with statistics of its own."""
    torch.manual_seed(seed)
    model: nn.Module = models.resnet18(num_classes=7)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
    return model.eval()


def test_weights_from_a_file(tmp_path: Path) -> None:
    model, path = drawn_resnet(1), tmp_path / "weights.pth"
    torch.save(model.state_dict(), path)
    body = pyramid("resnet18", weights=path).eval().body
    expected = IntermediateLayerGetter(model, {"layer4": "0"})(IMAGE)["0"]
    torch.testing.assert_close(body(IMAGE)[-1], expected, rtol=1e-4, atol=1e-4)
    torch.save({"state_dict": body.state_dict()}, path)  # of a body alone, in an envelope
    again = pyramid("resnet18", weights=path).eval().body
    assert torch.equal(again(IMAGE)[-1], body(IMAGE)[-1])
    assert any(isinstance(m, FrozenBatchNorm2d) for m in again.modules())


def test_weights_from_torchvisions_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own loader, which finds the file that it would fetch."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = models.ResNet18_Weights.DEFAULT.url
    path = tmp_path / "hub" / "checkpoints" / url.rsplit("/", 1)[1]
    path.parent.mkdir(parents=True)
    torch.manual_seed(1)
    model = models.resnet18()
    torch.save(model.state_dict(), path)
    body = pyramid("resnet18", weights="imagenet").body
    assert torch.equal(body.state_dict()["conv1.weight"], model.state_dict()["conv1.weight"])


def test_weights_for_timm_from_a_file(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    model, path = timm.create_model("resnet18").eval(), tmp_path / "weights.pth"
    torch.save(model.state_dict(), path)
    body = pyramid("timm/resnet18", weights=path).eval().body
    torch.testing.assert_close(body(IMAGE)[-1], model.forward_features(IMAGE), rtol=1e-4, atol=1e-4)
    state = {key: value for key, value in model.state_dict().items() if "layer2.0.conv1" not in key}
    torch.save(state, path)
    with pytest.raises(InputError, match=r"lacks 1 of the backbone's tensors, such as layer2.0.conv1"):
        pyramid("timm/resnet18", weights=path)


def test_files_that_are_no_weights_are_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with pytest.raises(InputError, match=r"weights\.pth: no such file"):
        pyramid("resnet18", weights=path)
    path.write_bytes(b"no weights")
    with pytest.raises(InputError, match="not readable as weights"):
        pyramid("resnet18", weights=path)
    torch.save({"a": 1}, path)
    with pytest.raises(InputError, match="expected a state dict"):
        pyramid("resnet18", weights=path)
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="holds none of the backbone's tensors"):
        pyramid("resnet18", weights=path)
    state = models.resnet18().state_dict()
    del state["layer3.0.conv1.weight"]
    torch.save(state, path)
    with pytest.raises(InputError, match=r"lacks 1 of the backbone's tensors, such as layer3.0.conv1"):
        pyramid("resnet18", weights=path)
