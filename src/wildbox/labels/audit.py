"""All statistics of the labels of a set of annotations.

Letters: N boxes, M pairs, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numba
import numpy as np

from wildbox.annotations import Annotations, Bools, Ints
from wildbox.boxes import areas
from wildbox.errors import InputError
from wildbox.labels.concurrency import (
    Concurrency,
    ConcurrentRates,
    ConfusionPair,
    check_min_ratio,
    concurrency_of_pairs,
    concurrent_rates,
    confusion_pairs,
    pairs_of_classes,
)
from wildbox.labels.contradictions import Contradictions, find_contradictions
from wildbox.labels.counts import ClassCounts, count_classes
from wildbox.labels.label_sets import LabelSets, count_label_sets
from wildbox.labels.objects import ObjectLabels, object_labels, same_object_pairs
from wildbox.labels.parts import sum_over_parts
from wildbox.vocabulary import Hierarchy, Vocabulary, check_size


@dataclass(frozen=True)
class AuditSettings:
    """What an audit counts; audits with other settings do not add up.

    Args:
        iou: boxes of one image mark one object above it (strict).
        min_ratio: confusion pairs and counted rates are kept above it (strict).
        include_group_of: count group-of boxes like the others; else as if they were not there.
        examples: how many boxes to keep as examples of each label set.
    """

    iou: float = 0.9
    min_ratio: float = 0.1
    include_group_of: bool = True
    examples: int = 4


class ImpliedLabel(NamedTuple):
    """A class, one of its ancestors, and how many of its boxes carry that label too."""

    label: int
    ancestor: int
    boxes: int
    with_ancestor: int


@dataclass(frozen=True, eq=False)
class LabelAudit:
    """Sums over images, and what follows from them; the audits of two shards add up to the audit of both."""

    vocabulary: Vocabulary
    hierarchy: Hierarchy | None
    settings: AuditSettings
    images: int
    """B, images without boxes among them."""
    counts: ClassCounts
    concurrency: Concurrency
    unexplained: Ints
    """(C, C) those of `concurrency.confusion` that the hierarchy does not explain: both labels are most specific
    on their object, that is, the boxes that overlap either carry no descendant of its label."""
    duplicates: int
    """Rows that repeat an earlier one: image, box and label."""
    flat_boxes: int
    """Boxes without area: counted, but on no object."""
    label_sets: LabelSets
    contradictions: Contradictions

    def __repr__(self) -> str:
        sizes = (
            f"{self.counts.boxes.sum():,} boxes on {self.images:,} images, {len(self.vocabulary):,} classes"
        )
        return f"LabelAudit({sizes}, {len(self.pairs):,} confusion pairs)"

    def __add__(self, other: LabelAudit) -> LabelAudit:
        """The audit of two sets of images that share none. `InputError` where classes or settings differ."""
        ours, theirs = ((a.vocabulary, a.hierarchy and a.hierarchy.edges, a.settings) for a in (self, other))
        if ours != theirs:
            raise InputError("audits with other classes, hierarchy or settings do not add up")
        return LabelAudit(
            self.vocabulary,
            self.hierarchy,
            self.settings,
            self.images + other.images,
            self.counts + other.counts,
            self.concurrency + other.concurrency,
            self.unexplained + other.unexplained,
            self.duplicates + other.duplicates,
            self.flat_boxes + other.flat_boxes,
            self.label_sets + other.label_sets,
            self.contradictions + other.contradictions,
        )

    @cached_property
    def pairs(self) -> list[ConfusionPair]:
        """Confusion pairs above `min_ratio`, largest ratio first, ties by the ids of source and confusion."""
        ids = self.vocabulary.ids
        return sorted(
            confusion_pairs(self.concurrency, min_ratio=self.settings.min_ratio),
            key=lambda pair: (-pair.ratio, ids[pair.source], ids[pair.confusion]),
        )

    @cached_property
    def rates(self) -> ConcurrentRates:
        """Concurrent rates above `min_ratio`, and those of the hierarchy."""
        return concurrent_rates(
            self.concurrency,
            vocabulary=self.vocabulary,
            hierarchy=self.hierarchy,
            min_ratio=self.settings.min_ratio,
        )

    @cached_property
    def implied(self) -> list[ImpliedLabel]:
        """Every class that has boxes with each of its ancestors: by hierarchy, the label that should stand or not.

        A file that is not expanded has (nearly) none of them, an expanded one all; between is half expanded.
        """
        if self.hierarchy is None:
            return []
        boxes, matched = self.counts.boxes, self.concurrency.matched
        return [
            ImpliedLabel(i, a, int(boxes[i]), int(matched[i, a]))
            for i, a in np.argwhere(self.hierarchy.is_ancestor).tolist()
            if boxes[i]
        ]

    def related(self, a: int, b: int) -> bool:
        """Whether one class is an ancestor of the other."""
        return self.hierarchy is not None and self.hierarchy.related(a, b)

    def summary(self) -> dict[str, float]:
        """The numbers of the whole set, by name; nan where there is nothing to divide by.

        Overlapping pairs are pairs of boxes of different classes on one object: of kin, where one class is an
        ancestor of the other; unexplained, see `unexplained`; the rest are labels that a third, more specific
        one on the object implies. Expanded is the share of the ancestors' labels, over all boxes, that are there.
        """
        confusion, sizes = self.concurrency.confusion, self.label_sets.by_size()
        of_kin = 0 if self.hierarchy is None else int(confusion[self.hierarchy.is_ancestor].sum())
        wanted = sum(one.boxes for one in self.implied)
        return {
            "images": self.images,
            "boxes": int(self.counts.boxes.sum()),
            "classes": len(self.vocabulary),
            "classes_with_boxes": int((self.counts.boxes > 0).sum()),
            "imbalance": self.counts.imbalance,
            "gini": self.counts.gini,
            "duplicates": self.duplicates,
            "boxes_without_area": self.flat_boxes,
            "multi_label_boxes": sum(sizes[1:]),
            "most_labels_on_an_object": len(sizes),
            "label_sets": len(self.label_sets.sets),
            "overlapping_pairs": int(confusion.sum()) // 2,
            "overlapping_pairs_of_kin": of_kin,
            "overlapping_pairs_unexplained": int(self.unexplained.sum()) // 2,
            "confusion_pairs": len(self.pairs),
            "confusion_pairs_of_kin": sum(self.related(pair.source, pair.confusion) for pair in self.pairs),
            "expanded": sum(one.with_ancestor for one in self.implied) / wanted if wanted else float("nan"),
            "boxes_verified_absent": int(self.contradictions.boxes.sum()),
            "iou": self.settings.iou,
            "min_ratio": self.settings.min_ratio,
        }


def audit(
    annotations: Annotations,
    *,
    hierarchy: Hierarchy | None = None,
    iou: float = 0.9,
    min_ratio: float = 0.1,
    include_group_of: bool = True,
    examples: int = 4,
) -> LabelAudit:
    """What is uneven and what is ambiguous in the labels of some annotations, as they are (nothing is expanded).

    Args:
        hierarchy: says which pairs are related and adds rates of 1 from a class to its ancestors.
        iou, min_ratio, include_group_of, examples: see `AuditSettings`.
    Raises:
        ConfigError: `iou` outside [0, 1), `min_ratio` or `examples` below 0.
        InputError: a hierarchy of another size than the vocabulary.

    >>> two = Vocabulary(("torch", "flashlight"))
    >>> truth = Annotations(two, ("x",), image=[0, 0], boxes=[[0, 0, 1, 1]] * 2, label=[0, 1])
    >>> found = audit(truth)
    >>> found, found.rates
    (LabelAudit(2 boxes on 1 images, 2 classes, 2 confusion pairs), ConcurrentRates(2 classes, 2 rates above 0))
    >>> found.rates.values.tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    if hierarchy is not None:
        check_size(hierarchy, len(annotations.vocabulary))
    check_min_ratio(min_ratio)
    if not include_group_of:
        annotations = annotations.keep(~annotations.is_group_of)
    settings = AuditSettings(iou, min_ratio, include_group_of, examples)
    return sum_over_parts(lambda part: _audit(part, hierarchy, settings), annotations)


