"""Precision over recall of each class, at its true positives: between two of them precision only falls.

False positives are not sorted: each finds its place among the true positives of its class by a table of scores. Once
the true positives are sorted, the cost is linear, unless scores crowd so that the table does not tell them apart.

Letters: D detections, P true positives (what group-of boxes absorb being one each), C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path

import numba
import numpy as np
from numpy.typing import NDArray

from wildbox.annotations import Bools, Floats, Ints
from wildbox.evaluation.matches import Compact, Matches
from wildbox.evaluation.matching import FALSE, Outcomes
from wildbox.formats.files import write_csv
from wildbox.threads import in_chunks, over_lists
from wildbox.vocabulary import Vocabulary

POINTS = ("class_id", "score", "precision", "recall")


@dataclass(frozen=True, eq=False)
class Curves:
    """The true positives of each class by falling score, and how many false ones stand before each."""

    offsets: Ints
    """(C + 1,) the true positives of class c are offsets[c] to offsets[c + 1]."""
    score: Floats
    """(P,)"""
    worth: Floats
    """(P,) 1, or the weight of a group-of box."""
    false_before: Ints
    """(P,) false positives that stand before it."""
    false_until: Ints
    """(P,) false positives of at least its score: where scores are equal, more than stand before it."""
    truth: Floats
    """(C,) what the boxes of the truth are worth together."""

    @cached_property
    def true_before(self) -> Floats:
        """(P,) what the true positives up to and with this one are worth."""
        return _sums(self.offsets, self.worth)

    @property
    def precision(self) -> Floats:
        """(P,) tp / (tp + fp), with this one."""
        return self.true_before / (self.true_before + self.false_before)

    @property
    def recall(self) -> Floats:
        """(P,) tp / truth, with this one."""
        return self.true_before / np.repeat(self.truth, np.diff(self.offsets))

    def write(self, path: str | Path, vocabulary: Vocabulary) -> None:
        """Write the points as CSV: class_id,score,precision,recall, by class and falling score."""
        ids = np.repeat(np.array(vocabulary.ids, object), np.diff(self.offsets))
        columns = (ids, self.score.tolist(), self.precision.tolist(), self.recall.tolist())
        write_csv(path, POINTS, zip(*columns, strict=True))


def curves(matches: Matches) -> Curves:
    """The curves of each class; see `Matches` for the order of equal scores."""
    classes = len(matches.vocabulary)
    truth = matches.truth_by_class @ [1.0, matches.group_of_weight]
    true = true_positives(matches)
    columns = (matches.label, matches.score, matches.offsets, matches.outcome)
    offsets, score, _, rows = true[1]

    def count(first: int, last: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        before, late = np.zeros(len(rows) + classes, np.int32), np.zeros(len(rows), np.int32)
        for start in range(first, last, BLOCK):
            _count_false(start, min(start + BLOCK, last), columns, true, before, late)
        return before, late

    counted = zip(*in_chunks(count, len(matches), rows=len(matches), each=1), strict=True)
    false_before, false_until = _running(offsets, score, *(reduce(np.add, parts) for parts in counted))
    worth = matches.worth[matches.outcome[rows]]
    return Curves(offsets, score, worth, false_before, false_until, truth)


@numba.njit(cache=True, nogil=True)
def _sums(offsets: Ints, worth: Floats) -> Floats:
    """The sum within each class up to and with each true positive."""
    sums = np.empty(len(worth))
    for c in range(len(offsets) - 1):
        total = 0.0
        for p in range(offsets[c], offsets[c + 1]):
            total += worth[p]
            sums[p] = total
    return sums


@numba.njit(cache=True, nogil=True)
def _running(
    offsets: Ints, score: Floats, before: NDArray[np.int32], late: NDArray[np.int32]
) -> tuple[Ints, Ints]:
    """`Curves.false_before` and `false_until`, of what `_count_false` counts."""
    false_before, false_until = np.empty(len(score), np.int64), np.empty(len(score), np.int64)
    for c in range(len(offsets) - 1):
        count = 0
        for p in range(offsets[c], offsets[c + 1]):
            count += before[p + c]
            false_before[p] = count
        for p in range(offsets[c + 1] - 1, offsets[c] - 1, -1):
            if p + 1 == offsets[c + 1] or score[p + 1] != score[p]:
                count = false_before[p] + late[p]
            false_until[p] = count
    return false_before, false_until


BLOCK = 2**20
"""Detections that are sorted by class at once: 12 bytes of memory for each."""
FEW = 16
"""Scores up to which inserting one after the other sorts them fastest."""

Points = tuple[Floats, Ints, Ints]
"""True positives (P,) by class: score, rank of the image, row."""
Ordered = tuple[Ints, Floats, Ints, Ints]
"""True positives by class: offsets (C + 1,); score, falling within a class, rank of the image and row (P,)."""
Index = tuple[Ints, NDArray[np.int32]]
"""Where scores stand, so that few are compared. The scores from 0 to 1 of a class with p true positives are divided
into the first power of two from p on. Offsets (C + 1,) of the classes; of each part how many true positives have a
score in it or above it, and a 0 at the end of each class."""
Lookup = tuple[Ints, Ordered, Index]
"""What finds the place of a detection among the true positives: of each image (B,) its rank, see `Matches.image_rank`;
the true positives; their index."""
Columns = tuple[Compact, Floats, Ints, Outcomes]
"""Of all detections (D,) label and score; offsets of the images (B + 1,); outcome (D,)."""


def true_positives(matches: Matches) -> Lookup:
    """The true positives by class, falling score, and the order of equals that `Matches` states."""
    rank = matches.image_rank()
    images = np.argsort(rank)
    columns = (matches.label, matches.score, matches.offsets, matches.outcome)
    weighs, classes = matches.worth > 0, len(matches.vocabulary)
    by_id = np.concatenate([[0], np.cumsum(np.diff(matches.offsets)[images])])

    def count(first: int, last: int) -> tuple[int, Ints]:
        return first, _count_true(images[first:last], columns, weighs, classes)

    firsts, counts = zip(*over_lists(count, by_id), strict=True)
    until = np.cumsum(counts, axis=0)
    offsets = np.concatenate([[0], np.cumsum(until[-1])])
    after = dict(zip(firsts, until - counts + offsets[:-1], strict=True))
    size = int(offsets[-1])
    true = (np.empty(size), np.empty(size, np.int64), np.empty(size, np.int64))

    def put(first: int, last: int) -> None:
        _put_true(first, images[first:last], columns, weighs, after[first], true)

    over_lists(put, by_id)
    ordered, index = _sorted(offsets, true)
    return rank, (offsets, *ordered), index


@numba.njit(cache=True, nogil=True)
def _count_true(images: Ints, columns: Columns, weighs: Bools, classes: int) -> Ints:
    """(C,) detections of each class in some images whose outcome weighs."""
    label, _, offsets, outcome = columns
    counts = np.zeros(classes, np.int64)
    for b in images:
        for d in range(offsets[b], offsets[b + 1]):
            counts[label[d]] += weighs[outcome[d]]
    return counts


@numba.njit(cache=True, nogil=True)
def _put_true(rank: int, images: Ints, columns: Columns, weighs: Bools, after: Ints, true: Points) -> None:
    """Put them where those of their class belong, `after` being the next place of each: score, rank, row."""
    label, score, offsets, outcome = columns
    for i in range(len(images)):
        for d in range(offsets[images[i]], offsets[images[i] + 1]):
            if weighs[outcome[d]]:
                p = after[label[d]]
                true[0][p], true[1][p], true[2][p] = score[d], rank + i, d
                after[label[d]] = p + 1


def _sorted(offsets: Ints, true: Points) -> tuple[Points, Index]:
    """True positives of each class by falling score, equal ones in the order given; and the index of the scores."""
    parts = 1 << np.frexp(np.maximum(np.diff(offsets) - 1, 0))[1].astype(np.int64)
    first = np.concatenate([[0], np.cumsum(parts + 1)])
    above = np.zeros(first[-1], np.int32)
    ordered = (np.empty_like(true[0]), np.empty_like(true[1]), np.empty_like(true[2]))

    def task(begin: int, end: int) -> None:
        _sort_classes(begin, end, offsets, true, (first, above), ordered)

    over_lists(task, offsets)
    return ordered, (first, above)


@numba.njit(cache=True, nogil=True)
def _sort_classes(begin: int, end: int, offsets: Ints, true: Points, index: Index, ordered: Points) -> None:
    (score, rank, row), (first, above), (sorted_score, sorted_rank, sorted_row) = true, index, ordered
    for c in range(begin, end):
        base, start, parts = offsets[c], first[c], first[c + 1] - first[c] - 1
        order = np.empty(offsets[c + 1] - base, np.int64)
        for p in range(base, offsets[c + 1]):
            above[start + min(int(score[p] * parts), parts - 1)] += 1
        for k in range(start + parts - 1, start - 1, -1):
            above[k] += above[k + 1]
        after = above[start + 1 : start + parts + 1].copy()
        for p in range(base, offsets[c + 1]):
            k = min(int(score[p] * parts), parts - 1)
            sorted_score[base + after[k]], order[after[k]] = score[p], p
            after[k] += 1
        for k in range(parts):
            low, high = above[start + k + 1], above[start + k]
            _sort(sorted_score[base + low : base + high], order[low:high])
        for p in range(base, offsets[c + 1]):
            sorted_rank[p], sorted_row[p] = rank[order[p - base]], row[order[p - base]]


@numba.njit(cache=True, nogil=True)
def _sort(score: Floats, rows: Ints) -> None:
    """Sort by falling score, in place; equal ones stay in order."""
    if len(score) > FEW:
        order = np.argsort(-score, kind="mergesort")
        score[:], rows[:] = score[order], rows[order]
        return
    for i in range(1, len(score)):
        s, row, j = score[i], rows[i], i
        while j > 0 and score[j - 1] < s:
            score[j], rows[j] = score[j - 1], rows[j - 1]
            j -= 1
        score[j], rows[j] = s, row


@numba.njit(cache=True, nogil=True)
def false_rows(
    first: int, last: int, classes: int, columns: Columns
) -> tuple[Ints, NDArray[np.int32], Floats]:
    """The false positives among rows first to last, by class: offsets of the classes, row - first, score.

    So the true positives of one class at a time are looked up, and stay in the processor's cache.
    """
    label, score, outcome = columns[0][first:last], columns[1][first:last], columns[3][first:last]
    offsets = np.zeros(classes + 1, np.int64)
    for d in range(len(label)):
        if outcome[d] == FALSE:
            offsets[label[d] + 1] += 1
    offsets = np.cumsum(offsets)
    after = offsets.astype(np.uint64)
    rows, scores = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], np.float64)
    for d in range(len(label)):
        if outcome[d] == FALSE:
            p = after[label[d]]
            rows[p], scores[p] = d, score[d]
            after[label[d]] = p + np.uint64(1)
    return offsets, rows, scores


@numba.njit(cache=True, nogil=True)
def places(
    c: int, first: int, rows: NDArray[np.int32], given: Floats, images: Ints, true: Lookup
) -> NDArray[np.uint32]:
    """Of each of some detections of class c the first of its true positives, counted from 0, that stands behind it.

    Without a branch where a part of the scores has no true positive or one: a processor guesses what comes out of
    comparing scores as well as a coin does, and each wrong guess costs more than all else here.

    Args:
        first, rows: the detections are rows first + rows.
        given: their scores.
        images: offsets of the images (B + 1,).
    """
    rank, (offsets, scores, ranks, found), (starts, above) = true
    here = slice(offsets[c], offsets[c + 1])
    scores, ranks, found, above = scores[here], ranks[here], found[here], above[starts[c] : starts[c + 1]]
    place = np.zeros(len(given), np.uint32)
    if not len(scores):
        return place
    one, last, parts = np.uint64(1), np.uint64(len(scores) - 1), np.uint64(len(above) - 1)
    for k in range(len(given)):
        s = given[k]
        part = min(np.uint64(s * parts), parts - one)  # unsigned: an index that cannot count from the end
        low, high = np.uint64(above[part + one]), np.uint64(above[part])
        if high > low + one:
            low = _first_behind(s, low, high, scores)
        else:
            low += np.uint64(low < high) & np.uint64(scores[min(low, last)] > s)
        place[k] = low
        if low <= last and scores[low] == s:
            d = first + rows[k]
            r = rank[np.searchsorted(images, d, side="right") - 1]
            place[k] = _behind_equals(d, s, r, place[k], (scores, ranks, found))
    return place


@numba.njit(cache=True, nogil=True)
def _first_behind(s: float, low: np.uint64, high: np.uint64, scores: Floats) -> np.uint64:
    """The first from `low` on, and before `high`, of at most score s."""
    while low < high:
        middle = (low + high) // np.uint64(2)
        if scores[middle] > s:
            low = middle + np.uint64(1)
        else:
            high = middle
    return low


@numba.njit(cache=True, nogil=True)
def _behind_equals(d: int, s: float, r: int, low: int, true: Points) -> int:
    """Of the true positives from `low` on the first that stands behind detection d of score s on an image of rank r."""
    scores, ranks, rows = true
    high = len(scores)
    while low < high:
        middle = (low + high) // 2
        earlier = ranks[middle] < r or (ranks[middle] == r and rows[middle] < d)
        if scores[middle] == s and earlier:
            low = middle + 1
        else:
            high = middle
    return low


@numba.njit(cache=True, nogil=True)
def _count_false(
    first: int, last: int, columns: Columns, true: Lookup, before: NDArray[np.int32], late: NDArray[np.int32]
) -> None:
    """Count false positives by their place, and those that stand after all true positives of their own score."""
    offsets, all_scores = true[1][0], true[1][1]
    class_offsets, rows, given = false_rows(first, last, len(offsets) - 1, columns)
    for c in range(len(offsets) - 1):
        here = slice(class_offsets[c], class_offsets[c + 1])
        place = places(c, first, rows[here], given[here], columns[2], true)
        start, end = offsets[c], offsets[c + 1]
        scores, false_scores, counts = all_scores[start:end], given[here], before[start + c : end + c + 1]
        for k in range(len(place)):
            p, s = place[k], false_scores[k]
            counts[p] += 1
            if p > 0 and scores[p - 1] == s and (p == len(scores) or scores[p] < s):
                late[start + p - 1] += 1
