"""The numbers of an audit that matter, as sentences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from wildbox.labels.audit import LabelAudit
from wildbox.labels.counts import HEAD
from wildbox.labels.suspects import Suspect

Points = list[tuple[str, str]]
"""What each is about, and the sentence."""


def share(part: float, whole: float) -> str:
    """Per cent, to a tenth, finer below 1.

    >>> share(1, 3), share(1, 400), share(1, 10**7), share(0, 0)
    ('33.3%', '0.25%', 'under 0.01%', '0.0%')
    """
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 0.01:
        return "under 0.01%"
    return f"{percent:.2g}%" if 0 < percent < 1 else f"{percent:.1f}%"


def counted(number: float, one: str, many: str) -> str:
    """A number and its noun.

    >>> counted(1, "box", "boxes"), counted(1200, "box", "boxes")
    ('1 box', '1,200 boxes')
    """
    return f"{number:,.0f} {one if number == 1 else many}"


def size_of(audit: LabelAudit) -> str:
    """Boxes, images and classes."""
    total = audit.summary()
    return (
        f"{counted(total['boxes'], 'box', 'boxes')} on {counted(total['images'], 'image', 'images')}; "
        f"{total['classes_with_boxes']:,} of {counted(total['classes'], 'class has', 'classes have')} boxes."
    )


def summary_points(audit: LabelAudit, found: Sequence[Suspect], names: Sequence[str]) -> Points:
    """The numbers that matter. None where there are no boxes.

    Args:
        found: what `suspects` gave for the audit.
        names: display names of the classes.
    """
    total = audit.summary()
    if not total["boxes"]:
        return []
    kinds = Counter(one.kind for one in found)
    told = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
    absent = counted(total["boxes_verified_absent"], "box lies", "boxes lie")
    return [
        ("Imbalance", _imbalance(audit, total, names)),
        (
            "Several labels",
            f"{counted(total['multi_label_boxes'], 'box marks', 'boxes mark')} an object with several labels "
            f"({share(total['multi_label_boxes'], total['boxes'])}), "
            f"at most {total['most_labels_on_an_object']} on one object.",
        ),
        ("Overlaps", _overlaps(audit, total)),
        ("Ancestors", _ancestors(audit, total)),
        (
            "Repeated rows",
            f"{counted(total['duplicates'], 'row repeats', 'rows repeat')} an earlier one (image, box and label); "
            f"{counted(total['boxes_without_area'], 'box has', 'boxes have')} no area.",
        ),
        (
            "Contradictions",
            f"{absent} on an image where people verified that the class is absent "
            "(as far as image labels were given).",
        ),
        ("Likely wrong", f"To look at: {told}." if told else "Nothing stands out."),
    ]


def _imbalance(audit: LabelAudit, total: dict[str, float], names: Sequence[str]) -> str:
    boxes = audit.counts.boxes
    most, least = int(boxes.argmax()), int(np.where(boxes > 0, boxes, boxes.max() + 1).argmin())
    if boxes[most] == boxes[least]:
        return f"Every class that occurs has {counted(int(boxes[most]), 'box', 'boxes')}."
    head = int(boxes[audit.counts.groups() == HEAD].sum())
    return (
        f"{names[most]} has {total['imbalance']:,.0f} times the boxes of {names[least]} "
        f"({boxes[most]:,} against {boxes[least]:,}; Gini coefficient {total['gini']:.2f}). The third of the "
        f"classes with the most images holds {share(head, total['boxes'])} of the boxes."
    )


def _overlaps(audit: LabelAudit, total: dict[str, float]) -> str:
    pairs, unexplained = total["overlapping_pairs"], total["overlapping_pairs_unexplained"]
    kin = total["overlapping_pairs_of_kin"]
    text = f"{counted(pairs, 'pair', 'pairs')} of boxes of different classes have an IoU above {audit.settings.iou:g}"
    if not pairs:
        return f"{text}."
    if audit.hierarchy is None:
        return f"{text}. No hierarchy was given that could explain them."
    return (
        f"{text}: {kin:,} are a class and its ancestor, {pairs - kin - unexplained:,} follow from a more "
        f"specific label on the object, and {unexplained:,} ({share(unexplained, pairs)}) the hierarchy does not "
        "explain: look-alike classes, two sides of one object, or errors."
    )


def _ancestors(audit: LabelAudit, total: dict[str, float]) -> str:
    expanded = total["expanded"]
    if math.isnan(expanded):
        why = "no hierarchy was given" if audit.hierarchy is None else "no class with boxes has an ancestor"
        return f"Whether the labels of ancestors are written out cannot be told: {why}."
    text = f"{share(expanded, 1)} of the labels that the hierarchy implies are there"
    if expanded >= 0.99:
        return f"{text}: the labels are expanded."
    if expanded <= 0.05:
        return f"{text}: the labels are not expanded."
    return f"{text}: the labels are half expanded. Those that are missing stand under implied labels."
