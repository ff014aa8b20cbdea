"""Boxes that mark the same object (METHOD section 2), and the labels of that object (section 4).

Letters: N boxes, M pairs, C classes, t the threshold of IoU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numba
import numpy as np

from wildbox.annotations import Annotations, Bools, Floats, Ints, members
from wildbox.boxes import intersection
from wildbox.errors import ConfigError

ROUNDING = 16 * float(np.finfo(np.float64).eps)
"""Bounds the rounding of both sides of `shared > t * union`, relative to the coordinates they come from."""


MANY = 64
"""Boxes in an image from which sorting them pays; of 32 to 256 the fastest."""


@numba.njit(cache=True, nogil=True)
def _scan(boxes, offsets, iou):  # type: ignore[no-untyped-def]
    """Pairs i < j that match for sure, (M, 2), sorted, and those that rounding could decide on, (M', 2).

    IoU > t needs edges closer than (1 - t) / t times the box's width and height: few pairs get as far as areas.
    """
    sure, doubtful = np.empty((1024, 2), np.int64), np.empty((16, 2), np.int64)
    matches = doubts = 0
    most = np.max(np.diff(offsets)) if len(offsets) > 1 else 0
    row, x, y = np.empty(most, np.int64), np.empty(most), np.empty(most)
    slack = (1 - iou) / iou * (1 + 1e-9) if iou > 0 else np.inf
    for image in range(len(offsets) - 1):
        first, size = offsets[image], offsets[image + 1] - offsets[image]
        if size < 2:
            continue
        in_order = size > MANY
        order = np.argsort(boxes[first : first + size, 0]) if in_order else row[:0]
        far = 0.0
        for a in range(size):
            i = row[a] = first + (order[a] if in_order else a)
            x[a], y[a] = boxes[i, 0], boxes[i, 1]
            far = max(far, abs(x[a]), abs(y[a]), abs(boxes[i, 2]), abs(boxes[i, 3]))
        begin = matches
        for a in range(size - 1):
            i = row[a]
            width, height = boxes[i, 2] - x[a], boxes[i, 3] - y[a]
            reach_x, reach_y = slack * width + ROUNDING * far, slack * height + ROUNDING * far
            end = size
            if in_order:
                end = a + 1
                while end < size and x[end] - x[a] <= reach_x:
                    end += 1
            if not _any_near(x, y, a, end, reach_x, reach_y):
                continue
            for b in range(a + 1, end):
                if abs(x[b] - x[a]) > reach_x or abs(y[b] - y[a]) > reach_y:
                    continue
                margin, doubt = _margin(boxes[i], boxes[row[b]], iou, far)
                if margin > doubt:
                    sure = _with_pair(sure, matches, i, row[b])
                    matches += 1
                elif margin >= -doubt:
                    doubtful = _with_pair(doubtful, doubts, i, row[b])
                    doubts += 1
        if in_order:
            keys = sure[begin:matches, 0] * len(boxes) + sure[begin:matches, 1]
            sure[begin:matches] = sure[begin:matches][np.argsort(keys)]
    return sure[:matches].copy(), doubtful[:doubts].copy()


@numba.njit(cache=True, nogil=True)
def _any_near(x, y, a, end, reach_x, reach_y):  # type: ignore[no-untyped-def]
    """Whether a box after `a` begins near it; without branches, so that it is vectorized."""
    near = np.int64(0)
    for b in range(a + 1, end):
        near |= np.int64(abs(x[b] - x[a]) <= reach_x) & np.int64(abs(y[b] - y[a]) <= reach_y)
    return near != 0


@numba.njit(cache=True, nogil=True)
def _margin(a, b, iou, far):  # type: ignore[no-untyped-def]
    """Shared area less `iou` times the union, and a bound of its rounding; far below 0 where nothing is shared."""
    shared = intersection(a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3])
    if shared == 0:
        return -1.0, 0.0
    widths, heights = (a[2] - a[0], b[2] - b[0]), (a[3] - a[1], b[3] - b[1])
    union = widths[0] * heights[0] + widths[1] * heights[1] - shared
    return shared - iou * union, ROUNDING * (union + far * (sum(widths) + sum(heights)))


@numba.njit(cache=True, nogil=True)
def _with_pair(pairs, count, i, j):  # type: ignore[no-untyped-def]
    """`pairs` with one more at `count`; twice as long where it was full."""
    if count == len(pairs):
        pairs = np.concatenate((pairs, np.empty_like(pairs)))
    pairs[count, 0], pairs[count, 1] = min(i, j), max(i, j)
    return pairs


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
    boxes = annotations.boxes
    sure, doubtful = _scan(boxes, annotations.offsets, iou)
    pairs: Ints = sure
    above = [_above(boxes[i], boxes[j], iou) for i, j in doubtful]
    if any(above):
        pairs = np.concatenate([sure, doubtful[above]])
        pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return pairs


def _above(a: Floats, b: Floats, iou: float) -> bool:
    """IoU > `iou` of two boxes with area, exactly, of the decimals that the numbers print as."""
    ax1, ay1, ax2, ay2 = (Fraction(repr(x)) for x in a.tolist())
    bx1, by1, bx2, by2 = (Fraction(repr(x)) for x in b.tolist())
    shared = (min(ax2, bx2) - max(ax1, bx1)) * (min(ay2, by2) - max(ay1, by1))
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - shared
    return shared > Fraction(repr(float(iou))) * union


@dataclass(frozen=True, eq=False)
class ObjectLabels:
    """All labels of the object that each of N boxes marks, its own among them.

    Most boxes have their own label only, so lists (CSR) are kept just for the S boxes whose objects have several.
    """

    own: Ints
    """(N,) the label of each box."""
    rows: Ints
    """(S,) boxes whose object has several labels, ascending."""
    offsets: Ints
    """(S + 1,)"""
    labels: Ints
    """(sum,) class indices of these, ascending and unique within a box."""

    def of(self, box: int) -> Ints:
        """Labels of the object of one box, ascending."""
        at = int(np.searchsorted(self.rows, box))
        if at < len(self.rows) and self.rows[at] == box:
            return self.labels[self.offsets[at] : self.offsets[at + 1]]
        return self.own[[box]]

    def multi_hot(self, rows: Sequence[int] | Ints, classes: int) -> Bools:
        """(len(rows), classes) bool: the labels of some boxes, one box a row."""
        boxes = np.asarray(rows, np.int64)
        result = np.zeros((len(boxes), classes), bool)
        result[np.arange(len(boxes)), self.own[boxes]] = True
        several = np.flatnonzero(np.isin(boxes, self.rows))
        at = np.searchsorted(self.rows, boxes[several])
        counts = self.offsets[at + 1] - self.offsets[at]
        result[np.repeat(several, counts), self.labels[members(self.offsets[at], counts)]] = True
        return result


def object_labels(annotations: Annotations, *, iou: float = 0.9, pairs: Ints | None = None) -> ObjectLabels:
    """For each box the labels of all boxes with IoU > `iou` to it, its own too.

    Being one object is not passed on along a chain: only boxes that overlap the box itself count. Where a hierarchy
    is in use, `expand` the annotations before: then the ancestors are labels of boxes too.

    Args:
        pairs: (M, 2) what `same_object_pairs` gave for the same `iou`, where it is at hand.

    >>> from wildbox.vocabulary import Vocabulary
    >>> two = Vocabulary(("cat", "pet"))
    >>> truth = Annotations(two, ("x",), image=[0, 0], boxes=[[0, 0, 1, 1]] * 2, label=[0, 1])
    >>> object_labels(truth).of(0).tolist()
    [0, 1]
    """
    pairs = same_object_pairs(annotations, iou=iou) if pairs is None else pairs
    return ObjectLabels(annotations.label, *_collect(annotations.label, annotations.offsets, pairs))


@numba.njit(cache=True, nogil=True)
def _collect(label, offsets, pairs):  # type: ignore[no-untyped-def]
    """Boxes with several labels and CSR of these. Image by image, so that what is at work stays in the cache."""
    rows, starts, count = np.empty(1024, np.int64), np.zeros(1025, np.int64), 0
    labels, total = np.empty(4096, np.int64), 0
    place, partners = np.zeros(16, np.int64), np.empty(16, np.int64)
    image = m = 0
    while m < len(pairs):
        while offsets[image + 1] <= pairs[m, 0]:
            image += 1
        first, size, begin = offsets[image], offsets[image + 1] - offsets[image], m
        while m < len(pairs) and pairs[m, 0] < first + size:
            m += 1
        if size + 2 > len(place):
            place = np.empty(2 * size + 2, np.int64)
        if 2 * (m - begin) > len(partners):
            partners = np.empty(4 * (m - begin), np.int64)
        _partners(label, pairs[begin:m], first, place[: size + 2], partners)
        if total + size + 2 * (m - begin) > len(labels):
            labels = np.concatenate((labels, np.empty(len(labels) + size + 2 * (m - begin), np.int64)))
        for box in range(first, first + size):
            at, end = place[box - first], place[box - first + 1]
            if at == end:
                continue
            if count == len(rows):
                rows, starts = np.concatenate((rows, rows)), np.concatenate((starts, rows))
            labels[total], begun = label[box], total
            total += 1
            for p in range(at, end):
                total = _with_label(labels, begun, total, partners[p])
            rows[count], starts[count + 1] = box, total
            count += 1
    return rows[:count].copy(), starts[: count + 1].copy(), labels[:total].copy()


@numba.njit(cache=True, nogil=True)
def _partners(label, pairs, first, place, partners):  # type: ignore[no-untyped-def]
    """Write the labels of each box's partners, where other than its own, as CSR; box `first` + k at place[k]."""
    place[:] = 0
    for m in range(len(pairs)):
        i, j = pairs[m, 0], pairs[m, 1]
        if label[i] != label[j]:
            place[i - first + 2] += 1
            place[j - first + 2] += 1
    for k in range(1, len(place)):
        place[k] += place[k - 1]
    for m in range(len(pairs)):
        i, j = pairs[m, 0], pairs[m, 1]
        if label[i] != label[j]:
            partners[place[i - first + 1]], partners[place[j - first + 1]] = label[j], label[i]
            place[i - first + 1] += 1
            place[j - first + 1] += 1


@numba.njit(cache=True, nogil=True)
def _with_label(labels, begin, end, label):  # type: ignore[no-untyped-def]
    """Insert a label into the sorted labels[begin:end] unless it is there; the new end. Lists are short."""
    at = end
    while at > begin and labels[at - 1] > label:
        at -= 1
    if at > begin and labels[at - 1] == label:
        return end
    for move in range(end, at, -1):
        labels[move] = labels[move - 1]
    labels[at] = label
    return end + 1
