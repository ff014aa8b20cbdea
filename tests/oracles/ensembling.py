"""Weighted boxes fusion, NMS and Soft-NMS, literally and slowly: one image and class at a time, plain floats.

Sources: Solovyev et al., arXiv 1910.13302, section 3, with a model's weight beside each score; Bodla et al., ICCV
2017, figure 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wildbox.annotations import Floats
from wildbox.detections import Detections

Box = list[float]
Found = tuple[float, Box]
"""Score, box."""


@dataclass
class Candidate:
    score: float
    """Times the weight."""
    box: Box
    weight: float


Method = Callable[[list[Candidate], float], list[Found]]
"""Candidates of one class in one image, in order, and the sum of all models' weights -> what is found."""


def overlap(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (both - width * height)


def fusion(iou: float) -> Method:
    def fuse(candidates: list[Candidate], all_weights: float) -> list[Found]:
        clusters: list[list[Candidate]] = []
        fused: list[Box] = []
        for candidate in candidates:
            shares = [overlap(box, candidate.box) for box in fused]
            if not shares or max(shares) <= iou:
                clusters.append([candidate])
                fused.append(candidate.box)
                continue
            best = shares.index(max(shares))
            clusters[best].append(candidate)
            mass = sum(c.score for c in clusters[best])
            if mass > 0:
                fused[best] = [sum(c.score * c.box[k] for c in clusters[best]) / mass for k in range(4)]
        return [
            (sum(c.score for c in cluster) / max(sum(c.weight for c in cluster), all_weights), box)
            for cluster, box in zip(clusters, fused, strict=True)
        ]

    return fuse


def suppression(iou: float) -> Method:
    def suppress(candidates: list[Candidate], _: float) -> list[Found]:
        kept: list[Candidate] = []
        for candidate in candidates:
            if all(overlap(better.box, candidate.box) <= iou for better in kept):
                kept.append(candidate)
        return [(c.score, c.box) for c in kept]

    return suppress


def soft_suppression(decay: Callable[[float], float], *, drop_below: float) -> Method:
    """Args: decay: IoU -> the factor of a score."""

    def suppress(candidates: list[Candidate], _: float) -> list[Found]:
        waiting, done = list(candidates), []
        while waiting:
            best = max(waiting, key=lambda c: c.score)  # the first of the best
            waiting.remove(best)
            done.append((best.score, best.box))
            for other in waiting:
                other.score *= decay(overlap(best.box, other.box))
        return [found for found in done if found[0] >= drop_below]

    return suppress


def gaussian(sigma: float) -> Callable[[float], float]:
    return lambda share: math.exp(-share * share / sigma)


def linear(iou: float) -> Callable[[float], float]:
    return lambda share: 1 - share if share > iou else 1.0


def ensemble(
    models: Sequence[Detections], method: Method, *, weights: Floats, skip_below: float = 0.0
) -> list[tuple[str, int, float, Box]]:
    """Image id, label, score, box of what `method` finds, sorted.

    Args:
        weights: (models, classes), the largest of a class 1, or all 0.
    """
    found = []
    for image in models[0].image_ids:
        for label in range(len(models[0].vocabulary)):
            candidates = []
            for model, weight in zip(models, weights[:, label].tolist(), strict=True):
                for d in range(len(model)):
                    x1, y1, x2, y2 = box = model.boxes[d].tolist()
                    here = model.image_ids[model.image[d]] == image and model.label[d] == label
                    if here and weight > 0 and model.score[d] >= skip_below and x1 < x2 and y1 < y2:
                        candidates.append(Candidate(float(model.score[d]) * weight, box, weight))
            candidates.sort(key=lambda c: (-c.score, c.box))
            for score, box in method(candidates, sum(weights[:, label].tolist())):
                found.append((image, label, score, box))
    return sorted(found)
