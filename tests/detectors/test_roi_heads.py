"""The second stage against torchvision's unmodified one, and what it adds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from detectors.scenes import RATES, scenes
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor

from wildbox.classification import ConcurrentSoftmax, Rule, Softmax
from wildbox.detectors.detector import Detector
from wildbox.detectors.faster_rcnn import cascade_rcnn, faster_rcnn, small_faster_rcnn
from wildbox.detectors.roi_heads import Candidates
from wildbox.errors import ConfigError, InputError
from wildbox.vocabulary import Hierarchy

RULES: list[Callable[[], Rule]] = [Softmax, lambda: ConcurrentSoftmax(torch.zeros(4, 4))]


class SeededSampler(BalancedPositiveNegativeSampler):  # type: ignore[misc]
    """torchvision's sampler, each image drawn from the same state of the generator."""

    def __call__(self, matched_idxs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        drawn = []
        for one in matched_idxs:
            torch.manual_seed(0)
            drawn.append(super().__call__([one]))
        return [p[0] for p, _ in drawn], [n[0] for _, n in drawn]


def torchvisions(model: Detector) -> FasterRCNN:
    """torchvision's own detector with the weights of `model`; its background stands first."""
    ours = model.roi_heads
    classes, features = ours.classes, ours.box_predictor.logits.in_features
    predictor = FastRCNNPredictor(features, classes + 1)
    logits, deltas = ours.box_predictor.logits, ours.box_predictor.deltas
    with torch.no_grad():
        for name in ("weight", "bias"):
            own, of_boxes = getattr(logits, name), getattr(deltas, name)
            getattr(predictor.cls_score, name).copy_(torch.cat([own[-1:], own[:-1]]))
            repeated = of_boxes if len(of_boxes) == 4 * classes else torch.cat([of_boxes] * classes)
            getattr(predictor.bbox_pred, name).copy_(torch.cat([torch.zeros_like(repeated[:4]), repeated]))
    return FasterRCNN(
        model.backbone,
        min_size=64,
        max_size=107,
        rpn_anchor_generator=model.rpn.anchor_generator,
        rpn_head=model.rpn.head,
        rpn_pre_nms_top_n_train=120,
        rpn_post_nms_top_n_train=40,
        rpn_batch_size_per_image=32,
        box_roi_pool=ours.box_roi_pool,
        box_head=ours.box_head,
        box_predictor=predictor,
        box_batch_size_per_image=16,
    )


@pytest.mark.parametrize("rule", RULES, ids=["softmax", "concurrent, R = 0"])
@pytest.mark.parametrize("per_class_boxes", [False, True])
def test_without_concurrency_all_losses_are_torchvisions(
    rule: Callable[[], Rule], per_class_boxes: bool
) -> None:
    torch.manual_seed(1)
    model = small_faster_rcnn(
        classes=3,
        rule=rule(),
        image_size=64,
        proposals=40,
        sampled_proposals=16,
        per_class_boxes=per_class_boxes,
    )
    nn.init.normal_(model.roi_heads.box_predictor.logits.weight, std=0.3)
    nn.init.normal_(model.roi_heads.box_predictor.deltas.weight, std=0.1)
    reference = torchvisions(model).double().train()
    model.double().train()
    for part in (model.rpn, model.roi_heads, reference.rpn, reference.roi_heads):
        part.fg_bg_sampler = SeededSampler(part.fg_bg_sampler.batch_size_per_image, 0.25)
    images, targets = scenes(2)
    single = [{"boxes": t["boxes"].double(), "labels": t["labels"]} for t in targets]
    ours = model([image.double() for image in images], single)
    shifted = [t | {"labels": t["labels"] + 1} for t in single]
    theirs = reference([image.double() for image in images], shifted)
    assert ours.keys() == theirs.keys()
    assert theirs["loss_box_reg"] > 0.001
    for name, loss in theirs.items():
        torch.testing.assert_close(ours[name], loss, rtol=1e-9, atol=0)
    weights = list(model.backbone.parameters())
    gradients = [torch.autograd.grad(sum(losses.values()), weights) for losses in (ours, theirs)]
    for mine, its in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-6, atol=1e-12)


