"""Settings that trade digits for speed stay close to the plain run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from training.small_run import draw_small_world, logged_losses, small_run

from wildbox.classification import Softmax
from wildbox.detectors.faster_rcnn import small_faster_rcnn
from wildbox.training.run import train


def test_anchors_of_large_images_keep_their_digits_under_autocast() -> None:
    """bfloat16 has 8 binary digits: from 512 pixels on it would round to multiples of 4."""
    model = small_faster_rcnn(classes=2, rule=Softmax(), image_size=600).eval()
    anchors = []
    model.rpn.anchor_generator.register_forward_hook(lambda module, given, made: anchors.append(made[0]))
    for enabled in (False, True):
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            model([torch.rand(3, 600, 640)])
    assert float(anchors[0].max()) > 600
    assert torch.equal(*anchors)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "tolerance"),
    [({"precision": "bf16-mixed"}, 0.02), ({"channels_last": True}, 1e-4), ({"compile": True}, 1e-4)],
    ids=["bf16-mixed", "channels_last", "compile"],
)
def test_the_first_losses_are_nearly_those_of_a_plain_run(
    setting: dict[str, object], tolerance: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []

    def compile_eagerly(module: nn.Module) -> None:
        """Trace as ever, but do not wait for a C++ compiler."""
        compiled.append(module)
        module._compiled_call_impl = torch.compile(module._call_impl, backend="eager")

    monkeypatch.setattr(nn.Module, "compile", compile_eagerly)
    world = draw_small_world(tmp_path / "world")
    for name, settings in (("plain", {}), ("other", setting)):
        train(small_run(world, steps=1, batch_size=4, **settings), tmp_path / name)
    (plain,), (other,) = (logged_losses(tmp_path / name) for name in ("plain", "other"))
    for name in plain:
        assert other[name] == pytest.approx(plain[name], rel=tolerance)
    assert plain != other or "compile" in setting
    assert len(compiled) == ("compile" in setting)
