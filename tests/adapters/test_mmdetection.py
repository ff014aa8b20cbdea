"""MMDetection's adapter: on a stand-in of its box head, and on the real one where mmdet is installed."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from adapters.stand_ins import BBoxHead
from torch import Tensor

from wildbox.adapters.mmdetection import RuleLoss
from wildbox.classification import ConcurrentSoftmax, Federated, Sigmoid, Softmax
from wildbox.errors import ConfigError, InputError

C = 4
LOGITS = torch.randn(10, C + 1, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 4, 4, 4, 4, 4, 4])
WEIGHTS = torch.tensor([2.0, 2, 2, 2, 1, 1, 1, 1, 1, 0])


def weighted_cross_entropy(logits: Tensor) -> Tensor:
    return (F.cross_entropy(logits, LABELS, reduction="none") * WEIGHTS).sum() / 9


def test_softmax_is_weighted_cross_entropy() -> None:
    found = RuleLoss(Softmax(), loss_weight=0.5)(LOGITS, LABELS, WEIGHTS, avg_factor=9)
    torch.testing.assert_close(found, 0.5 * weighted_cross_entropy(LOGITS))
    torch.testing.assert_close(RuleLoss(Softmax())(LOGITS, LABELS), F.cross_entropy(LOGITS, LABELS))


def test_half_precision_does_not_overflow() -> None:
    z = torch.full((1024, 81), -3.0, dtype=torch.float16)  # their sum is beyond float16
    found = RuleLoss(Softmax())(z, torch.zeros(1024, dtype=torch.int64))
    torch.testing.assert_close(found, torch.tensor(math.log(81)))


def test_a_rule_sees_all_proposals_at_once() -> None:
    """Federated draws no other classes for those of another weight."""
    z = LOGITS.clone().requires_grad_()
    labels = torch.where(LABELS == C, C, 0)
    RuleLoss(Federated([0.5] * C, number=1))(z, labels, WEIGHTS).backward()
    assert z.grad is not None
    assert z.grad.any(dim=0).tolist() == [True, False, False, False, False]


def test_implied_classes_are_labels_too() -> None:
    implied = torch.zeros(C, C, dtype=torch.bool)
    implied[0, 3] = implied[1, 3] = True
    members = F.one_hot(LABELS, C + 1)
    members[:2, 3] = 1
    rates = torch.zeros(C + 1, C + 1)
    rates[3, 0] = 0.4
    for rule in (Sigmoid(), ConcurrentSoftmax(rates)):
        loss = RuleLoss(rule, implied=implied)
        torch.testing.assert_close(loss(LOGITS, LABELS), rule.loss(LOGITS, members))
        torch.testing.assert_close(loss(LOGITS, members), rule.loss(LOGITS, members))
    best = torch.full((10, C + 1), -1.0)
    best[:, 3] = 1
    assert loss.get_accuracy(best, LABELS)["acc"] == 30  # of the classes 0, 1 and 3
    assert not [name for name in loss.state_dict() if "implied" in name]


def test_a_head_asks_it() -> None:
    rates = torch.zeros(C + 1, C + 1)
    head = BBoxHead(6, C, RuleLoss(ConcurrentSoftmax(rates)))
    assert head.fc_cls.out_features == C + 1
    z = head.fc_cls(torch.randn(10, 6))
    losses = head.loss(z, LABELS, WEIGHTS)
    assert set(losses) == {"loss_cls", "acc"}
    torch.testing.assert_close(losses["loss_cls"], weighted_cross_entropy(z))
    losses["loss_cls"].backward()
    assert head.fc_cls.weight.grad is not None
    torch.testing.assert_close(head.predict(z), z.softmax(-1))


def test_no_proposals() -> None:
    z = torch.zeros(0, C + 1, requires_grad=True)
    loss = RuleLoss(Softmax())(z, torch.zeros(0, dtype=torch.int64), torch.zeros(0), avg_factor=1)
    loss.backward()
    assert loss.item() == 0


def test_refuses() -> None:
    with pytest.raises(ConfigError, match="loss_weight is -1"):
        RuleLoss(Softmax(), loss_weight=-1)
    with pytest.raises(ConfigError, match="reduction_override is 'sum'"):
        RuleLoss(Softmax())(LOGITS, LABELS, reduction_override="sum")
    with pytest.raises(InputError, match=r"has 5, expected 0\.\.4"):
        RuleLoss(Softmax())(LOGITS, LABELS + 1)
    with pytest.raises(InputError, match=r"expected \(P,\) or \(10, 5\), got \(10, 4\)"):
        RuleLoss(Softmax())(LOGITS, torch.ones(10, 4))
    for weight in (-0.5, math.nan):
        with pytest.raises(InputError, match=f"label_weights: one is {weight}, expected at least 0"):
            RuleLoss(Softmax())(LOGITS, LABELS, torch.full((10,), weight))


def test_the_real_head_trains_and_scores_as_before_with_softmax() -> None:
    heads: Any = pytest.importorskip(
        "mmdet.models.roi_heads.bbox_heads",
        reason="mmdet is not installed: its adapter is tried on a stand-in alone",
        exc_type=ImportError,
    )
    torch.manual_seed(0)
    head = heads.Shared2FCBBoxHead(in_channels=8, fc_out_channels=16, roi_feat_size=3, num_classes=C)
    corner = torch.rand(10, 2) * 10
    rois = torch.cat([torch.zeros(10, 1), corner, corner + 5 + torch.rand(10, 2)], dim=1)
    z, deltas = head(torch.randn(10, 8, 3, 3))
    config = {"score_thr": 0.1, "nms": {"type": "nms", "iou_threshold": 0.5}, "max_per_img": 20}
    config = pytest.importorskip("mmengine.config").ConfigDict(config)
    image = [{"img_shape": (64, 64), "scale_factor": (1, 1)}]
    both = []
    for _ in range(2):
        losses = head.loss(z, deltas, rois, LABELS, WEIGHTS, torch.ones(10, 4), torch.ones(10, 4))
        both.append((losses, head.predict_by_feat((rois,), (z,), (deltas,), image, config)[0]))
        head.loss_cls = RuleLoss(Softmax())
    for name in ("loss_cls", "loss_bbox"):
        torch.testing.assert_close(both[1][0][name], both[0][0][name])
    torch.testing.assert_close(both[1][1].scores, both[0][1].scores)
