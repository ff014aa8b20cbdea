"""The detectors with a rule: losses, detections, and that they learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from detectors.scenes import RATES, scenes, table

from wildbox.classification import ConcurrentSoftmax, Focal, Rule, Sigmoid, Softmax
from wildbox.detectors.backbones import pyramid
from wildbox.detectors.detector import Detector
from wildbox.detectors.faster_rcnn import cascade_rcnn, faster_rcnn, small_faster_rcnn
from wildbox.detectors.inference import predict
from wildbox.evaluation import evaluate


@pytest.mark.parametrize("rule", [Softmax(), Sigmoid(), Focal(), ConcurrentSoftmax(RATES)])
def test_each_rule_trains_every_part(rule: Rule) -> None:
    torch.manual_seed(0)
    images, targets = scenes(2)
    model = small_faster_rcnn(classes=3, rule=rule, image_size=64, proposals=20)
    losses = model(images, targets)
    torch.stack(list(losses.values())).sum().backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("cascade", [False, True])
def test_images_without_boxes_are_background(cascade: bool) -> None:
    torch.manual_seed(0)
    images, _ = scenes(1)
    model = small_faster_rcnn(classes=3, rule=Softmax(), image_size=64, proposals=20, cascade=cascade)
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    losses = model(images, [nothing | {"multi_hot": torch.zeros(0, 3, dtype=torch.bool)}])
    assert all(loss == 0 for name, loss in losses.items() if "box_reg" in name)
    assert all(torch.isfinite(loss) for loss in losses.values())


FEW: dict[str, Any] = {"classes": 3, "image_size": 64, "anchor_scale": 4, "head_features": 64}
FEW |= {"proposals": 30, "sampled_proposals": 24}
"""Of what makes a detector slow."""


def small() -> Detector:
    """A small single-stage detector for the scenes."""
    return small_faster_rcnn(classes=3, rule=ConcurrentSoftmax(RATES), image_size=64, proposals=40)


def small_of_each_class() -> Detector:
    """The same with boxes of each class."""
    rule = ConcurrentSoftmax(RATES)
    return small_faster_rcnn(classes=3, rule=rule, image_size=64, proposals=40, per_class_boxes=True)


def small_cascade() -> Detector:
    """The same in three stages."""
    rule = ConcurrentSoftmax(RATES)
    return small_faster_rcnn(classes=3, rule=rule, image_size=64, proposals=40, cascade=True)


def on_a_pyramid() -> Detector:
    """With levels, on a body of torchvision's."""
    body = pyramid("resnet18", frozen_batch_norm=False, out_channels=64)
    return faster_rcnn(body, rule=ConcurrentSoftmax(RATES), **FEW)


def cascade_on_a_pyramid() -> Detector:
    """In three stages."""
    body = pyramid("resnet18", frozen_batch_norm=False, out_channels=64)
    return cascade_rcnn(body, rule=ConcurrentSoftmax(RATES), **FEW)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "steps", "rate"),
    [
        (small, 80, 0.02),
        (small_of_each_class, 80, 0.02),
        (small_cascade, 70, 0.02),
        (on_a_pyramid, 60, 0.02),
        (cascade_on_a_pyramid, 80, 0.02),
    ],
)
def test_overfits_eight_images(make: Callable[[], Detector], steps: int, rate: float) -> None:
    """AP above 0.9 on what it was trained on: the leaf, and the other class."""
    torch.manual_seed(0)
    images, targets = scenes(8)
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * min(1, (step + 1) / 20)
        optimizer.zero_grad()
        torch.stack(list(model(images, targets).values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
    truth = table(targets)
    found = predict(model, [(images, targets)], truth, scorings={"own": model.roi_heads.rule.scores})
    result = evaluate(found["own"], truth, protocol="voc")
    assert result.ap[0] > 0.9
    assert result.ap[2] > 0.9


def test_per_class_suppression_and_limit() -> None:
    model = small_faster_rcnn(classes=2, rule=Softmax(), image_size=64, detections_per_image=3)
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.5], [30.0, 30.0, 40.0, 40.0]])
    scores = torch.tensor([[0.9, 0.8, 0.0], [0.7, 0.85, 0.0], [0.04, 0.06, 0.9]])
    found = model.roi_heads.select(boxes, scores)
    assert found["labels"].tolist() == [0, 1, 1]
    assert [round(s, 2) for s in found["scores"].tolist()] == [0.9, 0.85, 0.06]


def test_bytes_are_seen_as_shares_are() -> None:
    torch.manual_seed(0)
    model = small().eval()
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        as_bytes, as_shares = (model.candidates([x])[0] for x in (image, image.float() / 255))
    assert torch.equal(as_bytes.logits, as_shares.logits)
