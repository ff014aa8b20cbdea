"""torchvision's second stage with the classification rule as a parameter.

torchvision keeps one label a proposal and hard-codes softmax in loss and post-processing; here labels are
multi-hot and loss and scores are the rule's. Boxes are regressed once for all classes, since the labels of one
object share its box, or once a class.

Letters: P proposals, n truth boxes of one image, C foreground classes, K = C + 1 columns, the background last,
S stages, D detections.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import clip_boxes_to_image

from wildbox.classification.rule import Rule
from wildbox.detectors.suppression import HardNMS, Suppression
from wildbox.detectors.targets import Assignment, absorbed, assign
from wildbox.errors import InputError
from wildbox.vocabulary import Hierarchy, check_size

Target = dict[str, Tensor]
Features = dict[str, Tensor]
Shape = tuple[int, int]
"""Height and width."""
Scoring = Callable[[Tensor], Tensor]
"""Logits (P, K) -> scores (P, K) in [0, 1]."""


@dataclass(frozen=True)
class Candidates:
    """What the second stage makes of the proposals of one image, before any score."""

    boxes: Tensor
    """(P, 4) refined, or (P, C, 4) where each class has its own."""
    logits: Tensor
    """(S, P, K), one row of each stage."""
    frame: Shape
    """Height and width of the network's input, in whose pixels the boxes are."""

    def scores(self, scoring: Scoring) -> Tensor:
        """(P, K), the mean over stages."""
        if len(self.logits) == 1:
            return scoring(self.logits[0])
        return torch.stack([scoring(logits) for logits in self.logits]).mean(dim=0)


def full_precision(x: Tensor) -> Tensor:
    """At least float32: in bfloat16 a coordinate would be rounded to 4 pixels."""
    return x if x.dtype == torch.float64 else x.float()


