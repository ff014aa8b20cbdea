"""All statistics of the labels of a set of annotations, and the files that tell them.

Letters: N boxes, M pairs, C classes.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wildbox.annotations import Annotations
from wildbox.boxes import areas
from wildbox.errors import InputError
from wildbox.formats.files import whole_file, write_csv
from wildbox.labels.concurrency import (
    Concurrency,
    ConcurrentRates,
    ConfusionPair,
    check_min_ratio,
    concurrent_rates,
    confusion_pairs,
    count_concurrency,
)
from wildbox.labels.counts import ClassCounts, count_classes, distinct
from wildbox.labels.objects import same_object_pairs
from wildbox.vocabulary import Hierarchy, Vocabulary

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class LabelAudit:
    """Sums over images, and what follows from them; the audits of two shards add up to the audit of both."""

    vocabulary: Vocabulary
    hierarchy: Hierarchy | None
    iou: float
    min_ratio: float
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
    multi_label_boxes: int
    """Boxes whose object carries at least two labels."""

    def __add__(self, other: LabelAudit) -> LabelAudit:
        """The audit of two sets of images that share none. `InputError` where classes or settings differ."""
        ours, theirs = (
            (a.vocabulary, a.hierarchy and a.hierarchy.edges, a.iou, a.min_ratio) for a in (self, other)
        )
        if ours != theirs:
            raise InputError("audits with other classes, hierarchy or settings do not add up")
        return LabelAudit(
            self.vocabulary,
            self.hierarchy,
            self.iou,
            self.min_ratio,
            self.images + other.images,
            self.counts + other.counts,
            self.concurrency + other.concurrency,
            self.unexplained + other.unexplained,
            self.duplicates + other.duplicates,
            self.flat_boxes + other.flat_boxes,
            self.multi_label_boxes + other.multi_label_boxes,
        )

    @cached_property
    def pairs(self) -> list[ConfusionPair]:
        """Confusion pairs above `min_ratio`, largest ratio first, ties by the ids of source and confusion."""
        ids = self.vocabulary.ids
        return sorted(
            confusion_pairs(self.concurrency, min_ratio=self.min_ratio),
            key=lambda pair: (-pair.ratio, ids[pair.source], ids[pair.confusion]),
        )

    @cached_property
    def rates(self) -> ConcurrentRates:
        """Concurrent rates above `min_ratio`, and those of the hierarchy."""
        return concurrent_rates(
            self.concurrency, vocabulary=self.vocabulary, hierarchy=self.hierarchy, min_ratio=self.min_ratio
        )

    def related(self, a: int, b: int) -> bool:
        """Whether one class is an ancestor of the other."""
        return self.hierarchy is not None and self.hierarchy.related(a, b)

    def summary(self) -> dict[str, float]:
        """The numbers of the whole set, by name; imbalance and gini are nan without boxes.

        Overlapping pairs are pairs of boxes of different classes on one object: of kin, where one class is an
        ancestor of the other; unexplained, see `unexplained`; the rest are labels that a third, more specific
        one on the object implies.
        """
        confusion = self.concurrency.confusion
        of_kin = 0
        if self.hierarchy is not None:
            of_kin = int(confusion[self.hierarchy.is_ancestor].sum())
        return {
            "images": self.images,
            "boxes": int(self.counts.boxes.sum()),
            "classes": len(self.vocabulary),
            "classes_with_boxes": int((self.counts.boxes > 0).sum()),
            "imbalance": self.counts.imbalance,
            "gini": self.counts.gini,
            "duplicates": self.duplicates,
            "boxes_without_area": self.flat_boxes,
            "multi_label_boxes": self.multi_label_boxes,
            "overlapping_pairs": int(confusion.sum()) // 2,
            "overlapping_pairs_of_kin": of_kin,
            "overlapping_pairs_unexplained": int(self.unexplained.sum()) // 2,
            "confusion_pairs": len(self.pairs),
            "confusion_pairs_of_kin": sum(self.related(pair.source, pair.confusion) for pair in self.pairs),
            "iou": self.iou,
            "min_ratio": self.min_ratio,
        }

    def write(self, folder: str | Path) -> None:
        """Write classes.csv, confusion_pairs.csv, concurrent_rates.csv and summary.json; make the folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        ids, names = self.vocabulary.ids, self.vocabulary.names
        columns = (ids, names, self.counts.boxes.tolist(), self.counts.images.tolist(), self.counts.groups())
        write_csv(folder / "classes.csv", CLASS_COLUMNS, zip(*columns, strict=True))
        rows = (
            (
                *(ids[pair.source], ids[pair.confusion], names[pair.source], names[pair.confusion]),
                *(pair.source_boxes, pair.confusion_boxes, pair.ratio),
                str(self.related(pair.source, pair.confusion)).lower(),
            )
            for pair in self.pairs
        )
        write_csv(folder / "confusion_pairs.csv", PAIR_COLUMNS, rows)
        self.rates.write(folder / "concurrent_rates.csv")
        numbers = {name: None if math.isnan(number) else number for name, number in self.summary().items()}
        with whole_file(folder / "summary.json") as temporary:
            temporary.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


