"""Cascade R-CNN: three second stages in a row, each asking for a better box, with a classification rule in each.

Source: Cai and Vasconcelos, "Cascade R-CNN: Delving into High Quality Object Detection", CVPR 2018. As detectron2
does, later stages take all refined boxes of the one before without sampling anew, and scores (not logits) are
averaged over the stages; the weights of the stages' losses are mmdetection's.

Letters: P proposals, C foreground classes, K = C + 1 columns, S stages.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder

from wildbox.detectors.roi_heads import BoxPredictor, Candidates, Features, RuleRoIHeads, Shape, Target
from wildbox.detectors.targets import Assignment, absorbed, assign
from wildbox.errors import ConfigError

STAGE_IOU = (0.5, 0.6, 0.7)
"""IoU from which a proposal is foreground, by stage; the paper's."""
BOX_WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))
"""Inverse deviations of the deltas x, y, w, h, by stage; the paper's, as detectron2 has them."""
LOSS_WEIGHTS = (1.0, 0.5, 0.25)
"""Of the stages' losses."""


class CascadeStage(nn.Module):
    """One stage: pooled features (P, F, h, w) -> logits (P, K) and deltas (P, 4).

    Args:
        iou: from which a proposal is foreground.
        box_weights: of the stage's box coder.
    """

    def __init__(
        self, head: nn.Module, predictor: BoxPredictor, *, iou: float, box_weights: Sequence[float]
    ) -> None:
        super().__init__()
        self.head, self.predictor, self.iou = head, predictor, iou
        self.coder = BoxCoder(tuple(box_weights))

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        logits, deltas = self.predictor(self.head(pooled))
        return logits, deltas


def cascade_heads(parts: Sequence[tuple[nn.Module, BoxPredictor]], **shared: object) -> CascadeRoIHeads:
    """The second stages of Cascade R-CNN, of (head, predictor) of each of the three."""
    settings = zip(parts, STAGE_IOU, BOX_WEIGHTS, strict=True)
    stages = [CascadeStage(*part, iou=iou, box_weights=weights) for part, iou, weights in settings]
    return CascadeRoIHeads(stages, **shared)  # type: ignore[arg-type]


class CascadeRoIHeads(RuleRoIHeads):
    """`RuleRoIHeads` of several stages; losses are named `loss_classifier_1`, `loss_box_reg_1`, ...

    Args:
        stages: in order; boxes are those of all classes.
        loss_weights: one a stage.
        others: as in `RuleRoIHeads`, without what a stage has for itself.
    """

    def __init__(
        self,
        stages: Sequence[CascadeStage],
        *,
        loss_weights: Sequence[float] = LOSS_WEIGHTS,
        **others: object,
    ) -> None:
        if len(loss_weights) != len(stages) or not stages:
            raise ConfigError(f"{len(loss_weights)} loss weights for {len(stages)} stages")
        first = stages[0].iou
        super().__init__(
            box_head=None,
            box_predictor=None,
            bbox_reg_weights=None,
            fg_iou_thresh=first,
            bg_iou_thresh=first,
            **others,  # type: ignore[arg-type]
        )
        self.stages = nn.ModuleList(stages)
        self.stage_iou = tuple(stage.iou for stage in stages)
        self.loss_weights = tuple(loss_weights)

    def refine(
        self, features: Features, proposals: list[Tensor], image_shapes: list[Shape]
    ) -> list[Candidates]:
        """For each image the boxes of the last stage and the logits of each."""
        boxes, counts, logits = proposals, [len(p) for p in proposals], []
        for stage in self.stages:
            stage_logits, deltas = stage(self.box_roi_pool(features, boxes, image_shapes))
            boxes = self._decode(deltas, boxes, image_shapes, stage.coder)
            logits.append(stage_logits)
        per_image = torch.split(torch.stack(logits), counts, dim=1)
        return [Candidates(*found) for found in zip(boxes, per_image, image_shapes, strict=True)]

    def losses(
        self,
        features: Features,
        proposals: list[Tensor],
        image_shapes: list[Shape],
        targets: list[Target],
    ) -> dict[str, Tensor]:
        """Weighted classification and box loss of each stage."""
        boxes, chosen = self._sample_all(proposals, targets)
        losses: dict[str, Tensor] = {}
        settings = zip(self.stages, self.stage_iou, self.loss_weights, strict=True)
        for number, (stage, iou, weight) in enumerate(settings, start=1):
            if number > 1:
                boxes, chosen = self._assign_anew(boxes, targets, iou=iou)
            logits, deltas = stage(self.box_roi_pool(features, boxes, image_shapes))
            of_stage = self._losses(logits, deltas, boxes, chosen, stage.coder)
            losses |= {f"{name}_{number}": weight * loss for name, loss in of_stage.items()}
            with torch.no_grad():
                boxes = self._decode(deltas, boxes, image_shapes, stage.coder)
        return losses

    def _assign_anew(
        self, boxes: list[Tensor], targets: list[Target], *, iou: float
    ) -> tuple[list[Tensor], list[Assignment]]:
        """Refined boxes without those that an ignored box absorbs, and what they are to learn."""
        left, chosen = [], []
        with torch.no_grad():
            for image_boxes, target in zip(boxes, targets, strict=True):
                assignment = assign(image_boxes, self._with_labels(target), iou=iou)
                if "ignored" in target:
                    keep = assignment.foreground | ~absorbed(image_boxes, target["ignored"])
                    image_boxes, assignment = image_boxes[keep], assignment.keep(keep)
                left.append(image_boxes)
                chosen.append(assignment)
        return left, chosen
