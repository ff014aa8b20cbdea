"""Boxes that mark the same object (METHOD section 2), and the labels of that object (section 4).

Letters: N boxes, M pairs, C classes, t the threshold of IoU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numba
import numpy as np
from numpy.typing import NDArray

from wildbox.annotations import Annotations
from wildbox.boxes import intersection
from wildbox.errors import ConfigError, InputError
from wildbox.vocabulary import Hierarchy

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

ROUNDING = 16 * float(np.finfo(np.float64).eps)
"""Bounds the rounding of both sides of `shared > t * union`, relative to the coordinates they come from."""


FEW = 48
"""Boxes in an image up to which insertion beats the library's sort, which allocates."""


@numba.njit(cache=True, nogil=True)
def _by_left_edge(boxes, first, last, order):  # type: ignore[no-untyped-def]
    """Write the rows first to last into `order`, by x1."""
    if last - first > FEW:
        order[: last - first] = first + np.argsort(boxes[first:last, 0])
        return
    for row in range(first, last):
        at = row - first
        while at > 0 and boxes[order[at - 1], 0] > boxes[row, 0]:
            order[at] = order[at - 1]
            at -= 1
        order[at] = row


@numba.njit(cache=True, nogil=True)
def _scan(boxes, offsets, iou):  # type: ignore[no-untyped-def]
    """(M', 3) i, j, and whether rounding could decide on them (1) or they match for sure (0).

    IoU > t needs a shared width above t times either width. With an image's boxes in the order of x1, once what
    a later box leaves of this one's width is too little, no further one can match.
    """
    found, count = np.empty((1024, 3), np.int64), 0
    order = np.empty(np.max(np.diff(offsets)) if len(offsets) > 1 else 0, np.int64)
    for image in range(len(offsets) - 1):
        boxes_here = offsets[image + 1] - offsets[image]
        _by_left_edge(boxes, offsets[image], offsets[image + 1], order)
        for a in range(boxes_here):
            i = order[a]
            x1, y1, x2, y2 = boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3]
            width, height = x2 - x1, y2 - y1
            reach = x2 - iou * width + ROUNDING * max(abs(x1), abs(x2))
            for b in range(a + 1, boxes_here):
                j = order[b]
                u1, v1, u2, v2 = boxes[j, 0], boxes[j, 1], boxes[j, 2], boxes[j, 3]
                if u1 > reach:
                    break
                shared = intersection(x1, y1, x2, y2, u1, v1, u2, v2)
                if shared == 0:
                    continue
                other_width, other_height = u2 - u1, v2 - v1
                union = width * height + other_width * other_height - shared
                right = max(abs(x1), abs(x2), abs(u1), abs(u2))
                low = max(abs(y1), abs(y2), abs(v1), abs(v2))
                doubt = ROUNDING * (union + right * (height + other_height) + low * (width + other_width))
                if shared - iou * union > -doubt:
                    if count == len(found):
                        grown = np.empty((2 * count, 3), np.int64)
                        grown[:count] = found
                        found = grown
                    found[count, 0], found[count, 1] = min(i, j), max(i, j)
                    found[count, 2] = shared - iou * union <= doubt
                    count += 1
    return found[:count].copy()


