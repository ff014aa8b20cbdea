"""torchvision's Faster R-CNN, as it is, with a rule in place of softmax.

Letters: P proposals, n truth boxes of one image, C foreground classes, K = C + 1 columns. torchvision has the
background first, rules have it last: columns are rolled on the way in and out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.roi_heads import RoIHeads, project_masks_on_boxes
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
    all boxes that mark it. Each of them also learns its box, and its mask where there are masks. A rule with parameters
    or buffers (concurrent softmax: the rates) joins the state dict, so load a checkpoint that was saved without it
    before.

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


class _Sampled(NamedTuple):
    """What torchvision chose to train on, of each image."""

    proposals: list[Tensor]
    matched: list[Tensor]
    labels: list[Tensor]
    goals: list[Tensor]


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
        self._sampled: _Sampled | None = None

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target] | None = None,
    ) -> tuple[list[Target], dict[str, Tensor]]:
        """As torchvision's: detections in eval mode, losses in training mode."""
        predicted: dict[nn.Module, Any] = {}
        # what torchvision predicts is caught on its way to torchvision's own losses, which ours replace
        hooks = [
            part.register_forward_hook(lambda part, _, made: predicted.update({part: made}))
            for part in (self.box_predictor, self.mask_predictor)
            if part is not None
        ]
        small = targets
        if self.training and targets is not None and self.has_mask():  # for a loss that is thrown away
            small = [target | {"masks": target["masks"][:, :1, :1]} for target in targets]
        try:
            found, losses = super().forward(features, proposals, image_shapes, small)
        finally:
            for hook in hooks:
                hook.remove()
        if self.training and targets is not None:
            assert self._sampled is not None
            sampled, self._sampled = self._sampled, None
            logits, deltas = predicted[self.box_predictor]
            members = self._members(sampled, targets, columns=logits.shape[1])
            losses |= self._box_losses(logits, deltas, members, sampled.goals)
            if "loss_mask" in losses:
                losses["loss_mask"] = _mask_loss(predicted[self.mask_predictor], members, sampled, targets)
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
        self._sampled = _Sampled(proposals, matched, labels, goals)
        return proposals, matched, labels, goals

    def _box_losses(
        self, logits: Tensor, deltas: Tensor, members: Tensor, goals: list[Tensor]
    ) -> dict[str, Tensor]:
        row, label = members[:, :-1].nonzero(as_tuple=True)
        boxes = deltas.reshape(len(logits), -1, 4)[row, label + 1]
        errors = F.smooth_l1_loss(boxes, torch.cat(goals)[row], beta=1 / 9, reduction="none").sum(dim=1)
        return {
            "loss_classifier": self.rule.loss(logits.roll(-1, dims=1), members),
            # the mean over the labels of a proposal, so that it weighs as much as with one
            "loss_box_reg": (errors / members.sum(dim=1)[row]).sum() / max(len(logits), 1),
        }

    def _members(self, sampled: _Sampled, targets: list[Target], *, columns: int) -> Tensor:
        """(P, K) labels of the sampled proposals of all images; label 0 is background."""
        each = []
        for target, matched, label in zip(targets, sampled.matched, sampled.labels, strict=True):
            members = torch.zeros(len(label), columns, dtype=torch.bool, device=label.device)
            foreground = label > 0
            members[~foreground, -1] = True
            own = object_labels(
                target, target["boxes"], target["labels"] - 1, classes=columns - 1, iou=self.same_object_iou
            )
            members[foreground, :-1] = own[matched[foreground]]
            each.append(members)
        return torch.cat(each)

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


def _mask_loss(logits: Tensor, members: Tensor, sampled: _Sampled, targets: list[Target]) -> Tensor:
    """torchvision's, of each label of an object; the mean over them, so that an object weighs as much as with one."""
    foreground = [label > 0 for label in sampled.labels]
    goals = torch.cat(
        [
            project_masks_on_boxes(target["masks"], boxes[row], matched[row], logits.shape[-1])
            for target, boxes, matched, row in zip(
                targets, sampled.proposals, sampled.matched, foreground, strict=True
            )
        ]
    )
    own = members[torch.cat(foreground), :-1]
    row, label = own.nonzero(as_tuple=True)
    errors = F.binary_cross_entropy_with_logits(logits[row, label + 1], goals[row], reduction="none")
    return (errors.mean(dim=(1, 2)) / own.sum(dim=1)[row]).sum() / max(len(own), 1)
