"""detectron2's adapter: on a stand-in of its interface, and on the real one where detectron2 is installed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from adapters.stand_ins import Boxes, FastRCNNOutputLayers, Instances
from torch import Tensor, nn

from wildbox.adapters.detectron2 import RulePredictor, share_labels, use_rule
from wildbox.classification import ConcurrentSoftmax, Sigmoid, Softmax
from wildbox.errors import ConfigError, InputError

C = 3
FEATURES = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


def proposals(**fields: Tensor) -> list[Instances]:
    """Three proposals of one image, two of another; class 3 is the background."""
    boxes = Boxes(torch.zeros(3, 4)), Boxes(torch.zeros(2, 4))
    goals = Boxes(torch.arange(12.0).reshape(3, 4)), Boxes(torch.ones(2, 4))
    classes = torch.tensor([0, 3, 2]), torch.tensor([3, 1])
    return [
        Instances((9, 9), proposal_boxes=box, gt_boxes=goal, gt_classes=own, **fields if image == 0 else {})
        for image, (box, goal, own) in enumerate(zip(boxes, goals, classes, strict=True))
    ]


class Model(nn.Module):
    def __init__(self, predictor: nn.Module) -> None:
        super().__init__()
        self.roi_heads = nn.Module()
        self.roi_heads.box_predictor = predictor


def predictor() -> FastRCNNOutputLayers:
    torch.manual_seed(0)
    return FastRCNNOutputLayers(8, C)


def test_softmax_is_the_predictor_itself() -> None:
    theirs = predictor()
    ours = copy.deepcopy(theirs)
    assert use_rule(Model(ours), Softmax()).roi_heads.box_predictor is ours
    assert isinstance(ours, RulePredictor)
    assert isinstance(ours, FastRCNNOutputLayers)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    predictions = theirs(FEATURES)
    expected, found = (layers.losses(predictions, proposals()) for layers in (theirs, ours))
    assert set(found) == {"loss_cls", "loss_box_reg"}
    for name, loss in expected.items():
        torch.testing.assert_close(found[name], loss)
    for one, other in zip(
        theirs.predict_probs(predictions, proposals()),
        ours.predict_probs(predictions, proposals()),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_labels_of_the_object_reach_the_rule_and_boxes_learn_each() -> None:
    rates = torch.zeros(4, 4)
    rates[0, 1] = 0.7
    rule = ConcurrentSoftmax(rates)
    layers = use_rule(predictor(), rule)
    chosen = proposals(gt_multi_hot=torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 1]], dtype=torch.bool))
    logits, deltas = predictions = layers(FEATURES)
    members = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1], [0, 1, 0, 0]])
    boxes = []
    torch.manual_seed(0)
    for _ in range(400):
        losses = layers.losses(predictions, chosen)
        torch.testing.assert_close(losses["loss_cls"], 2 * rule.loss(logits, members))
        boxes.append(losses["loss_box_reg"].item())
    assert [each.gt_classes.tolist() for each in chosen] == [[0, 3, 2], [3, 1]]  # as they came
    goal = chosen[0].gt_boxes.tensor[0]
    errors = [
        F.l1_loss(deltas.reshape(5, C, 4)[0, label], goal, reduction="sum").item() / 5 for label in (0, 1)
    ]
    seen = sorted({round(loss, 4) for loss in boxes})
    assert len(seen) == 2
    assert seen[1] - seen[0] == pytest.approx(abs(errors[0] - errors[1]), abs=2e-4)
    assert 120 < sum(round(loss, 4) == seen[0] for loss in boxes) < 280  # either label, half of the time


def test_implied_classes_and_cascades() -> None:
    implied = torch.zeros(C, C)
    implied[0, 2] = 1
    stages = nn.ModuleList([predictor(), predictor()])
    model = use_rule(Model(stages), Sigmoid(), implied=implied)
    use_rule(model, Sigmoid(), implied=implied)  # a second time changes nothing
    members = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1], [0, 1, 0, 0]])
    layers: Any
    for layers in stages:
        assert type(layers).__name__ == "RuleFastRCNNOutputLayers"
        predictions = layers(FEATURES)
        found = layers.losses(predictions, proposals())["loss_cls"]
        torch.testing.assert_close(found, 2 * Sigmoid().loss(predictions[0], members))


def test_labels_are_shared_in_the_mapper() -> None:
    boxes = torch.tensor([[0, 0, 8, 8], [0, 0, 8, 8], [20, 20, 30, 30]]).float()
    instances = Instances((40, 40), gt_boxes=Boxes(boxes), gt_classes=torch.tensor([0, 2, 1]))
    assert share_labels(instances, classes=C) is instances
    assert instances.gt_multi_hot.long().tolist() == [[1, 0, 1], [1, 0, 1], [0, 1, 0]]


def test_refuses() -> None:
    with pytest.raises(ConfigError, match="Linear is no box predictor of detectron2"):
        use_rule(nn.Linear(1, 1), Softmax())
    with pytest.raises(ConfigError, match="4 columns"):
        use_rule(predictor(), ConcurrentSoftmax(torch.zeros(3, 3)))
    layers = use_rule(predictor(), Softmax(), implied=torch.zeros(2, 2))
    with pytest.raises(InputError, match=r"implied: expected \(3, 3\), got \(2, 2\)"):
        layers.losses(layers(FEATURES), proposals())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.ones(3, 4), r"gt_multi_hot: expected \(2, 3\), got \(2, 4\)"),
        (torch.zeros(3, 3), "gt_multi_hot: row 0 has no label"),
        (torch.full((3, 3), 2), "gt_multi_hot: row 0 has values other than 0 and 1"),
    ],
)
def test_given_labels_are_checked(given: Tensor, message: str) -> None:
    layers = use_rule(predictor(), Softmax())
    with pytest.raises(InputError, match=message):
        layers.losses(layers(FEATURES), proposals(gt_multi_hot=given))


def test_labels_of_background_are_not_read() -> None:
    layers = use_rule(predictor(), Softmax())
    given = torch.tensor([[1, 0, 0], [0, 0, 0], [0, 0, 1]])
    losses = [layers.losses(layers(FEATURES), proposals(**more)) for more in ({}, {"gt_multi_hot": given})]
    torch.testing.assert_close(losses[0]["loss_cls"], losses[1]["loss_cls"])


def test_the_real_predictor_trains_and_scores_as_before_with_softmax() -> None:
    layers: Any = pytest.importorskip(
        "detectron2.modeling.roi_heads.fast_rcnn",
        reason="detectron2 is not installed: its adapter is tried on a stand-in alone",
        exc_type=ImportError,
    )
    boxes, structures, events = (
        pytest.importorskip(f"detectron2.{name}")
        for name in ("modeling.box_regression", "structures", "utils.events")
    )
    torch.manual_seed(0)
    transform = boxes.Box2BoxTransform((10.0, 10.0, 5.0, 5.0))
    theirs = layers.FastRCNNOutputLayers(8, box2box_transform=transform, num_classes=C)
    ours = use_rule(copy.deepcopy(theirs), Softmax())
    corner = torch.rand(5, 2) * 20
    placed = structures.Boxes(torch.cat([corner, corner + 5 + torch.rand(5, 2)], dim=1))
    image = structures.Instances((40, 40), proposal_boxes=placed, gt_boxes=placed)
    image.gt_classes = torch.tensor([0, 3, 2, 3, 1])
    image.gt_multi_hot = F.one_hot(image.gt_classes, C + 1)[:, :C]
    both: list[Any] = []
    for each in (theirs, ours):
        predictions = each(FEATURES)
        with events.EventStorage():
            both.append((each.losses(predictions, [image]), each.inference(predictions, [image])[0][0]))
    for name, loss in both[0][0].items():
        torch.testing.assert_close(both[1][0][name], loss)
    torch.testing.assert_close(both[1][1].scores, both[0][1].scores)
    assert torch.equal(both[1][1].pred_classes, both[0][1].pred_classes)
