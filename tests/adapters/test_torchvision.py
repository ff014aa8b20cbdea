"""torchvision's detectors with a rule, beside the same detectors without."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, KeypointRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.roi_heads import maskrcnn_loss
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from wildbox.adapters.torchvision import RuleHeads, use_rule
from wildbox.classification import ConcurrentSoftmax, Sigmoid, Softmax
from wildbox.detectors.faster_rcnn import small_faster_rcnn
from wildbox.errors import ConfigError, InputError

CLASSES = 3
IMAGES = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in range(2)]
TARGETS: list[dict[str, Tensor]] = [
    {"boxes": torch.tensor([[5.0, 5, 30, 30], [20, 10, 60, 50]]), "labels": torch.tensor([1, 3])},
    {"boxes": torch.tensor([[8.0, 30, 40, 60]]), "labels": torch.tensor([2])},
]


def backbone() -> nn.Module:
    body = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=4, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, stride=2, padding=1),
        nn.ReLU(),
    )
    body.out_channels = 16  # type: ignore[assignment]
    return body


def detector(kind: type[FasterRCNN] = FasterRCNN, **more: Any) -> FasterRCNN:
    torch.manual_seed(0)
    settings = {
        "num_classes": CLASSES + 1,
        "min_size": 64,
        "max_size": 64,
        "rpn_anchor_generator": AnchorGenerator(((16, 32),), ((1.0,),)),
        "box_roi_pool": MultiScaleRoIAlign(["0"], 5, 1),
        "rpn_post_nms_top_n_train": 40,
        "rpn_post_nms_top_n_test": 40,
        "box_score_thresh": 0.01,
    }
    return kind(backbone(), **settings, **more)


def losses(model: FasterRCNN, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    torch.manual_seed(1)  # of the sampling of proposals
    found: dict[str, Tensor] = model.train()(IMAGES, targets)
    return found


@pytest.mark.parametrize("kind", ["boxes", "masks", "keypoints"])
def test_softmax_is_torchvision(kind: str) -> None:
    """Every loss with its gradients, and every detection."""
    targets = [dict(target) for target in TARGETS]
    if kind == "boxes":
        theirs = detector()
    elif kind == "masks":
        theirs = detector(MaskRCNN, mask_roi_pool=MultiScaleRoIAlign(["0"], 4, 1))
        for target in targets:
            target["masks"] = (torch.rand(len(target["labels"]), 64, 64) > 0.5).to(torch.uint8)
    else:
        theirs = detector(KeypointRCNN, keypoint_roi_pool=MultiScaleRoIAlign(["0"], 4, 1), num_keypoints=2)
        for target in targets:
            corners = target["boxes"].reshape(-1, 2, 2)
            target["keypoints"] = torch.cat([corners, torch.ones(len(corners), 2, 1)], dim=2)
    ours = use_rule(copy.deepcopy(theirs), Softmax())
    assert isinstance(ours.roi_heads, RuleHeads)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    both = []
    for model in (theirs, ours):
        found = losses(model, targets)
        torch.stack(list(found.values())).sum().backward()
        both.append(found | {name: parameter.grad for name, parameter in model.named_parameters()})
    assert list(both[0]) == list(both[1])
    for name, value in both[0].items():
        torch.testing.assert_close(both[1][name], value)
    with torch.no_grad():
        expected, found = (model.eval()(IMAGES) for model in (theirs, ours))
    assert sum(len(image["boxes"]) for image in expected) > 5
    for image, other in zip(expected, found, strict=True):
        for name, value in image.items():
            torch.testing.assert_close(other[name], value)


def trained_once(
    model: FasterRCNN, target: dict[str, Tensor], *, part: str
) -> tuple[dict[str, Tensor], Any, list[list[Tensor]]]:
    """Losses of the first image, what a predictor said, and the chosen proposals, matches, labels and goals."""
    caught: dict[str, Any] = {}
    heads = model.roi_heads
    getattr(heads, part).register_forward_hook(lambda *called: caught.update(predicted=called[2]))
    select = heads.select_training_samples
    heads.select_training_samples = lambda *given: caught.setdefault("chosen", select(*given))
    torch.manual_seed(1)
    found = model.train()([IMAGES[0]], [target])
    return found, caught["predicted"], caught["chosen"]


def test_losses_are_the_rules_on_all_labels_of_an_object() -> None:
    """A box with two labels, written twice: by hand from the logits and deltas."""
    rates = torch.zeros(4, 4)
    rates[0, 1], rates[2, 0] = 0.6, 0.3
    rule = ConcurrentSoftmax(rates)
    model = use_rule(detector(), rule)
    target = {"boxes": torch.tensor([[5.0, 5, 30, 30]] * 2), "labels": torch.tensor([1, 3])}
    found, (logits, deltas), (_, _, (label,), (goal,)) = trained_once(model, target, part="box_predictor")
    members = torch.zeros(len(label), 4)
    members[label > 0] = torch.tensor([1.0, 0, 1, 0])
    members[label == 0, 3] = 1
    assert (label > 0).any()
    background_last = torch.cat([logits[:, 1:], logits[:, :1]], dim=1)
    torch.testing.assert_close(found["loss_classifier"], rule.loss(background_last, members.bool()))
    boxes = torch.tensor(0.0)
    for row in range(len(label)):
        if label[row] > 0:
            for own in (1, 3):
                each = deltas[row, 4 * own : 4 * own + 4]
                boxes = boxes + F.smooth_l1_loss(each, goal[row], beta=1 / 9, reduction="sum") / 2
    torch.testing.assert_close(found["loss_box_reg"], boxes / len(label))
    alone = use_rule(detector(), rule, same_object_iou=None)
    torch.manual_seed(1)
    assert alone.train()([IMAGES[0]], [target])["loss_classifier"] != found["loss_classifier"]


def test_masks_of_all_labels_of_an_object_learn() -> None:
    """A box with the labels 1 and 3, written twice: torchvision's loss of each label, halved."""
    masks = torch.zeros(2, 64, 64, dtype=torch.uint8)
    masks[:, 10:20, 8:25] = 1
    target = {"boxes": torch.tensor([[5.0, 5, 30, 30]] * 2), "labels": torch.tensor([1, 3]), "masks": masks}
    model = use_rule(detector(MaskRCNN, mask_roi_pool=MultiScaleRoIAlign(["0"], 4, 1)), Sigmoid())
    found, logits, ((boxes,), (matched,), (label,), _) = trained_once(model, target, part="mask_predictor")
    chosen = label > 0
    of_each = [
        maskrcnn_loss(logits, [boxes[chosen]], [masks], [torch.tensor([own, own])], [matched[chosen]])
        for own in (1, 3)
    ]
    torch.testing.assert_close(found["loss_mask"], sum(of_each) / 2)
    found["loss_mask"].backward()
    slopes = model.roi_heads.mask_predictor.mask_fcn_logits.weight.grad.flatten(1).abs().sum(dim=1)
    assert (slopes > 0).tolist() == [False, True, False, True]


