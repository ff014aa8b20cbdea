"""Which of overlapping detections stay: NMS and Soft-NMS, each class by itself.

Letters: N candidates of one image, D that stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from wildbox.ensembling.suppression import decay
from wildbox.errors import ConfigError


class Suppression(Protocol):
    """Candidates of one image -> those that stay."""

    def __call__(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Indices (D,), best first, and the scores (D,) they now have.

        Args:
            boxes: (N, 4).
            scores: (N,) in [0, 1].
            labels: (N,) classes; candidates of different classes do not touch each other.
        """
        ...


@dataclass(frozen=True)
class HardNMS:
    """Greedy non-maximum suppression: torchvision's `batched_nms`.

    >>> boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 3.0], [8.0, 8.0, 9.0, 9.0]])
    >>> HardNMS(iou=0.5)(boxes, torch.tensor([0.5, 0.9, 0.6]), torch.zeros(3, dtype=torch.int64))[0]
    tensor([1, 2])
    """

    iou: float = 0.5
    """A candidate goes that overlaps a better one of its class by more."""

    def __post_init__(self) -> None:
        _check_iou(self.iou)

    def __call__(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """As `Suppression`; scores stay."""
        keep = batched_nms(boxes, scores, labels, self.iou)
        return keep, scores[keep]


@dataclass(frozen=True)
class SoftNMS:
    """Lower the scores of what overlaps a better detection, instead of dropping it.

    Again and again the best remaining candidate stays and the others of its class lose score: linear, times
    1 - IoU where IoU > `iou`; gaussian, times exp(-IoU^2 / sigma), always. Of equal scores the first in order is
    taken. It is sequential, so it runs on the CPU, in float64.

    Source: Bodla et al., "Soft-NMS: Improving Object Detection With One Line of Code", ICCV 2017, which has
    sigma 0.5 and iou 0.3.

    >>> boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 3.0]])
    >>> SoftNMS("linear")(boxes, torch.tensor([0.5, 0.9]), torch.zeros(2, dtype=torch.int64))[1]
    tensor([0.9000, 0.1250])
    """

    method: Literal["gaussian", "linear"] = "gaussian"
    iou: float = 0.3
    """Of the linear method."""
    sigma: float = 0.5
    """Of the gaussian method."""
    min_score: float = 0.001
    """A candidate whose score falls below goes."""

    def __post_init__(self) -> None:
        _check_iou(self.iou)
        if self.method not in ("gaussian", "linear") or not self.sigma > 0:
            raise ConfigError(
                f"method {self.method!r}, sigma {self.sigma}: expected gaussian or linear, sigma > 0"
            )

    def __call__(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """As `Suppression`; scores fall."""
        classes = labels.cpu().numpy()
        order = np.argsort(classes, kind="stable")
        groups = np.append(np.unique(classes[order], return_index=True)[1], len(order))
        lowered, sorted_boxes = (x.detach().double().cpu().numpy()[order] for x in (scores, boxes))
        iou = self.iou if self.method == "linear" else -1.0
        decay(groups, 0, len(groups) - 1, sorted_boxes, self.sigma, iou, lowered)
        lowered[order] = lowered.copy()
        keep = np.flatnonzero(lowered >= self.min_score)
        keep = keep[np.argsort(-lowered[keep], kind="stable")]
        final = torch.from_numpy(lowered[keep]).to(scores)
        return torch.from_numpy(keep).to(boxes.device), final


def _check_iou(iou: float) -> None:
    if not 0 <= iou <= 1:
        raise ConfigError(f"iou is {iou}, expected 0 to 1")
