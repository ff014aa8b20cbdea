"""Boxes that mark the same object (METHOD section 2), and the labels of that object (section 4).

Letters: N boxes, M pairs, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from wildbox.annotations import Annotations
from wildbox.boxes import intersection
from wildbox.errors import ConfigError, InputError
from wildbox.labels.counts import distinct
from wildbox.vocabulary import Hierarchy

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@numba.njit(cache=True)
def _scan(boxes, offsets, iou, pairs):  # type: ignore[no-untyped-def]
    """Write the pairs into `pairs` as far as it has room; return how many there are.

    IoU > t needs a shared width above t times either width. With an image's boxes in the order of x1, once what
    a later box leaves of this one's width is too little, no further one can match; 1e-9 is far above the
    rounding of the areas.
    """
    count = 0
    for image in range(len(offsets) - 1):
        first, last = offsets[image], offsets[image + 1]
        order = first + np.argsort(boxes[first:last, 0])
        for a in range(last - first):
            i = order[a]
            x1, y1, x2, y2 = boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3]
            area = (x2 - x1) * (y2 - y1)
            needed = iou * (x2 - x1) * (1 - 1e-9)
            for b in range(a + 1, last - first):
                j = order[b]
                if x2 - boxes[j, 0] < needed:
                    break
                shared = intersection(x1, y1, x2, y2, boxes[j, 0], boxes[j, 1], boxes[j, 2], boxes[j, 3])
                other = (boxes[j, 2] - boxes[j, 0]) * (boxes[j, 3] - boxes[j, 1])
                if shared > iou * (area + other - shared):
                    if count < len(pairs):
                        pairs[count, 0], pairs[count, 1] = min(i, j), max(i, j)
                    count += 1
    return count


def same_object_pairs(annotations: Annotations, *, iou: float = 0.9) -> Ints:
    """Pairs of boxes of one image with IoU > `iou`: the shared area is strictly above `iou` times the union.

    That is evaluated in float64 as it rounds: of boxes at exactly the threshold, rounding may let some in. Boxes
    without area match nothing, not even their repetition.

    Returns:
        (M, 2) rows i < j of the annotations, sorted.
    Raises:
        ConfigError: an `iou` outside [0, 1).

    >>> from wildbox.vocabulary import Vocabulary
    >>> truth = Annotations(Vocabulary(("a",)), ("x",), image=[0, 0], boxes=[[0, 0, 1, 1]] * 2, label=[0, 0])
    >>> same_object_pairs(truth).tolist()
    [[0, 1]]
    """
    if not 0 <= iou < 1:
        raise ConfigError(f"iou is {iou}, expected a threshold in [0, 1)")
    pairs = np.empty((len(annotations) // 2 + 16, 2), np.int64)
    count = _scan(annotations.boxes, annotations.offsets, iou, pairs)
    if count > len(pairs):
        pairs = np.empty((count, 2), np.int64)
        _scan(annotations.boxes, annotations.offsets, iou, pairs)
    pairs = pairs[:count]
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


@dataclass(frozen=True, eq=False)
class ObjectLabels:
    """All labels of the object that each of N boxes marks, its own among them, as sorted lists (CSR)."""

    offsets: Ints
    """(N + 1,)"""
    labels: Ints
    """(sum,) class indices, ascending and unique within a box."""

    def of(self, box: int) -> Ints:
        """Labels of the object of one box."""
        return self.labels[self.offsets[box] : self.offsets[box + 1]]

    def multi_hot(self, rows: Sequence[int] | Ints, classes: int) -> Bools:
        """(len(rows), classes) bool: the labels of some boxes, one box a row."""
        boxes = np.asarray(rows, np.int64)
        row, place = _spread(self.offsets, boxes)
        result = np.zeros((len(boxes), classes), bool)
        result[row, self.labels[place]] = True
        return result


def _spread(offsets: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """Every entry of some rows of a CSR table: (which of the rows, place of the entry)."""
    counts = offsets[rows + 1] - offsets[rows]
    row = np.repeat(np.arange(len(rows)), counts)
    within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    return row, offsets[rows][row] + within


def object_labels(
    annotations: Annotations, *, iou: float = 0.9, hierarchy: Hierarchy | None = None
) -> ObjectLabels:
    """For each box the labels of all boxes with IoU > `iou` to it, its own too, and with a hierarchy their ancestors.

    Being one object is not passed on along a chain: only boxes that overlap the box itself count.

    Raises:
        InputError: a hierarchy of another size than the vocabulary.

    >>> from wildbox.vocabulary import Vocabulary
    >>> two = Vocabulary(("cat", "pet"))
    >>> truth = Annotations(two, ("x",), image=[0, 0], boxes=[[0, 0, 1, 1]] * 2, label=[0, 1])
    >>> object_labels(truth).of(0).tolist()
    [0, 1]
    """
    pairs = same_object_pairs(annotations, iou=iou)
    box = np.concatenate([np.arange(len(annotations)), pairs[:, 0], pairs[:, 1]])
    label = annotations.label[np.concatenate([np.arange(len(annotations)), pairs[:, 1], pairs[:, 0]])]
    if hierarchy is not None:
        if len(hierarchy) != len(annotations.vocabulary):
            raise InputError(f"hierarchy of {len(hierarchy)} classes, expected {len(annotations.vocabulary)}")
        child, ancestor = np.nonzero(hierarchy.is_ancestor)
        row, place = _spread(np.searchsorted(child, np.arange(len(hierarchy) + 1)).astype(np.int64), label)
        box, label = np.concatenate([box, box[row]]), np.concatenate([label, ancestor[place]])
    classes = max(len(annotations.vocabulary), 1)
    unique = distinct(box * classes + label)
    offsets = np.searchsorted(unique // classes, np.arange(len(annotations) + 1)).astype(np.int64)
    return ObjectLabels(offsets, unique % classes)
