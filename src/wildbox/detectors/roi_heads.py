"""torchvision's second stage with the classification rule as a parameter.

torchvision keeps one label a proposal and hard-codes softmax in loss and post-processing; here labels are
multi-hot, loss and scores are the rule's, and boxes are regressed once for all classes, since the labels of one
object share its box.

Letters: P proposals, C foreground classes, K = C + 1 columns, the background last.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import batched_nms, clip_boxes_to_image

from wildbox.classification.rule import Rule
from wildbox.detectors.targets import Assignment, assign

Target = dict[str, Tensor]


class BoxPredictor(nn.Module):
    """Features (P, F) -> logits (P, K) and box deltas (P, 4)."""

    def __init__(self, features: int, *, classes: int) -> None:
        super().__init__()
        self.logits = nn.Linear(features, classes + 1)
        self.deltas = nn.Linear(features, 4)
        nn.init.normal_(self.logits.weight, std=0.01)
        nn.init.normal_(self.deltas.weight, std=0.001)
        nn.init.zeros_(self.logits.bias)
        nn.init.zeros_(self.deltas.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        flat = features.flatten(start_dim=1)
        return self.logits(flat), self.deltas(flat)


class RuleRoIHeads(RoIHeads):  # type: ignore[misc]
    """RoIHeads whose loss and scores are those of `rule`.

    Args:
        rule: loss and scores on logits (P, K).
        others: keyword arguments of torchvision's RoIHeads.
    Training targets are dicts with `boxes` (n, 4) and `multi_hot` (n, C).
    """

    def __init__(self, *, rule: Rule, **others: object) -> None:
        super().__init__(**others)
        self.rule = rule
        self.foreground_iou = float(others["fg_iou_thresh"])  # type: ignore[arg-type]

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target] | None = None,
    ) -> tuple[list[Target], dict[str, Tensor]]:
        """As torchvision's: detections in eval mode, losses in training mode."""
        if self.training:
            if targets is None:
                raise ValueError("targets are needed in training mode")
            return [], self.losses(features, proposals, image_shapes, targets)
        found = []
        for boxes, logits in self.refine(features, proposals, image_shapes):
            found.append(self.select(boxes, self.rule.scores(logits)))
        return found, {}

    def refine(
        self, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> list[tuple[Tensor, Tensor]]:
        """For each image the refined boxes (P, 4) of its proposals and their logits (P, K)."""
        logits, deltas = self._predict(features, proposals, image_shapes)
        counts = [len(p) for p in proposals]
        boxes = torch.split(self.box_coder.decode(deltas, proposals).reshape(-1, 4), counts)
        return [
            (clip_boxes_to_image(image_boxes, shape), image_logits)
            for image_boxes, image_logits, shape in zip(
                boxes, torch.split(logits, counts), image_shapes, strict=True
            )
        ]

    def select(self, boxes: Tensor, scores: Tensor) -> Target:
        """The detections of one image: threshold, per-class NMS, the best `detections_per_img`.

        Args:
            boxes: (P, 4).
            scores: (P, K); the last column is not looked at.
        Returns:
            boxes (D, 4), labels (D,) in 0..C-1, scores (D,), best first.
        """
        row, label = torch.nonzero(scores[:, :-1] > self.score_thresh, as_tuple=True)
        box, score = boxes[row], scores[row, label]
        large = ((box[:, 2:] - box[:, :2]) >= 1e-2).all(dim=1)
        box, score, label = box[large], score[large], label[large]
        keep = batched_nms(box, score, label, self.nms_thresh)[: self.detections_per_img]
        return {"boxes": box[keep], "labels": label[keep], "scores": score[keep]}

    def losses(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[Target],
    ) -> dict[str, Tensor]:
        """Classification and box loss over a sample of the proposals and the truth boxes themselves."""
        sampled, chosen = [], []
        with torch.no_grad():
            for image_proposals, target in zip(proposals, targets, strict=True):
                candidates = torch.cat([image_proposals, target["boxes"].to(image_proposals.dtype)])
                boxes, assignment = self._sample(candidates, target)
                sampled.append(boxes)
                chosen.append(assignment)
            foreground = torch.cat([a.foreground for a in chosen])
            goal = torch.cat(self.box_coder.encode([a.boxes for a in chosen], sampled))
        logits, deltas = self._predict(features, sampled, image_shapes)
        box_loss = F.smooth_l1_loss(deltas[foreground], goal[foreground], beta=1 / 9, reduction="sum")
        return {
            "loss_classifier": self.rule.loss(logits, torch.cat([a.labels for a in chosen])),
            "loss_box_reg": box_loss / max(len(foreground), 1),
        }

    def _sample(self, candidates: Tensor, target: Target) -> tuple[Tensor, Assignment]:
        assignment = assign(candidates, target, iou=self.foreground_iou)
        positive, negative = self.fg_bg_sampler([assignment.foreground.to(torch.int64)])
        keep = torch.nonzero(positive[0] | negative[0]).flatten()
        return candidates[keep], Assignment(
            assignment.labels[keep], assignment.boxes[keep], assignment.foreground[keep]
        )

    def _predict(
        self, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        pooled = self.box_roi_pool(features, proposals, image_shapes)
        logits, deltas = self.box_predictor(self.box_head(pooled))
        return logits, deltas


Scoring = Callable[[Tensor], Tensor]
"""Logits (P, K) -> scores (P, K) in [0, 1]."""
