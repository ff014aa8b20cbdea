"""Precision over recall of each class, at its true positives: between two of them precision only falls.

False positives are not sorted: each finds its place among the true positives of its class by a table of scores. Once
the true positives are sorted, the cost is linear, unless scores crowd so that the table does not tell them apart.

Letters: D detections, P true positives (what group-of boxes absorb being one each), C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from wildbox.annotations import Bools, Floats, Ints
from wildbox.evaluation.matches import Found, Matches
from wildbox.evaluation.matching import FALSE
from wildbox.formats.files import write_csv
from wildbox.threads import EACH, at_once, in_chunks, over_lists
from wildbox.vocabulary import Vocabulary

Counts = NDArray[np.signedinteger[Any]]
"""Rows, or how many: of 4 bytes each, unless there are `MANY` detections or more."""
MANY = 2**31
POINTS = ("class_id", "score", "precision", "recall")


@dataclass(frozen=True, eq=False)
class Curves:
    """The true positives of each class by falling score, and how many false ones stand before each."""

    offsets: Ints
    """(C + 1,) the true positives of class c are offsets[c] to offsets[c + 1]."""
    score: Floats
    """(P,)"""
    true_before: Floats
    """(P,) what the true positives up to and with this one are worth: 1, or the weight of a group-of box."""
    false_before: Counts
    """(P,) false positives that stand before it."""
    false_until: Counts
    """(P,) false positives of at least its score: where scores are equal, more than stand before it."""
    truth: Floats
    """(C,) what the boxes of the truth are worth together."""

    @property
    def precision(self) -> Floats:
        """(P,) see `points`."""
        return self.points()[0]

    @property
    def recall(self) -> Floats:
        """(P,) see `points`."""
        return self.points()[1]

    def points(self) -> tuple[Floats, Floats]:
        """Precision tp / (tp + fp) and recall tp / truth (P,) with each true positive."""
        points = (np.empty(len(self.score)), np.empty(len(self.score)))
        _divide(self.offsets, self.true_before, self.false_before, self.truth, points)
        return points

    def write(self, path: str | Path, vocabulary: Vocabulary) -> None:
        """Write the points as CSV: class_id,score,precision,recall, by class and falling score."""
        ids = np.repeat(np.array(vocabulary.ids, object), np.diff(self.offsets))
        columns = (ids, *(column.tolist() for column in (self.score, *self.points())))
        write_csv(path, POINTS, zip(*columns, strict=True))


def curves(matches: Matches) -> Curves:
    """The curves of each class; see `Matches` for the order of equal scores."""
    matches = matches.by_id()
    classes = len(matches.vocabulary)
    truth = matches.truth_by_class @ [1.0, matches.group_of_weight]
    true = true_positives(matches)
    columns = matches.found
    offsets, score, rows = true[0]

    def count(first: int, last: int) -> tuple[Counts, Counts]:
        before, late = np.zeros(len(rows) + classes, rows.dtype), np.zeros(len(rows), rows.dtype)
        for start in range(first, last, BLOCK):
            _count_false(start, min(start + BLOCK, last), columns, true, before, late)
        return before, late

    (before, late), *others = in_chunks(count, len(matches), rows=len(matches), each=1)
    for other in others:
        before += other[0]
        late += other[1]
    del others
    false_before, false_until = _running(offsets, score, before, late)
    true_before = _sums(offsets, matches.worth[matches.outcome[rows]])
    return Curves(offsets, score, true_before, false_before, false_until, truth)


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


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _divide(
    offsets: Ints, true_before: Floats, false_before: Counts, truth: Floats, points: tuple[Floats, Floats]
) -> None:
    precision, recall = points
    for c in range(len(truth)):
        for p in range(offsets[c], offsets[c + 1]):
            precision[p] = true_before[p] / (true_before[p] + false_before[p])
            recall[p] = true_before[p] / truth[c]


@numba.njit(cache=True, nogil=True)
def _running(offsets: Ints, score: Floats, before: Counts, late: Counts) -> tuple[Counts, Counts]:
    """`Curves.false_before` and `false_until`, of what `_count_false` counts."""
    false_before, false_until = np.empty(len(score), before.dtype), np.empty(len(score), before.dtype)
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

Points = tuple[Floats, Counts]
"""True positives (P,) by class: score, row."""
Ordered = tuple[Ints, Floats, Counts]
"""True positives by class: offsets (C + 1,); score, falling within a class, and row (P,)."""
Index = tuple[Ints, NDArray[np.int32]]
"""Where scores stand, so that few are compared. The scores from 0 to 1 of a class with p true positives are divided
into the first power of two from p on. Offsets (C + 1,) of the classes; of each part how many true positives have a
score in it or above it, and a 0 at the end of each class."""
Lookup = tuple[Ordered, Index]
"""What finds the place of a detection among the true positives."""


def true_positives(matches: Matches) -> Lookup:
    """The true positives by class and falling score, equal ones by row, of `Matches.by_id`."""
    columns = matches.found
    weighs, classes = matches.worth > 0, len(matches.vocabulary)
    kind = np.int32 if len(matches) < MANY else np.int64
    parts = in_chunks(
        lambda first, last: _find_true(
            first, last, columns, weighs, np.empty(last - first + 1, kind), classes
        ),
        len(matches),
        rows=len(matches),
        each=max(EACH, len(matches) // BLOCK),
    )
    rows, counts = zip(*parts, strict=True)
    until = np.cumsum(counts, axis=0)
    offsets = np.concatenate([[0], np.cumsum(until[-1])])
    true = (np.empty(offsets[-1]), np.empty(offsets[-1], kind))
    after = until - counts + offsets[:-1]
    at_once([partial(_put_true, *some, columns, true) for some in zip(rows, after, strict=True)])
    del parts, rows
    ordered, index = _sorted(offsets, true)
    return (offsets, *ordered), index


@numba.njit(cache=True, nogil=True)
def _find_true(
    first: int, last: int, columns: Found, weighs: Bools, rows: Counts, classes: int
) -> tuple[Counts, Ints]:
    """Rows from first to last whose outcome weighs, and how many of each class (C,).

    Without a branch, which would be guessed wrong too often.

    Args:
        rows: memory for all of them and one more.
    """
    label, _, outcome = columns
    counts, count = np.zeros(classes, np.int64), 0
    for d in range(first, last):
        rows[count] = d  # written over by the next one
        count += weighs[outcome[d]]
    for d in rows[:count]:
        counts[label[d]] += 1
    return rows[:count].copy(), counts


@numba.njit(cache=True, nogil=True)
def _put_true(rows: Counts, after: Ints, columns: Found, true: Points) -> None:
    """Put rows where those of their class belong, `after` being the next place of each."""
    label, score, _ = columns
    for d in rows:
        p = after[label[d]]
        true[0][p], true[1][p] = score[d], d
        after[label[d]] = p + 1


def _sorted(offsets: Ints, true: Points) -> tuple[Points, Index]:
    """True positives of each class by falling score, equal ones in the order given; and the index of the scores."""
    parts = 1 << np.frexp(np.maximum(np.diff(offsets) - 1, 0))[1].astype(np.int64)
    first = np.concatenate([[0], np.cumsum(parts + 1)])
    above = np.zeros(first[-1], np.int32)
    ordered = (np.empty_like(true[0]), np.empty_like(true[1]))

    def task(begin: int, end: int) -> None:
        _sort_classes(begin, end, offsets, true, (first, above), ordered)

    over_lists(task, offsets)
    return ordered, (first, above)


@numba.njit(cache=True, nogil=True)
def _sort_classes(begin: int, end: int, offsets: Ints, true: Points, index: Index, ordered: Points) -> None:
    (score, row), (first, above), (sorted_score, sorted_row) = true, index, ordered
    for c in range(begin, end):
        base, start, parts = offsets[c], first[c], first[c + 1] - first[c] - 1
        for p in range(base, offsets[c + 1]):
            above[start + min(int(score[p] * parts), parts - 1)] += 1
        for k in range(start + parts - 1, start - 1, -1):
            above[k] += above[k + 1]
        after = above[start + 1 : start + parts + 1].copy()
        for p in range(base, offsets[c + 1]):
            k = min(int(score[p] * parts), parts - 1)
            place = base + after[k]
            sorted_score[place], sorted_row[place] = score[p], row[p]
            after[k] += 1
        for k in range(start, start + parts):
            low, high = base + above[k + 1], base + above[k]
            if high > low + 1:
                _sort(sorted_score[low:high], sorted_row[low:high])


@numba.njit(cache=True, nogil=True)
def _sort(score: Floats, rows: Counts) -> None:
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
def false_rows(first: int, last: int, classes: int, columns: Found) -> tuple[Ints, NDArray[np.int32], Floats]:
    """The false positives among rows first to last, by class: offsets of the classes, row - first, score.

    So the true positives of one class at a time are looked up, and stay in the processor's cache.
    """
    label, score, outcome = columns[0][first:last], columns[1][first:last], columns[2][first:last]
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
def places(c: int, first: int, rows: NDArray[np.int32], given: Floats, true: Lookup) -> NDArray[np.uint32]:
    """Of each of some detections of class c the first of its true positives, counted from 0, that stands behind it.

    Without a branch where a part of the scores has no true positive or one: a processor guesses what comes out of
    comparing scores as well as a coin does, and each wrong guess costs more than all else here.

    Args:
        first, rows: the detections are rows first + rows.
        given: their scores.
    """
    (offsets, scores, found), (starts, above) = true
    here = slice(offsets[c], offsets[c + 1])
    scores, found, above = scores[here], found[here], above[starts[c] : starts[c + 1]]
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
            place[k] = _behind_equals(first + rows[k], s, place[k], scores, found)
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
def _behind_equals(d: int, s: float, low: int, scores: Floats, rows: Counts) -> int:
    """Of the true positives from `low` on the first that stands behind row d of score s."""
    high = len(scores)
    while low < high:
        middle = (low + high) // 2
        if scores[middle] == s and rows[middle] < d:
            low = middle + 1
        else:
            high = middle
    return low


@numba.njit(cache=True, nogil=True)
def _count_false(first: int, last: int, columns: Found, true: Lookup, before: Counts, late: Counts) -> None:
    """Count false positives by their place, and those that stand after all true positives of their own score."""
    offsets, all_scores = true[0][0], true[0][1]
    class_offsets, rows, given = false_rows(first, last, len(offsets) - 1, columns)
    for c in range(len(offsets) - 1):
        here = slice(class_offsets[c], class_offsets[c + 1])
        place = places(c, first, rows[here], given[here], true)
        start, end = offsets[c], offsets[c + 1]
        scores, false_scores, counts = all_scores[start:end], given[here], before[start + c : end + c + 1]
        for k in range(len(place)):
            p, s = place[k], false_scores[k]
            counts[p] += 1
            if p > 0 and scores[p - 1] == s and (p == len(scores) or scores[p] < s):
                late[start + p - 1] += 1