def same_object_pairs(annotations: Annotations, *, iou: float = 0.9) -> Ints:
    """Pairs of boxes of one image with IoU > `iou`: the shared area is strictly above `iou` times the union.

    The decision is exact: coordinates and `iou` are taken as the decimals that they print as (what a file wrote,
    up to 15 digits), and where rounding could decide, in rational arithmetic. So of boxes at exactly 0.9 none is in.
    Boxes without area match nothing, not even their repetition.

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
    boxes, offsets = annotations.boxes, annotations.offsets
    found = _scan(boxes, offsets, iou)
    close = np.flatnonzero(found[:, 2])
    apart = [m for m in close if not _above(boxes[found[m, 0]], boxes[found[m, 1]], iou)]
    found = np.delete(found, apart, axis=0)
    keys = np.sort(found[:, 0] * len(boxes) + found[:, 1])
    return np.column_stack(np.divmod(keys, max(len(boxes), 1)))


def _above(a: Floats, b: Floats, iou: float) -> bool:
    """IoU > `iou` of two boxes with area, exactly, of the decimals that the numbers print as."""
    ax1, ay1, ax2, ay2 = (Fraction(repr(x)) for x in a.tolist())
    bx1, by1, bx2, by2 = (Fraction(repr(x)) for x in b.tolist())
    shared = (min(ax2, bx2) - max(ax1, bx1)) * (min(ay2, by2) - max(ay1, by1))
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - shared
    return shared > Fraction(repr(float(iou))) * union


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
        counts = self.offsets[boxes + 1] - self.offsets[boxes]
        row = np.repeat(np.arange(len(boxes)), counts)
        within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        result = np.zeros((len(boxes), classes), bool)
        result[row, self.labels[self.offsets[boxes][row] + within]] = True
        return result


def object_labels(
    annotations: Annotations,
    *,
    iou: float = 0.9,
    hierarchy: Hierarchy | None = None,
    pairs: Ints | None = None,
) -> ObjectLabels:
    """For each box the labels of all boxes with IoU > `iou` to it, its own too, and with a hierarchy their ancestors.

    Being one object is not passed on along a chain: only boxes that overlap the box itself count.

    Args:
        pairs: (M, 2) what `same_object_pairs` gave for the same `iou`, where it is at hand.
    Raises:
        InputError: a hierarchy of another size than the vocabulary.

    >>> from wildbox.vocabulary import Vocabulary
    >>> two = Vocabulary(("cat", "pet"))
    >>> truth = Annotations(two, ("x",), image=[0, 0], boxes=[[0, 0, 1, 1]] * 2, label=[0, 1])
    >>> object_labels(truth).of(0).tolist()
    [0, 1]
    """
    classes = len(annotations.vocabulary)
    implied = np.eye(classes, dtype=bool)
    if hierarchy is not None:
        if len(hierarchy) != classes:
            raise InputError(f"hierarchy of {len(hierarchy)} classes, expected {classes}")
        implied |= hierarchy.is_ancestor
    label, implies = np.nonzero(implied)
    starts = np.searchsorted(label, np.arange(classes + 1))
    pairs = same_object_pairs(annotations, iou=iou) if pairs is None else pairs
    return ObjectLabels(*_collect(annotations.label, pairs, starts, implies))


@numba.njit(cache=True, nogil=True)
def _collect(label, pairs, starts, implies):  # type: ignore[no-untyped-def]
    """CSR of the labels of each box and of its partners, with what they imply (also CSR)."""
    boxes = len(label)
    place = np.zeros(boxes + 1, np.int64)  # where the partners of a box begin
    for m in range(len(pairs)):
        place[pairs[m, 0] + 1] += 1
        place[pairs[m, 1] + 1] += 1
    place = np.cumsum(place)
    partners, filled = np.empty(2 * len(pairs), np.int64), place[:-1].copy()
    for m in range(len(pairs)):
        for box, other in ((pairs[m, 0], pairs[m, 1]), (pairs[m, 1], pairs[m, 0])):
            partners[filled[box]] = label[other]
            filled[box] += 1
    offsets, labels, total = np.zeros(boxes + 1, np.int64), np.empty(2 * boxes + 16, np.int64), 0
    classes = len(starts) - 1
    for box in range(boxes):
        if total + classes > len(labels):
            grown = np.empty(2 * len(labels) + classes, np.int64)
            grown[:total] = labels[:total]
            labels = grown
        begin = total
        for p in range(place[box] - 1, place[box + 1]):
            source = label[box] if p < place[box] else partners[p]
            for k in range(starts[source], starts[source + 1]):
                at = total  # insertion keeps the list sorted; lists are short
                while at > begin and labels[at - 1] > implies[k]:
                    at -= 1
                if at > begin and labels[at - 1] == implies[k]:
                    continue
                for move in range(total, at, -1):
                    labels[move] = labels[move - 1]
                labels[at] = implies[k]
                total += 1
        offsets[box + 1] = total
    return offsets, labels[:total].copy()
