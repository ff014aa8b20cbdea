"""Kinds of errors, literally and slowly, from the definitions in the TIDE paper (section 2.2), for one threshold.

Matching is Pascal VOC's without difficult boxes: by falling score, against the box of largest IoU of the class.
"""

from __future__ import annotations

from wildbox.annotations import Annotations
from wildbox.detections import Detections

Box = list[float]


def overlap(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = width * height if width > 0 and height > 0 else 0.0
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union else 0.0


def tell_errors(
    detections: Detections, truth: Annotations, *, min_score: float, iou: float, background: float
) -> tuple[list[tuple[str, int]], list[tuple[int, int]], list[int]]:
    """(kind, class) of each false positive, (detected, true class) of the wrong classes, classes of missed boxes."""
    errors, confused = [], []
    used: set[int] = set()
    covered: set[int] = set()
    rows = [
        (
            -float(detections.score[d]),
            detections.image_ids[detections.image[d]],
            detections.boxes[d].tolist(),
            d,
        )
        for d in range(len(detections))
        if detections.score[d] >= min_score
    ]
    for _, image, box, d in sorted(rows):
        label = int(detections.label[d])
        near: dict[bool, tuple[float, int]] = {True: (-1.0, -1), False: (-1.0, -1)}
        for t in range(len(truth)):
            if truth.image_ids[truth.image[t]] == image:
                same = bool(truth.label[t] == label)
                value = overlap(box, truth.boxes[t].tolist())
                if value > near[same][0]:
                    near[same] = value, t
        (own, own_box), (other, other_box) = near[True], near[False]
        if own >= iou and own_box not in used:
            used.add(own_box)
        elif background <= own < iou:
            errors.append(("poor_box", label))
            covered.add(own_box)
        elif other >= iou and other != own:  # one object of several labels: no other class
            errors.append(("wrong_class", label))
            confused.append((label, int(truth.label[other_box])))
            covered.add(other_box)
        elif own >= iou:
            errors.append(("duplicate", label))
        elif max(own, other) <= background:
            errors.append(("background", label))
        else:
            errors.append(("wrong_class_and_poor_box", label))
    missed = [int(truth.label[t]) for t in range(len(truth)) if t not in used and t not in covered]
    return errors, confused, missed
