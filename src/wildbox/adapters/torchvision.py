"""torchvision's Faster R-CNN, as it is, with a rule in place of softmax.

Letters: P proposals, n truth boxes of one image, C foreground classes, K = C + 1 columns. torchvision has the
background first, rules have it last: columns are rolled on the way in and out.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import batched_nms, clip_boxes_to_image

from wildbox.adapters.targets import check_columns, check_labels, columns_of, object_labels
from wildbox.classification.rule import Rule
from wildbox.detectors.roi_heads import RuleRoIHeads
from wildbox.errors import ConfigError

Target = dict[str, Tensor]


def use_rule(model: FasterRCNN, rule: Rule, *, same_object_iou: float | None = 0.9) -> FasterRCNN:
    """Train and score an existing model by `rule`; its weights stay where they are.

    Works for any model of torchvision's Faster R-CNN, Mask R-CNN and Keypoint R-CNN, pretrained or not (and for the
    detectors of this package, where it sets the rule and no more). Images, targets and detections stay as torchvision
    has them: labels 1..C, the background is 0. With `Softmax()` and one box an object, losses and detections are
    torchvision's own.

    The labels of an object are taught together: `multi_hot` (n, C) of the target where it has one, else the labels of
    all boxes that mark it. Each of them also learns its box. A rule with parameters or buffers (concurrent softmax:
    the rates) joins the state dict, so load a checkpoint that was saved without it before.

    Args:
        model: changed in place.
        rule: of K columns, the background last.
        same_object_iou: two boxes mark one object above this (strict); None: each is an object of its own.

    Returns:
        the model.

    Raises:
        ConfigError: another kind of model, or a rule of another number of columns.

    >>> from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_fpn
    >>> from wildbox.classification import Sigmoid
    >>> model = fasterrcnn_mobilenet_v3_large_fpn(weights=None, weights_backbone=None, num_classes=4)
    >>> use_rule(model, Sigmoid()).roi_heads.rule
    Sigmoid()
    """
    heads: Any = getattr(model, "roi_heads", None)
    own = isinstance(heads, RuleRoIHeads)
    if not (own or isinstance(heads, RuleHeads) or type(heads) is RoIHeads):
        raise ConfigError(f"{type(model).__name__} has no RoIHeads of torchvision; expected a FasterRCNN")
    check_columns(rule, model, heads.classes + 1 if own else columns_of(heads.box_predictor))
    if own:
        heads.rule = rule
    else:
        model.roi_heads = RuleHeads(heads, rule, same_object_iou=same_object_iou).train(heads.training)
    return model


class RuleHeads(RoIHeads):  # type: ignore[misc]
    """torchvision's RoIHeads with the loss and the scores of a rule.

    Args:
        heads: whose parts and settings these are.
        rule, same_object_iou: as in `use_rule`.
    """

    def __init__(self, heads: RoIHeads, rule: Rule, *, same_object_iou: float | None) -> None:
        super().__init__(
            heads.box_roi_pool,
            heads.box_head,
            heads.box_predictor,
            heads.proposal_matcher.high_threshold,
            heads.proposal_matcher.low_threshold,
            heads.fg_bg_sampler.batch_size_per_image,
            heads.fg_bg_sampler.positive_fraction,
            heads.box_coder.weights,
            heads.score_thresh,
            heads.nms_thresh,
            heads.detections_per_img,
            heads.mask_roi_pool,
            heads.mask_head,
            heads.mask_predictor,
            heads.keypoint_roi_pool,
            heads.keypoint_head,
            heads.keypoint_predictor,
        )
        self.rule = rule
        self.same_object_iou = same_object_iou
        self._sampled: tuple[list[Tensor], list[Tensor], list[Tensor]] | None = None

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target] | None = None,
    ) -> tuple[list[Target], dict[str, Tensor]]:
        """As torchvision's: detections in eval mode, losses in training mode."""
        predicted: list[tuple[Tensor, Tensor]] = []
        # what torchvision predicts is caught on its way to torchvision's own two losses, which the rule's replace
        hook = self.box_predictor.register_forward_hook(lambda *called: predicted.append(called[2]))
        try:
            found, losses = super().forward(features, proposals, image_shapes, targets)
        finally:
            hook.remove()
        if self.training and targets is not None:
            losses |= self._box_losses(*predicted[0], targets)
        return found, losses

    def select_training_samples(
        self, proposals: list[Tensor], targets: list[Target] | None
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        """As torchvision's, remembered for the losses."""
        columns = columns_of(self.box_predictor)
        for target in targets or ():
            if columns is not None:  # before torchvision's indexing meets it, on a GPU without a word
                check_labels(target["labels"], first=1, last=columns - 1)
        proposals, matched, labels, goals = super().select_training_samples(proposals, targets)
        self._sampled = matched, labels, goals
        return proposals, matched, labels, goals

    def _box_losses(self, logits: Tensor, deltas: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        assert self._sampled is not None
        (matched, labels, goals), self._sampled = self._sampled, None
        members = torch.cat(
            [
                self._members(target, index, label, columns=logits.shape[1])
                for target, index, label in zip(targets, matched, labels, strict=True)
            ]
        )
        goal = torch.cat(goals)
        row, label = members[:, :-1].nonzero(as_tuple=True)
        boxes = deltas.reshape(len(logits), -1, 4)[row, label + 1]
        errors = F.smooth_l1_loss(boxes, goal[row], beta=1 / 9, reduction="none").sum(dim=1)
        return {
            "loss_classifier": self.rule.loss(logits.roll(-1, dims=1), members),
            # the mean over the labels of a proposal, so that it weighs as much as with one
            "loss_box_reg": (errors / members.sum(dim=1)[row]).sum() / max(len(logits), 1),
        }

    def _members(self, target: Target, matched: Tensor, label: Tensor, *, columns: int) -> Tensor:
        """(P, K) labels of the sampled proposals of one image; label 0 is background."""
        members = torch.zeros(len(label), columns, dtype=torch.bool, device=label.device)
        foreground = label > 0
        members[~foreground, -1] = True
        own = object_labels(
            target, target["boxes"], target["labels"] - 1, classes=columns - 1, iou=self.same_object_iou
        )
        members[foreground, :-1] = own[matched[foreground]]
        return members

    def postprocess_detections(
        self,
        class_logits: Tensor,
        box_regression: Tensor,
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Boxes (D, 4), scores (D,), labels (D,) in 1..C of each image, best first, by the scores of the rule."""
        counts = [len(image) for image in proposals]
        decoded = self.box_coder.decode(box_regression, proposals).split(counts)
        scored = self.rule.scores(class_logits.roll(-1, dims=1))[:, :-1].split(counts)
        boxes, scores, labels = [], [], []
        for image_boxes, image_scores, shape in zip(decoded, scored, image_shapes, strict=True):
            row, label = (image_scores > self.score_thresh).nonzero(as_tuple=True)
            box = clip_boxes_to_image(image_boxes[row, label + 1], shape)
            large = ((box[:, 2:] - box[:, :2]) >= 1e-2).all(dim=1)
            box, label, score = box[large], label[large], image_scores[row, label][large]
            keep = batched_nms(box, score, label, self.nms_thresh)[: self.detections_per_img]
            boxes.append(box[keep])
            scores.append(score[keep])
            labels.append(label[keep] + 1)
        return boxes, scores, labels
