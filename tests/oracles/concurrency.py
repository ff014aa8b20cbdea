"""The statistics of labels, word for word: plain Python over all pairs of boxes."""

from __future__ import annotations

from collections import Counter

from wildbox.annotations import Annotations
from wildbox.vocabulary import Hierarchy

Box = tuple[float, float, float, float]


def overlap(a: Box, b: Box, *, iou: float) -> bool:
    """Whether IoU > `iou`, as shared area > iou * union, in float64."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return False
    shared = width * height
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return shared > iou * (areas - shared)


def rows_of(truth: Annotations) -> list[tuple[int, int, Box]]:
    """(image, label, box) of each row."""
    boxes = [(x1, y1, x2, y2) for x1, y1, x2, y2 in truth.boxes.tolist()]
    return list(zip(truth.image.tolist(), truth.label.tolist(), boxes, strict=True))


def partners(truth: Annotations, *, iou: float = 0.9) -> list[list[int]]:
    """For each row the other rows of its image that overlap it."""
    rows = rows_of(truth)
    return [
        [
            j
            for j, (image, _, box) in enumerate(rows)
            if j != i and image == rows[i][0] and overlap(rows[i][2], box, iou=iou)
        ]
        for i in range(len(rows))
    ]


def labels_of_objects(truth: Annotations, hierarchy: Hierarchy | None = None) -> list[list[int]]:
    """For each row the labels of its object, sorted."""
    label = truth.label.tolist()
    sets = [{label[i], *(label[j] for j in others)} for i, others in enumerate(partners(truth))]
    if hierarchy is not None:
        sets = [s | {a for i in s for a in hierarchy.ancestors(i).tolist()} for s in sets]
    return [sorted(s) for s in sets]


def confusion_counts(truth: Annotations, *, iou: float = 0.9) -> Counter[tuple[int, int]]:
    """(s, t) -> pairs of a box of s and a box of t that overlap, s != t."""
    label, found = truth.label.tolist(), partners(truth, iou=iou)
    return Counter(
        (label[i], label[j]) for i, others in enumerate(found) for j in others if label[i] != label[j]
    )


def matched_counts(truth: Annotations, *, iou: float = 0.9) -> Counter[tuple[int, int]]:
    """(s, t) -> boxes of s that overlap at least one box of t, s != t."""
    label, found = truth.label.tolist(), partners(truth, iou=iou)
    return Counter(
        (label[i], t) for i, others in enumerate(found) for t in {label[j] for j in others} - {label[i]}
    )


def unexplained_counts(truth: Annotations, hierarchy: Hierarchy) -> Counter[tuple[int, int]]:
    """(s, t) -> as `confusion_counts`, where neither row's object carries a descendant of the row's label."""
    label, found = truth.label.tolist(), partners(truth)

    def most_specific(i: int) -> bool:
        return not any(hierarchy.is_ancestor[label[j], label[i]] for j in found[i])

    return Counter(
        (label[i], label[j])
        for i, others in enumerate(found)
        for j in others
        if label[i] != label[j] and most_specific(i) and most_specific(j)
    )


def repeated_rows(truth: Annotations) -> int:
    """Rows equal to an earlier one in image, label and box."""
    rows = rows_of(truth)
    return len(rows) - len(set(rows))