def test_boxes_of_each_class_are_its_own() -> None:
    """The deltas of a class move its box alone, and an object of two labels counts as one."""
    torch.manual_seed(0)
    model = small_faster_rcnn(classes=3, rule=Softmax(), image_size=64, per_class_boxes=True)
    heads, predictor = model.roi_heads, model.roi_heads.box_predictor
    nn.init.zeros_(predictor.deltas.weight)
    with torch.no_grad():
        predictor.deltas.bias.copy_(torch.tensor([0.0] * 4 + [10.0, 0, 0, 0] + [0.0] * 4))
    features, proposals = {"0": torch.rand(1, 128, 8, 8)}, [torch.tensor([[8.0, 8.0, 16.0, 16.0]])]
    found = heads.refine(features, proposals, [(64, 64)])[0]
    expected = torch.tensor([[[8.0, 8, 16, 16], [16, 8, 24, 16], [8, 8, 16, 16]]])
    torch.testing.assert_close(found.boxes, expected)
    best = heads.select(found.boxes, torch.tensor([[0.0, 0.9, 0.8, 0.0]]))
    torch.testing.assert_close(best["boxes"], expected[0, 1:])
    target = {"boxes": torch.tensor([[8.0, 8.0, 16.0, 16.0]])}
    losses = [
        heads.losses(features, proposals, [(64, 64)], [target | {"multi_hot": torch.tensor([labels]).bool()}])
        for labels in ([1, 0, 0], [0, 1, 0], [1, 1, 0])
    ]
    first, second, both = (loss["loss_box_reg"].item() for loss in losses)
    assert first == 0 < second
    assert both == pytest.approx(second / 2)


def test_the_hierarchy_adds_ancestors() -> None:
    model = small_faster_rcnn(
        classes=3, rule=Softmax(), image_size=64, hierarchy=Hierarchy(3, [(0, 1), (1, 2)])
    )
    target = {"boxes": torch.zeros(2, 4), "labels": torch.tensor([0, 2])}
    found = model.roi_heads._with_labels(target)["multi_hot"]
    assert found.int().tolist() == [[1, 1, 1], [0, 0, 1]]
    with pytest.raises(InputError, match="hierarchy of 2 classes, expected 3"):
        small_faster_rcnn(classes=3, rule=Softmax(), hierarchy=Hierarchy(2, []))
    with pytest.raises(InputError, match="targets of 4 classes"):
        model.roi_heads._with_labels({"boxes": torch.zeros(1, 4), "multi_hot": torch.ones(1, 4).bool()})


def test_what_lies_in_an_ignored_box_is_no_background() -> None:
    torch.manual_seed(0)
    model = small_faster_rcnn(classes=3, rule=Softmax(), image_size=64, sampled_proposals=64)
    inside = torch.tensor([[2.0, 2.0, 10.0, 10.0], [20.0, 0.0, 36.0, 8.0]])
    outside = torch.tensor([[40.0, 40.0, 60.0, 60.0], [29.0, 0.0, 36.0, 8.0]])
    ordinary = torch.tensor([[3.0, 3.0, 9.0, 9.0]])
    target = {
        "boxes": ordinary,
        "labels": torch.tensor([1]),
        "ignored": torch.tensor([[0.0, 0.0, 30.0, 30.0]]),
    }
    boxes, chosen = model.roi_heads._sample_all([torch.cat([inside, outside])], [target])
    # the first lies in the ignored box, but stands for the ordinary one
    assert sorted(boxes[0].tolist()) == sorted(torch.cat([inside[:1], outside, ordinary]).tolist())
    assert chosen[0].foreground.sum() == 2
    anchors = torch.cat([inside, outside])
    labels, _ = model.rpn.assign_targets_to_anchors([anchors], [target | {"boxes": torch.zeros(0, 4)}])
    assert labels[0].tolist() == [-1, -1, 0, 0]


def test_each_stage_of_a_cascade_asks_for_more_and_starts_where_the_last_ended() -> None:
    torch.manual_seed(0)
    images, targets = scenes(2)
    model = small_cascade(rule=ConcurrentSoftmax(RATES))
    losses = model(images, targets)
    names = [f"{kind}_{n}" for n in (1, 2, 3) for kind in ("loss_classifier", "loss_box_reg")]
    assert sorted(losses) == sorted([*names, "loss_objectness", "loss_rpn_box_reg"])
    torch.stack(list(losses.values())).sum().backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None]
    assert unused == []
    heads = model.roi_heads
    assert [stage.iou for stage in heads.stages] == [0.5, 0.6, 0.7]
    with torch.no_grad():
        for stage in heads.stages:
            nn.init.zeros_(stage.predictor.deltas.weight)
            stage.predictor.deltas.bias.copy_(torch.tensor([stage.coder.weights[0], 0, 0, 0]))
        found = heads.refine(
            {"0": torch.rand(1, 128, 8, 8)}, [torch.tensor([[8.0, 8.0, 16.0, 16.0]])], [(64, 64)]
        )[0]
    # each stage moves the box by its own width: had one not been told of the one before, it would be less
    torch.testing.assert_close(found.boxes, torch.tensor([[32.0, 8.0, 40.0, 16.0]]))
    assert found.logits.shape == (3, 1, 4)
    mean = torch.stack([Softmax().scores(z) for z in found.logits]).mean(dim=0)
    torch.testing.assert_close(found.scores(Softmax().scores), mean)


