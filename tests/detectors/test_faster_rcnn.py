"""The detector with a rule: losses, detections, and that it learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wildbox.annotations import Annotations
from wildbox.classification import ConcurrentSoftmax, Focal, Rule, Sigmoid, Softmax
from wildbox.detectors.faster_rcnn import resnet50_faster_rcnn, small_faster_rcnn
from wildbox.detectors.inference import predict, propose
from wildbox.evaluation import evaluate
from wildbox.vocabulary import Vocabulary

RATES = torch.tensor([[0.0, 0.5, 0.0], [0.2, 0.0, 0.0], [0.0, 0.0, 0.0]])


def scenes(count: int, *, seed: int = 0) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Grey noise with one red and one blue square each; a red one is also class 1 in every other image."""
    generator = torch.Generator().manual_seed(seed)
    images, targets = [], []
    for number in range(count):
        image = torch.rand(3, 64, 64, generator=generator) * 0.2 + 0.4
        x, y = (int(v) for v in torch.randint(0, 10, (2,), generator=generator))
        red, blue = (x, y, x + 20, y + 20), (x + 30, y + 28, x + 48, y + 52)
        for channel, (x1, y1, x2, y2) in ((0, red), (2, blue)):
            image[:, y1:y2, x1:x2] = 0.0
            image[channel, y1:y2, x1:x2] = 1.0
        multi_hot = torch.tensor([[1, number % 2, 0], [0, 0, 1]], dtype=torch.bool)
        boxes = torch.tensor([red, blue], dtype=torch.float32)
        target = {"boxes": boxes, "labels": torch.tensor([0, 2]), "multi_hot": multi_hot}
        images.append(image)
        targets.append(target | {"image": torch.tensor(number)})
    return images, targets


@pytest.mark.parametrize(
    "rule", [Softmax(), Sigmoid(), Focal(), ConcurrentSoftmax(torch.nn.functional.pad(RATES, (0, 1, 0, 1)))]
)
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


def test_images_without_boxes_are_background() -> None:
    torch.manual_seed(0)
    images, _ = scenes(1)
    model = small_faster_rcnn(classes=3, rule=Softmax(), image_size=64, proposals=20)
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    losses = model(images, [nothing | {"multi_hot": torch.zeros(0, 3, dtype=torch.bool)}])
    assert losses["loss_box_reg"].item() == 0
    assert torch.isfinite(losses["loss_classifier"])


@pytest.mark.slow
def test_overfits_eight_images() -> None:
    """AP above 0.9 on what it was trained on, for the leaf, the shared label and the other class."""
    torch.manual_seed(0)
    images, targets = scenes(8)
    rates = torch.zeros(4, 4)
    rates[0, 1], rates[1, 0] = 0.5, 1.0
    model = small_faster_rcnn(classes=3, rule=ConcurrentSoftmax(rates), image_size=64, proposals=40)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for _ in range(150):
        optimizer.zero_grad()
        torch.stack(list(model(images, targets).values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
    truth = table(targets)
    found = predict(model, [(images, targets)], truth, scorings={"own": model.roi_heads.rule.scores})
    result = evaluate(found["own"], truth, protocol="voc")
    assert result.ap[0] > 0.9
    assert result.ap[2] > 0.9


def table(targets: list[dict[str, Tensor]]) -> Annotations:
    """The targets as annotations in pixels, one row a label."""
    rows = [
        (number, box.tolist(), int(label))
        for number, t in enumerate(targets)
        for box, labels in zip(t["boxes"], t["multi_hot"], strict=True)
        for label in labels.nonzero()
    ]
    return Annotations(
        Vocabulary(("red", "sometimes", "blue")),
        tuple(str(i) for i in range(len(targets))),
        image=[row[0] for row in rows],  # type: ignore[arg-type]
        boxes=[row[1] for row in rows],  # type: ignore[arg-type]
        label=[row[2] for row in rows],  # type: ignore[arg-type]
        sizes=[[64, 64]] * len(targets),  # type: ignore[arg-type]
    )


def test_an_image_alone_is_predicted_as_in_a_batch() -> None:
    torch.manual_seed(0)
    images, _ = scenes(3)
    model = small_faster_rcnn(classes=3, rule=Softmax(), image_size=64, proposals=20).eval()
    together = propose(model, images)
    for image, (boxes, logits, frame) in zip(images, together, strict=True):
        alone_boxes, alone_logits, alone_frame = propose(model, [image])[0]
        assert frame == alone_frame
        torch.testing.assert_close(boxes, alone_boxes, atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(logits, alone_logits, atol=1e-4, rtol=1e-4)


def test_one_pass_scores_by_several_rules() -> None:
    torch.manual_seed(0)
    images, targets = scenes(2)
    model = small_faster_rcnn(classes=3, rule=Softmax(), image_size=64, proposals=20, score_threshold=0.0)
    rule = ConcurrentSoftmax(torch.nn.functional.pad(RATES, (0, 1, 0, 1)))
    truth = table(targets)
    scorings = {"a": Softmax().scores, "b": rule.scores}
    found = predict(model, [(images, targets)], truth, scorings=scorings)
    alone = predict(model, [(images, targets)], truth, scorings={"b": rule.scores})
    assert found["b"].score.tolist() == alone["b"].score.tolist()
    assert found["a"].score.tolist() != found["b"].score.tolist()
    assert found["a"].image_ids == truth.image_ids


def test_per_class_suppression_and_limit() -> None:
    model = small_faster_rcnn(classes=2, rule=Softmax(), image_size=64, detections_per_image=3)
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.5], [30.0, 30.0, 40.0, 40.0]])
    scores = torch.tensor([[0.9, 0.8, 0.0], [0.7, 0.85, 0.0], [0.04, 0.06, 0.9]])
    found = model.roi_heads.select(boxes, scores)
    assert found["labels"].tolist() == [0, 1, 1]
    assert [round(s, 2) for s in found["scores"].tolist()] == [0.9, 0.85, 0.06]


def test_resnet50_is_assembled_with_the_rule() -> None:
    model = resnet50_faster_rcnn(classes=5, rule=Sigmoid(), image_size=64, proposals=10).eval()
    with torch.no_grad():
        found = model([torch.rand(3, 64, 80)])[0]
    assert set(found) == {"boxes", "labels", "scores"}
    assert model.roi_heads.box_predictor.logits.out_features == 6