class BoxPredictor(nn.Module):
    """Features (P, F) -> logits (P, K) and box deltas (P, 4), or (P, 4 C) where each class has its own.

    Both are float32 under autocast too.
    """

    def __init__(self, features: int, *, classes: int, per_class: bool = False) -> None:
        super().__init__()
        self.logits = nn.Linear(features, classes + 1)
        self.deltas = nn.Linear(features, 4 * classes if per_class else 4)
        nn.init.normal_(self.logits.weight, std=0.01)
        nn.init.normal_(self.deltas.weight, std=0.001)
        nn.init.zeros_(self.logits.bias)
        nn.init.zeros_(self.deltas.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        flat = features.flatten(start_dim=1)
        return full_precision(self.logits(flat)), full_precision(self.deltas(flat))


class RuleRoIHeads(RoIHeads):  # type: ignore[misc]
    """RoIHeads whose loss and scores are those of `rule`.

    Training targets are dicts with `boxes` (n, 4) and `multi_hot` (n, C) bool, or instead of the latter `labels`
    (n,) int64; and where there are any, `ignored` (m, 4): proposals that lie in them by half or more are no
    background.

    Args:
        rule: loss and scores on logits (P, K).
        classes: C.
        hierarchy: where given, the labels of a target imply their ancestors.
        suppression: which of the final detections stay.
        others: keyword arguments of torchvision's RoIHeads; its `nms_thresh` is not looked at.
    """

    implied: Tensor | None

    def __init__(
        self,
        *,
        rule: Rule,
        classes: int,
        hierarchy: Hierarchy | None = None,
        suppression: Suppression | None = None,
        **others: object,
    ) -> None:
        super().__init__(nms_thresh=0.5, **others)
        self.rule, self.classes = rule, classes
        self.suppression = HardNMS() if suppression is None else suppression
        self.foreground_iou = float(others["fg_iou_thresh"])  # type: ignore[arg-type]
        self.register_buffer("implied", _implied(hierarchy, classes), persistent=False)

    def forward(
        self,
        features: Features,
        proposals: list[Tensor],
        image_shapes: list[Shape],
        targets: list[Target] | None = None,
    ) -> tuple[list[Target], dict[str, Tensor]]:
        """As torchvision's: detections in eval mode, losses in training mode."""
        if self.training:
            if targets is None:
                raise ValueError("targets are needed in training mode")
            return [], self.losses(features, proposals, image_shapes, targets)
        refined = self.refine(features, proposals, image_shapes)
        return [self.select(found.boxes, found.scores(self.rule.scores)) for found in refined], {}

    def refine(
        self, features: Features, proposals: list[Tensor], image_shapes: list[Shape]
    ) -> list[Candidates]:
        """For each image the refined boxes of its P proposals and their logits."""
        logits, deltas = self._predict(features, proposals, image_shapes)
        boxes = self._decode(deltas, proposals, image_shapes, self.box_coder)
        per_image = torch.split(logits, [len(p) for p in proposals])
        return [
            Candidates(image_boxes, image_logits[None], shape)
            for image_boxes, image_logits, shape in zip(boxes, per_image, image_shapes, strict=True)
        ]

    def select(self, boxes: Tensor, scores: Tensor) -> Target:
        """The detections of one image: threshold, suppression, the best `detections_per_img`.

        Args:
            boxes: (P, 4) or (P, C, 4).
            scores: (P, K); the last column is not looked at.
        Returns:
            boxes (D, 4), labels (D,) in 0..C-1, scores (D,), best first.
        """
        row, label = torch.nonzero(scores[:, :-1] > self.score_thresh, as_tuple=True)
        box = boxes[row] if boxes.ndim == 2 else boxes[row, label]
        score = scores[row, label]
        large = ((box[:, 2:] - box[:, :2]) >= 1e-2).all(dim=1)
        box, score, label = box[large], score[large], label[large]
        keep, score = self.suppression(box, score, label)
        keep, score = keep[: self.detections_per_img], score[: self.detections_per_img]
        return {"boxes": box[keep], "labels": label[keep], "scores": score}

    def losses(
        self,
        features: Features,
        proposals: list[Tensor],
        image_shapes: list[Shape],
        targets: list[Target],
    ) -> dict[str, Tensor]:
        """Classification and box loss over a sample of the proposals and the truth boxes themselves.

        As torchvision's, the box loss is a sum over the foreground divided by the size of the whole sample.
        """
        sampled, chosen = self._sample_all(proposals, targets)
        logits, deltas = self._predict(features, sampled, image_shapes)
        return self._losses(logits, deltas, sampled, chosen, self.box_coder)

    def _sample_all(
        self, proposals: list[Tensor], targets: list[Target]
    ) -> tuple[list[Tensor], list[Assignment]]:
        sampled, chosen = [], []
        with torch.no_grad():
            for image_proposals, target in zip(proposals, targets, strict=True):
                candidates = torch.cat([image_proposals, target["boxes"].to(image_proposals.dtype)])
                boxes, assignment = self._sample(candidates, target)
                sampled.append(boxes)
                chosen.append(assignment)
        return sampled, chosen

    def _sample(self, candidates: Tensor, target: Target) -> tuple[Tensor, Assignment]:
        assignment = assign(candidates, self._with_labels(target), iou=self.foreground_iou)
        role = assignment.foreground.to(torch.int64)
        if "ignored" in target:
            role[~assignment.foreground & absorbed(candidates, target["ignored"])] = -1
        positive, negative = self.fg_bg_sampler([role])
        keep = torch.nonzero(positive[0] | negative[0]).flatten()
        return candidates[keep], assignment.keep(keep)

    def _with_labels(self, target: Target) -> Target:
        """The target with `multi_hot` of all labels that the hierarchy implies."""
        multi_hot = target.get("multi_hot")
        if multi_hot is None:
            multi_hot = F.one_hot(target["labels"], self.classes).bool()
        if multi_hot.shape[1] != self.classes:
            raise InputError(f"targets of {multi_hot.shape[1]} classes, the detector has {self.classes}")
        if self.implied is not None:
            multi_hot = (multi_hot.float() @ self.implied) > 0
        return {"boxes": target["boxes"], "multi_hot": multi_hot}

    def _losses(
        self,
        logits: Tensor,
        deltas: Tensor,
        sampled: list[Tensor],
        chosen: list[Assignment],
        coder: object,
    ) -> dict[str, Tensor]:
        foreground = torch.cat([a.foreground for a in chosen])
        labels = torch.cat([a.labels for a in chosen])
        with torch.no_grad():
            goal = torch.cat(coder.encode([a.boxes for a in chosen], sampled))  # type: ignore[attr-defined]
            rows = foreground.nonzero()[:, 0]  # once: on a GPU each search for true values waits for it
        if deltas.shape[1] == 4:
            box_loss = F.smooth_l1_loss(deltas[rows], goal[rows], beta=1 / 9, reduction="sum")
        else:
            box_loss = _loss_of_each_class(deltas[rows], goal[rows], labels[rows, :-1])
        return {
            "loss_classifier": self.rule.loss(logits, labels),
            "loss_box_reg": box_loss / max(len(foreground), 1),
        }

    def _predict(
        self, features: Features, proposals: list[Tensor], image_shapes: list[Shape]
    ) -> tuple[Tensor, Tensor]:
        pooled = self.box_roi_pool(features, proposals, image_shapes)
        logits, deltas = self.box_predictor(self.box_head(pooled))
        return logits, deltas

    def _decode(
        self, deltas: Tensor, proposals: list[Tensor], image_shapes: list[Shape], coder: object
    ) -> list[Tensor]:
        """Deltas as clipped boxes of each image, (P, 4) or (P, C, 4)."""
        boxes = coder.decode(deltas, proposals)  # type: ignore[attr-defined]
        boxes = boxes.reshape(-1, 4) if deltas.shape[1] == 4 else boxes.reshape(-1, self.classes, 4)
        per_image = torch.split(boxes, [len(p) for p in proposals])
        return [clip_boxes_to_image(b, shape) for b, shape in zip(per_image, image_shapes, strict=True)]


def single_head(head: nn.Module, predictor: BoxPredictor, **shared: object) -> RuleRoIHeads:
    """The second stage of Faster R-CNN: foreground from IoU 0.5."""
    stage = {"box_head": head, "box_predictor": predictor, "bbox_reg_weights": None}
    return RuleRoIHeads(**stage, fg_iou_thresh=0.5, bg_iou_thresh=0.5, **shared)  # type: ignore[arg-type]


def _loss_of_each_class(deltas: Tensor, goal: Tensor, labels: Tensor) -> Tensor:
    """Box loss where each class has its own deltas (P, 4 C): the mean over the labels (P, C) of a proposal."""
    row, label = labels.nonzero(as_tuple=True)
    own = deltas.unflatten(1, (-1, 4))[row, label]
    losses = F.smooth_l1_loss(own, goal[row], beta=1 / 9, reduction="none")
    return (losses / labels.sum(dim=1)[row, None]).sum()


def _implied(hierarchy: Hierarchy | None, classes: int) -> Tensor | None:
    """(C, C) 1 where class i is j or has j among its ancestors."""
    if hierarchy is None:
        return None
    check_size(hierarchy, classes)
    return torch.from_numpy(hierarchy.is_ancestor | np.eye(classes, dtype=bool)).float()
