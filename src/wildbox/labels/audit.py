"""What is wrong with the labels: counts, co-occurrence, confusion pairs and rates of one set, and its files.

Letters: N boxes, C classes.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wildbox.annotations import Annotations
from wildbox.labels.concurrency import (
    Concurrency,
    ConcurrentRates,
    ConfusionPair,
    concurrent_rates,
    confusion_pairs,
    count_concurrency,
)
from wildbox.labels.counts import ClassCounts, count_classes
from wildbox.labels.objects import object_labels
from wildbox.vocabulary import Hierarchy, Vocabulary


@dataclass(frozen=True, eq=False)
class LabelAudit:
    """Statistics of an annotated set."""

    vocabulary: Vocabulary
    hierarchy: Hierarchy | None
    counts: ClassCounts
    concurrency: Concurrency
    pairs: list[ConfusionPair]
    """Above the ratio, largest first."""
    rates: ConcurrentRates
    images: int
    multi_label_boxes: int
    """Boxes whose object carries at least two labels."""
    repeated_rows: int
    """Rows beyond the first of the same image, class and box."""

    def related(self, a: int, b: int) -> bool:
        """Whether one class is an ancestor of the other."""
        return self.hierarchy is not None and self.hierarchy.related(a, b)

    def summary(self) -> dict[str, float]:
        """The numbers of the whole set, by name."""
        confusion = self.concurrency.confusion
        explained = 0
        if self.hierarchy is not None:
            kin = self.hierarchy.is_ancestor | self.hierarchy.is_ancestor.T
            explained = int(confusion[kin].sum()) // 2
        total = int(confusion.sum()) // 2
        return {
            "images": self.images,
            "boxes": int(self.counts.boxes.sum()),
            "classes": len(self.vocabulary),
            "classes_with_boxes": int((self.counts.boxes > 0).sum()),
            "imbalance": self.counts.imbalance,
            "gini": self.counts.gini,
            "multi_label_boxes": self.multi_label_boxes,
            "overlapping_pairs": total,
            "overlapping_pairs_of_kin": explained,
            "overlapping_pairs_of_others": total - explained,
            "repeated_rows": self.repeated_rows,
        }

    def write(self, folder: str | Path) -> None:
        """Leave `classes.csv`, `confusion_pairs.csv`, `concurrent_rates.csv` and `summary.json` in a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        ids, names, groups = self.vocabulary.ids, self.vocabulary.names, self.counts.groups()
        _write_csv(
            folder / "classes.csv",
            ("class_id", "class_name", "boxes", "images", "group"),
            zip(ids, names, self.counts.boxes, self.counts.images, groups, strict=True),
        )
        ranked = sorted(self.pairs, key=lambda p: (-p.ratio, ids[p.source], ids[p.confusion]))
        _write_csv(
            folder / "confusion_pairs.csv",
            (
                "source", "confusion", "source_name", "confusion_name",
                "source_boxes", "confusion_boxes", "ratio", "related",
            ),
            (
                (
                    ids[p.source], ids[p.confusion], names[p.source], names[p.confusion],
                    p.source_boxes, p.confusion_boxes, p.ratio, str(self.related(p.source, p.confusion)).lower(),
                )
                for p in ranked
            ),
        )  # fmt: skip
        self.rates.write(folder / "concurrent_rates.csv")
        temporary = folder / "summary.json.tmp"
        temporary.write_text(json.dumps(self.summary(), indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, folder / "summary.json")


def audit(
    annotations: Annotations,
    *,
    hierarchy: Hierarchy | None = None,
    iou: float = 0.9,
    min_ratio: float = 0.1,
) -> LabelAudit:
    """Count everything METHOD section 2 defines, on the annotations as they are (they are not expanded).

    Args:
        hierarchy: marks related pairs, and adds a rate of 1 from each class to its ancestors.
        iou: two boxes of an image mark one object above it (strict).
        min_ratio: pairs and counted rates are kept above it (strict).

    >>> cat = Vocabulary(("cat", "lynx"))
    >>> truth = Annotations(cat, ("x",), image=[0, 0], boxes=[[0, 0, 1, 1]] * 2, label=[0, 1])
    >>> audit(truth).rates.values.tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    concurrency = count_concurrency(annotations, iou=iou)
    objects = object_labels(annotations, iou=iou)
    key = np.column_stack([annotations.image, annotations.label, annotations.boxes])
    return LabelAudit(
        vocabulary=annotations.vocabulary,
        hierarchy=hierarchy,
        counts=count_classes(annotations),
        concurrency=concurrency,
        pairs=confusion_pairs(concurrency, min_ratio=min_ratio),
        rates=concurrent_rates(
            concurrency, vocabulary=annotations.vocabulary, hierarchy=hierarchy, min_ratio=min_ratio
        ),
        images=len(annotations.image_ids),
        multi_label_boxes=int((np.diff(objects.offsets) > 1).sum()),
        repeated_rows=len(key) - len(np.unique(key, axis=0)),
    )


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    os.replace(temporary, path)