CLASS_COLUMNS = ("class_id", "class_name", "boxes", "images", "group")
PAIR_COLUMNS = (
    *("source", "confusion", "source_name", "confusion_name"),
    *("source_boxes", "confusion_boxes", "ratio", "related"),
)


def audit(
    annotations: Annotations, *, hierarchy: Hierarchy | None = None, iou: float = 0.9, min_ratio: float = 0.1
) -> LabelAudit:
    """What is uneven and what is ambiguous in the labels of some annotations, as they are (nothing is expanded).

    Args:
        hierarchy: says which pairs are related and adds rates of 1 from a class to its ancestors.
        iou: boxes of one image mark one object above it (strict).
        min_ratio: confusion pairs and counted rates are kept above it (strict).
    Raises:
        ConfigError: `iou` outside [0, 1), `min_ratio` below 0.
        InputError: a hierarchy of another size than the vocabulary.

    >>> two = Vocabulary(("torch", "flashlight"))
    >>> truth = Annotations(two, ("x",), image=[0, 0], boxes=[[0, 0, 1, 1]] * 2, label=[0, 1])
    >>> audit(truth).rates.values.tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    if hierarchy is not None and len(hierarchy) != len(annotations.vocabulary):
        raise InputError(f"hierarchy of {len(hierarchy)} classes, expected {len(annotations.vocabulary)}")
    check_min_ratio(min_ratio)
    pairs = same_object_pairs(annotations, iou=iou)
    differ = pairs[annotations.label[pairs[:, 0]] != annotations.label[pairs[:, 1]]]
    return LabelAudit(
        annotations.vocabulary,
        hierarchy,
        iou,
        min_ratio,
        len(annotations.image_ids),
        count_classes(annotations),
        count_concurrency(annotations, iou=iou, pairs=pairs),
        _unexplained(annotations.label, differ, classes=len(annotations.vocabulary), hierarchy=hierarchy),
        _repeated_rows(annotations, pairs),
        int((areas(annotations.boxes) == 0).sum()),
        len(distinct(differ.ravel())),
    )


def _unexplained(label: Ints, pairs: Ints, *, classes: int, hierarchy: Hierarchy | None) -> Ints:
    """(C, C) symmetric: the pairs of boxes with different labels where both labels are most specific."""
    specific: Bools = np.ones(len(label), bool)
    if hierarchy is not None:
        for box, other in (pairs.T, pairs.T[::-1]):
            specific[box[hierarchy.is_ancestor[label[other], label[box]]]] = False
    a, b = label[pairs[specific[pairs].all(axis=1)]].T
    flat = np.bincount(a * classes + b, minlength=classes * classes).reshape(classes, classes)
    return (flat + flat.T).astype(np.int64)


def _repeated_rows(annotations: Annotations, pairs: Ints) -> int:
    """How many rows repeat an earlier one. Rows with area that repeat are pairs; the others are sorted."""
    boxes, label = annotations.boxes, annotations.label
    a, b = pairs.T
    same = (label[a] == label[b]) & (boxes[a] == boxes[b]).all(axis=1)
    again = len(distinct(b[same]))
    flat = areas(boxes) == 0
    rows = np.column_stack([annotations.image[flat], label[flat], boxes[flat]])
    return again + len(rows) - len(np.unique(rows, axis=0))