def test_one_stage_of_a_cascade_is_faster_rcnn() -> None:
    """With the weight 1 for the first stage and 0 for the rest, the losses are those of a single stage."""
    cascade, single = (
        small_cascade(rule=Softmax()),
        small_faster_rcnn(classes=3, rule=Softmax(), image_size=64),
    )
    cascade.roi_heads.loss_weights = (1.0, 0.0, 0.0)
    heads, stage = single.roi_heads, cascade.roi_heads.stages[0]
    heads.box_head.load_state_dict(stage.head.state_dict())
    heads.box_predictor.load_state_dict(stage.predictor.state_dict())
    _, targets = scenes(2)
    features = {"0": torch.rand(2, 128, 8, 8)}
    proposals = [t["boxes"].repeat(9, 1) + torch.randn(18, 4).abs() for t in targets]
    for one in (single, cascade):
        one.roi_heads.fg_bg_sampler = SeededSampler(16, 0.25)
    shapes = [(64, 64)] * 2
    alone = single.roi_heads.losses(features, proposals, shapes, targets)
    found = cascade.roi_heads.losses(features, proposals, shapes, targets)
    assert found["loss_classifier_1"] == alone["loss_classifier"]
    assert found["loss_box_reg_1"] == alone["loss_box_reg"]
    assert found["loss_classifier_2"] == found["loss_box_reg_3"] == 0


def small_cascade(*, rule: Rule) -> Detector:
    """A cascade on the small backbone."""
    return small_faster_rcnn(classes=3, rule=rule, image_size=64, proposals=20, cascade=True)


def test_contradictory_settings() -> None:
    with pytest.raises(ConfigError, match="per_class_boxes must be false"):
        cascade_rcnn("resnet18", classes=2, rule=Softmax(), per_class_boxes=True)


def test_boxes_keep_their_precision_under_autocast() -> None:
    torch.manual_seed(0)
    images, _ = scenes(1)
    model = faster_rcnn(
        "resnet18", classes=3, rule=Softmax(), image_size=64, proposals=10, anchor_scale=4
    ).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = model.candidates(images)[0]
    assert found.boxes.dtype == found.logits.dtype == torch.float32
    rounded = found.boxes.bfloat16().float()
    assert (rounded != found.boxes).any()


def test_a_score_of_the_threshold_is_left_out_as_in_torchvision() -> None:
    heads = small_faster_rcnn(classes=1, rule=Softmax(), image_size=64, score_threshold=0.5).roi_heads
    boxes = torch.tensor([[0.0, 0, 8, 8], [20, 0, 28, 8]])
    assert heads.select(boxes, torch.tensor([[0.5, 0.5], [0.75, 0.25]]))["scores"].tolist() == [0.75]


def test_later_stages_of_a_cascade_keep_the_objects_within_an_ignored_box() -> None:
    """And leave out what else lies there by half or more."""
    heads = small_faster_rcnn(classes=3, rule=Softmax(), image_size=64, cascade=True).roi_heads
    target = {
        "boxes": torch.tensor([[3.0, 3.0, 9.0, 9.0]]),
        "labels": torch.tensor([1]),
        "ignored": torch.tensor([[0.0, 0.0, 30.0, 30.0]]),
    }
    boxes = torch.tensor([[3.0, 3.0, 9.0, 9.5], [20.0, 20.0, 28.0, 28.0], [40.0, 40.0, 60.0, 60.0]])
    (left,), (chosen,) = heads._assign_anew([boxes], [target], iou=0.7)
    assert left.tolist() == boxes[[0, 2]].tolist()
    assert chosen.foreground.tolist() == [True, False]


def test_scores_and_not_logits_are_averaged_over_stages() -> None:
    logits = torch.tensor([[[9.0, 0.0, 0.0]], [[0.0, 3.0, 0.0]]])
    found = Candidates(torch.zeros(1, 4), logits, (8, 8)).scores(Softmax().scores)
    torch.testing.assert_close(found, logits.softmax(dim=2).mean(dim=0))
