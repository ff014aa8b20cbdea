"""The statistics of labels, word for word: plain Python over all pairs of boxes."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

from wildbox.annotations import Annotations
from wildbox.vocabulary import Hierarchy

Box = tuple[float, float, float, float]


def overlap(a: Box, b: Box, *, iou: float) -> bool:
    """Whether IoU > `iou`, as shared area > iou * union, of the decimals that the numbers print as."""
    ax1, ay1, ax2, ay2 = (Fraction(repr(x)) for x in a)
    bx1, by1, bx2, by2 = (Fraction(repr(x)) for x in b)
    width, height = min(ax2, bx2) - max(ax1, bx1), min(ay2, by2) - max(ay1, by1)
    if width <= 0 or height <= 0:
        return False
    shared = width * height
    areas = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1)
    return shared > Fraction(repr(iou)) * (areas - shared)


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


def label_set_counts(truth: Annotations) -> Counter[tuple[int, ...]]:
    """Labels of an object -> the rows whose object carries exactly these."""
    return Counter(tuple(labels) for labels in labels_of_objects(truth))


def verified_absent(truth: Annotations) -> Counter[int]:
    """Class -> its rows on images where it is verified to be absent."""
    known = truth.image_labels
    absent = {
        (image, label)
        for image, label, there in zip(
            known.image.tolist(), known.label.tolist(), known.is_positive.tolist(), strict=True
        )
        if not there
    }
    return Counter(label for image, label, _ in rows_of(truth) if (image, label) in absent)