def test_given_labels_replace_those_of_boxes() -> None:
    model = use_rule(detector(), Sigmoid())
    twice = [{"boxes": torch.tensor([[5.0, 5, 30, 30]] * 2), "labels": torch.tensor([1, 3])}] * 2
    given = [{**target, "multi_hot": torch.tensor([[1, 0, 1]] * 2)} for target in twice]
    for name, loss in losses(model, twice).items():
        torch.testing.assert_close(losses(model, given)[name], loss)


def test_detections_are_scored_by_the_rule_and_may_share_a_box() -> None:
    model = use_rule(detector(), Sigmoid()).eval()
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.bias.copy_(torch.tensor([9.0, 2.0, -9.0, 1.0]))
        model.roi_heads.box_predictor.bbox_pred.weight.zero_()
        model.roi_heads.box_predictor.bbox_pred.bias.zero_()
        found = model(IMAGES[:1])[0]
    assert set(found["labels"].tolist()) == {1, 3}
    assert found["scores"].tolist() == sorted(found["scores"].tolist(), reverse=True)
    boxes = [set(map(tuple, found["boxes"][found["labels"] == label].tolist())) for label in (1, 3)]
    assert boxes[0] & boxes[1]  # softmax would have said background


def test_a_score_at_the_threshold_is_left_out_as_in_torchvision() -> None:
    theirs = detector().eval()
    ours = use_rule(copy.deepcopy(theirs), Sigmoid())
    with torch.no_grad():
        for model in (theirs, ours):
            model.roi_heads.box_predictor.cls_score.weight.zero_()
            model.roi_heads.score_thresh = 0.5
        theirs.roi_heads.box_predictor.cls_score.bias.copy_(torch.tensor([0.0, 0.0, -200.0, -200.0]))
        ours.roi_heads.box_predictor.cls_score.bias.zero_()
        assert [len(model(IMAGES[:1])[0]["boxes"]) for model in (theirs, ours)] == [0, 0]
        for model in (theirs, ours):
            model.roi_heads.score_thresh = 0.4999
        assert all(len(model(IMAGES[:1])[0]["boxes"]) for model in (theirs, ours))


