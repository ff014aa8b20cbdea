"""Soft-NMS as Figure 2 of its paper writes it, in plain Python floats; of equal scores the first is taken."""

from __future__ import annotations

import math

Box = tuple[float, float, float, float]


def overlap(a: Box, b: Box) -> float:
    """IoU of two boxes; 0 where they share nothing."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def soft_nms_literally(
    boxes: list[Box], scores: list[float], labels: list[int], *, method: str, iou: float, sigma: float
) -> list[float]:
    """The score that each candidate has in the end."""
    final = list(scores)
    for label in set(labels):
        remaining = [i for i, own in enumerate(labels) if own == label]
        while remaining:
            best = max(remaining, key=lambda i: final[i])
            remaining.remove(best)
            for i in remaining:
                shared = overlap(boxes[best], boxes[i])
                if method == "gaussian":
                    final[i] *= math.exp(-(shared**2) / sigma)
                elif shared > iou:
                    final[i] *= 1 - shared
    return final
