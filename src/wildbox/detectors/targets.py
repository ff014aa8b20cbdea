"""Which box each proposal stands for, and which labels it takes from it (METHOD section 4).

Letters: P proposals, n truth boxes of one image, m ignored boxes of it, C foreground classes; the background is
column C.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou

IGNORED_SHARE = 0.5
"""Share of a proposal's area from which an ignored box absorbs it, as evaluators do with group-of boxes."""


@dataclass(frozen=True)
class Assignment:
    """What the proposals of one image are to learn."""

    labels: Tensor
    """(P, C + 1) multi-hot; background rows have the last column alone."""
    boxes: Tensor
    """(P, 4) the matched truth box; the proposal itself where it is background."""
    foreground: Tensor
    """(P,) bool."""

    def keep(self, rows: Tensor) -> Assignment:
        """The same for some proposals, given as indices."""
        return Assignment(self.labels[rows], self.boxes[rows], self.foreground[rows])


def assign(proposals: Tensor, target: dict[str, Tensor], *, iou: float = 0.5) -> Assignment:
    """Match proposals (P, 4) of one image with its truth.

    A proposal takes the truth box of largest IoU where that is at least `iou`, and all labels of it in
    `target["multi_hot"]`; else it is background. Among boxes of equal IoU (one object with several labels has
    several identical boxes) the choice is random, one order an image and call: the baseline, which keeps the
    label of its box alone, then learns every label of an object in turn instead of losing all but the first.

    Args:
        target: `boxes` (n, 4) in the unit of the proposals and `multi_hot` (n, C) bool.

    >>> truth = {"boxes": torch.tensor([[0.0, 0.0, 2.0, 2.0]]), "multi_hot": torch.tensor([[True, False]])}
    >>> assign(torch.tensor([[0.0, 0.0, 2.0, 1.5], [3.0, 3.0, 4.0, 4.0]]), truth).labels.int().tolist()
    [[1, 0, 0], [0, 0, 1]]
    """
    truth, multi_hot = target["boxes"], target["multi_hot"]
    classes = multi_hot.shape[1]
    labels = torch.zeros(len(proposals), classes + 1, dtype=torch.bool, device=proposals.device)
    if len(truth) == 0 or len(proposals) == 0:
        labels[:, classes] = True
        return Assignment(labels, proposals, labels.new_zeros(len(proposals)))
    order = torch.randperm(len(truth), device=truth.device)
    best, position = box_iou(proposals, truth[order]).max(dim=1)
    matched = order[position]
    foreground = best >= iou
    labels[:, :classes] = multi_hot[matched] & foreground[:, None]
    labels[:, classes] = ~foreground
    return Assignment(labels, torch.where(foreground[:, None], truth[matched], proposals), foreground)


def absorbed(boxes: Tensor, regions: Tensor, *, share: float = IGNORED_SHARE) -> Tensor:
    """Whether some region covers at least `share` of the area of each box: (P, 4), (m, 4) -> (P,) bool.

    A box without area is absorbed by nothing.

    >>> group = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    >>> absorbed(torch.tensor([[0.0, 0.0, 2.0, 2.0], [9.0, 0.0, 12.0, 1.0]]), group).tolist()
    [True, False]
    """
    if len(regions) == 0 or len(boxes) == 0:
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    low = torch.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=2).amax(dim=1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    return (area > 0) & (shared >= share * area)