@pytest.mark.parametrize("objects", [True, False])
def test_images_without_boxes_and_every_parameter_learns(objects: bool) -> None:
    model = use_rule(detector(MaskRCNN, mask_roi_pool=MultiScaleRoIAlign(["0"], 4, 1)), Sigmoid())
    nothing = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, 64, 64, dtype=torch.uint8),
    }
    some = TARGETS[0] | {"masks": torch.ones(2, 64, 64, dtype=torch.uint8)}
    found = losses(model, [some if objects else nothing, nothing])
    torch.stack(list(found.values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_own_detectors_and_a_second_rule() -> None:
    own = small_faster_rcnn(classes=CLASSES, rule=Softmax(), image_size=64)
    heads, rule = own.roi_heads, Sigmoid()
    assert use_rule(own, rule).roi_heads is heads
    assert heads.rule is rule
    with pytest.raises(ConfigError, match="4 columns"):
        use_rule(own, ConcurrentSoftmax(torch.zeros(3, 3)))
    model = use_rule(use_rule(detector().eval(), Softmax()), rule)
    assert model.roi_heads.rule is rule
    assert not model.roi_heads.training


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (nn.CrossEntropyLoss(), "a CrossEntropyLoss"),
        (torch.zeros(4, 4), "a Tensor"),
        (ConcurrentSoftmax, "ConcurrentSoftmax"),
    ],
)
def test_what_is_no_rule_is_told(rule: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=rf"expected one such as ConcurrentSoftmax\(rates\), got {told}$"):
        use_rule(detector(), rule)


def test_a_model_without_memory_leaves_the_rule_its_rates() -> None:
    rule = ConcurrentSoftmax(torch.zeros(4, 4))
    with torch.device("meta"):
        model = detector()
        assert use_rule(detector(), rule).roi_heads.rule is rule
        late = ConcurrentSoftmax(torch.zeros(4, 4))
    assert use_rule(model, late).roi_heads.rule is late
    assert use_rule(model, rule).roi_heads.rule is rule
    assert rule.scores(torch.zeros(1, 4)).tolist() == [[0.25] * 4]
    with pytest.raises(ConfigError, match="4 columns"):
        use_rule(model, ConcurrentSoftmax(torch.zeros(3, 3)))


def test_a_rule_may_have_its_loss_from_elsewhere() -> None:
    class Mine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.loss = nn.CrossEntropyLoss()  # found by __getattr__ alone

        def scores(self, logits: Tensor) -> Tensor:
            return logits.sigmoid()

    rule: Any = Mine()
    assert use_rule(detector(), rule).roi_heads.rule is rule
    compiled: Any = torch.compile(ConcurrentSoftmax(torch.zeros(4, 4)), backend="eager")
    assert use_rule(detector(), compiled).roi_heads.rule is compiled


def test_refuses() -> None:
    with pytest.raises(ConfigError, match="RetinaNet has no RoIHeads"):
        use_rule(RetinaNet(backbone(), 4), Softmax())
    with pytest.raises(ConfigError, match="4 columns"):
        use_rule(detector(), ConcurrentSoftmax(torch.zeros(3, 3)))
    for label in (0, 4):
        wrong = [{"boxes": TARGETS[1]["boxes"], "labels": torch.tensor([label])}]
        with pytest.raises(InputError, match=rf"box 0 of an image has {label}, expected 1\.\.3"):
            use_rule(detector(), Softmax())(IMAGES[:1], wrong)
