"""The Open Images Challenge protocol, literally and slowly: loops over lists, from the protocol's text.

Source: the challenge's evaluation page, and what the TensorFlow Object Detection API says of its evaluator:
in a class and image, detections by falling score against ordinary boxes, the rest against group-of boxes.
"""

from __future__ import annotations

import math

from wildbox.annotations import Annotations
from wildbox.detections import Detections
from wildbox.vocabulary import Hierarchy

Box = tuple[float, float, float, float]
Entry = tuple[float, int, int, float]  # score, image, row, what it is worth (0: false positive)
TruthBox = tuple[int, Box, int, bool]  # image, box, label, is group of


def expanded(truth: Annotations, hierarchy: Hierarchy | None) -> tuple[list[TruthBox], set[tuple[int, int]]]:
    """Boxes with those of all ancestors, and the verified (image, class) pairs."""
    above: dict[int, set[int]] = {c: set() for c in range(len(truth.vocabulary))}
    for _ in above if hierarchy else ():  # as often as there are classes: all ways up are walked
        for child, parent in hierarchy.edges if hierarchy else ():
            above[child] |= {parent} | above[parent]
    boxes: list[TruthBox] = []
    verified: set[tuple[int, int]] = set()
    for i in range(len(truth)):
        own = int(truth.label[i])
        x1, y1, x2, y2 = (float(v) for v in truth.boxes[i])
        for label in (own, *sorted(above[own])):
            boxes.append((int(truth.image[i]), (x1, y1, x2, y2), label, bool(truth.is_group_of[i])))
            verified.add((int(truth.image[i]), label))
    labels = truth.image_labels
    for i in range(len(labels)):
        image, label = int(labels.image[i]), int(labels.label[i])
        below = {c for c in above if label in above[c]}
        for implied in above[label] if labels.is_positive[i] else below:
            verified.add((image, implied))
        verified.add((image, label))
    return boxes, verified


def shared_area(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def area(a: Box) -> float:
    return (a[2] - a[0]) * (a[3] - a[1])


def match_image(
    found: list[tuple[float, int, int, Box]],
    ordinary: list[Box],
    groups: list[Box],
    weight: float,
    iou: float,
) -> list[Entry]:
    """The entries of one class in one image; `found` is sorted by falling score."""
    free = [True] * len(ordinary)
    rest = []
    entries: list[Entry] = []
    for score, image, row, box in found:
        overlaps = [shared_area(box, b) / (area(box) + area(b) - shared_area(box, b)) for b in ordinary]
        best = overlaps.index(max(overlaps)) if overlaps else -1
        if overlaps and overlaps[best] >= iou and free[best]:
            free[best] = False
            entries.append((score, image, row, 1.0))
        else:
            rest.append((score, image, row, box))
    absorbed: dict[int, list[tuple[float, int, int]]] = {}
    for score, image, row, box in rest:
        shares = [shared_area(box, b) / area(box) for b in groups]
        best = shares.index(max(shares)) if shares else -1
        if shares and shares[best] >= iou:
            absorbed.setdefault(best, []).append((score, image, row))
        else:
            entries.append((score, image, row, 0.0))
    for members in absorbed.values():
        score, image, row = members[0]
        if weight > 0 and score > 0:
            entries.append((score, image, row, weight))
    return entries


def area_under_curve(entries: list[Entry], truth: float) -> float:
    """Every rise of the recall times the best precision at that recall or beyond."""
    if truth == 0:
        return math.nan
    points = []  # precision, recall
    tp = fp = 0.0
    for _, _, _, worth in sorted(entries, key=lambda e: (-e[0], e[1], e[2])):
        tp += worth
        fp += worth == 0
        points.append((tp / (tp + fp), tp / truth))
    recalls = [0.0] + [recall for _, recall in points]
    return sum(
        (recalls[k + 1] - recalls[k]) * max(precision for precision, _ in points[k:])
        for k in range(len(points))
    )


def evaluate_literally(
    detections: Detections,
    truth: Annotations,
    *,
    hierarchy: Hierarchy | None = None,
    group_of_weight: float = 1.0,
    iou: float = 0.5,
) -> tuple[list[float], list[int]]:
    """Average precision of each class (NaN without truth) and how many detections count."""
    boxes, verified = expanded(truth, hierarchy)
    number = {id_: i for i, id_ in enumerate(truth.image_ids)}
    ap, counted = [], []
    for label in range(len(truth.vocabulary)):
        entries: list[Entry] = []
        for image, id_ in enumerate(truth.image_ids):
            found = []
            for row in range(len(detections)):
                x1, y1, x2, y2 = (float(v) for v in detections.boxes[row])
                here = number[detections.image_ids[detections.image[row]]] == number[id_]
                usable = x1 < x2 and y1 < y2 and (image, label) in verified
                if here and usable and detections.label[row] == label:
                    found.append((float(detections.score[row]), image, row, (x1, y1, x2, y2)))
            found.sort(key=lambda f: (-f[0], f[2]))
            ordinary = [box for at, box, of, group in boxes if at == image and of == label and not group]
            groups = [box for at, box, of, group in boxes if at == image and of == label and group]
            entries += match_image(found, ordinary, groups, group_of_weight, iou)
        total = sum(group_of_weight if group else 1.0 for _, _, of, group in boxes if of == label)
        ap.append(area_under_curve(entries, total))
        counted.append(len(entries))
    return ap, counted