def _audit(annotations: Annotations, hierarchy: Hierarchy | None, settings: AuditSettings) -> LabelAudit:
    """The audit of a part; what takes long is compiled and lets other threads run."""
    pairs = same_object_pairs(annotations, iou=settings.iou)
    objects = object_labels(annotations, pairs=pairs)
    flat = areas(annotations.boxes) == 0
    return LabelAudit(
        annotations.vocabulary,
        hierarchy,
        settings,
        len(annotations.image_ids),
        count_classes(annotations),
        concurrency_of_pairs(annotations.label, pairs, objects, classes=len(annotations.vocabulary)),
        _unexplained(annotations.label, pairs, objects, hierarchy, classes=len(annotations.vocabulary)),
        _repeated_rows(annotations, pairs, flat),
        int(flat.sum()),
        count_label_sets(annotations, objects, examples=settings.examples),
        find_contradictions(annotations, examples=settings.examples),
    )


def _unexplained(
    label: Ints, pairs: Ints, objects: ObjectLabels, hierarchy: Hierarchy | None, *, classes: int
) -> Ints:
    """(C, C) symmetric: the pairs of boxes with different labels where both labels are most specific."""
    if hierarchy is not None:
        box = np.repeat(objects.rows, np.diff(objects.offsets))
        specific: Bools = np.ones(len(label), bool)
        specific[box[hierarchy.is_ancestor[objects.labels, label[box]]]] = False
        pairs = pairs[specific[pairs].all(axis=1)]
    counts: Ints = pairs_of_classes(label, pairs, classes)
    return counts


def _repeated_rows(annotations: Annotations, pairs: Ints, flat: Bools) -> int:
    """How many rows repeat an earlier one. Rows with area that repeat are pairs; the others, flat, are sorted."""
    repeated = _later_repeats(annotations.boxes, annotations.label, pairs)
    rows = np.column_stack([annotations.image[flat], annotations.label[flat], annotations.boxes[flat]])
    return int(repeated) + len(rows) - len(np.unique(rows, axis=0))


@numba.njit(cache=True, nogil=True)
def _later_repeats(boxes, label, pairs):  # type: ignore[no-untyped-def]
    """How many boxes repeat box and label of the earlier one of a pair."""
    again, count = np.zeros(len(label), np.bool_), 0
    for m in range(len(pairs)):
        i, j = pairs[m]
        if label[i] == label[j] and not again[j]:
            again[j] = (boxes[i] == boxes[j]).all()
            count += again[j]
    return count
