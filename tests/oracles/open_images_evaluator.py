"""The Open Images protocols, literally and slowly: loops over lists, from the protocols' text.

Source: the challenge's evaluation page, and what the TensorFlow Object Detection API says of its evaluators:
in a class and image, detections by falling score against ordinary boxes, the rest against group-of boxes.
Equal scores stand by the id of their image, then by the four numbers of their box.
"""

from __future__ import annotations

import math

from wildbox.annotations import Annotations
from wildbox.detections import Detections
from wildbox.vocabulary import Hierarchy

Box = tuple[float, float, float, float]
Found = tuple[float, str, Box]  # minus score, image, box: in the order of the evaluation
Entry = tuple[Found, float]  # and what it is worth (0: false positive)
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
    found: list[Found],
    ordinary: list[Box],
    groups: list[Box],
    weight: float,
    iou: float,
) -> list[Entry]:
    """The entries of one class in one image; `found` is in order."""
    free = [True] * len(ordinary)
    rest = []
    entries: list[Entry] = []
    for detection in found:
        box = detection[2]
        overlaps = [shared_area(box, b) / (area(box) + area(b) - shared_area(box, b)) for b in ordinary]
        best = overlaps.index(max(overlaps)) if overlaps else -1
        if overlaps and overlaps[best] >= iou and free[best]:
            free[best] = False
            entries.append((detection, 1.0))
        else:
            rest.append(detection)
    absorbed: dict[int, list[Found]] = {}
    for detection in rest:
        shares = [shared_area(detection[2], b) / area(detection[2]) for b in groups]
        best = shares.index(max(shares)) if shares else -1
        if shares and shares[best] >= iou:
            absorbed.setdefault(best, []).append(detection)
        else:
            entries.append((detection, 0.0))
    for members in absorbed.values():
        if weight > 0 and members[0][0] < 0:
            entries.append((members[0], weight))
    return entries


def area_under_curve(entries: list[Entry], truth: float) -> float:
    """Every rise of the recall times the best precision at that recall or beyond."""
    if truth == 0:
        return math.nan
    points = []  # precision, recall
    tp = fp = 0.0
    for _, worth in sorted(entries, key=lambda entry: entry[0]):
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
    verified_only: bool = True,
    limit: int = 10_000,
    iou: float = 0.5,
) -> tuple[list[float], list[int]]:
    """Average precision of each class (NaN without truth) and how many detections count."""
    boxes, verified = expanded(truth, hierarchy)
    number = {id_: i for i, id_ in enumerate(truth.image_ids)}
    ap, counted = [], []
    for label in range(len(truth.vocabulary)):
        entries: list[Entry] = []
        for id_ in sorted({*truth.image_ids, *detections.image_ids}):
            image = number.get(id_, -1)
            found = []
            for row in range(len(detections)):
                x1, y1, x2, y2 = (float(v) for v in detections.boxes[row])
                usable = x1 < x2 and y1 < y2 and ((image, label) in verified or not verified_only)
                here = detections.image_ids[detections.image[row]] == id_
                if here and usable and detections.label[row] == label:
                    found.append((-float(detections.score[row]), id_, (x1, y1, x2, y2)))
            found = sorted(found)[:limit]
            ordinary = [box for at, box, of, group in boxes if at == image and of == label and not group]
            groups = [box for at, box, of, group in boxes if at == image and of == label and group]
            entries += match_image(found, ordinary, groups, group_of_weight, iou)
        total = sum(group_of_weight if group else 1.0 for _, _, of, group in boxes if of == label)
        ap.append(area_under_curve(entries, total))
        counted.append(len(entries))
    return ap, counted
