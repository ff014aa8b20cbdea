"""Pascal VOC's protocol, literally and slowly: one class at a time, all detections by falling confidence.

Source: the VOC2012 development kit's documentation, section 4.4 (Evaluation), with areas of real numbers; for eleven
points that of VOC2007. Equal confidences stand by the id of their image, then by the four numbers of their box.
"""

from __future__ import annotations

import math

from wildbox.annotations import Annotations
from wildbox.detections import Detections


def overlap(a: list[float], b: list[float]) -> float:
    """Area of intersection over area of union; minus infinity where there is no intersection."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return -math.inf
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union


def class_average_precision(
    detections: Detections, truth: Annotations, label: int, iou: float, eleven: bool
) -> float:
    objects = [i for i in range(len(truth)) if truth.label[i] == label]
    positives = sum(not truth.is_group_of[i] for i in objects)
    if positives == 0:
        return math.nan
    found = [
        (-float(detections.score[d]), detections.image_ids[detections.image[d]], detections.boxes[d].tolist())
        for d in range(len(detections))
        if detections.label[d] == label
    ]
    detected: set[int] = set()
    precision, recall = [0.0], [0.0]
    tp = fp = 0
    for _, image, box in sorted(found):
        best, best_overlap = -1, -math.inf
        for i in objects:
            if truth.image_ids[truth.image[i]] == image:
                value = overlap(box, truth.boxes[i].tolist())
                if value > best_overlap:
                    best, best_overlap = i, value
        if best_overlap < iou or best in detected:
            fp += 1
        elif truth.is_group_of[best]:
            continue
        else:
            detected.add(best)
            tp += 1
        precision.append(tp / (tp + fp))
        recall.append(tp / positives)
    if eleven:
        steps = [
            0.0,
            0.1,
            0.2,
            0.30000000000000004,
            0.4,
            0.5,
            0.6000000000000001,
            0.7000000000000001,
            0.8,
            0.9,
            1.0,
        ]
        best_at = [
            max((p for p, r in zip(precision, recall, strict=True) if r >= t), default=0.0) for t in steps
        ]
        return sum(best_at) / 11
    precision.append(0.0)
    recall.append(1.0)
    for k in reversed(range(len(precision) - 1)):
        precision[k] = max(precision[k], precision[k + 1])
    return sum((recall[k] - recall[k - 1]) * precision[k] for k in range(1, len(recall)))


def evaluate_voc_literally(
    detections: Detections, truth: Annotations, *, iou: float = 0.5, eleven: bool = False
) -> list[float]:
    """Average precision of each class; NaN where it has no ordinary box."""
    return [class_average_precision(detections, truth, c, iou, eleven) for c in range(len(truth.vocabulary))]
