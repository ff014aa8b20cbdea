"""Precision over recall of each class, at its true positives: between two of them precision only falls.

False positives are not sorted: each finds its place among the true positives of its class by a table of scores. Once
the true positives are sorted, the cost is linear, unless scores crowd so that the table does not tell them apart.

Letters: D detections, P true positives (what group-of boxes absorb being one each), C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numba
import numpy as np
from numpy.typing import NDArray

from wildbox.annotations import Floats, Ints
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
        total = np.empty(len(self.worth))
        for first, last in pairwise(self.offsets):
            np.cumsum(self.worth[first:last], out=total[first:last])
        return total

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
    truth = np.bincount(matches.truth_label, weights=matches.truth_weight, minlength=classes).astype(
        np.float64
    )
    true = true_positives(matches)
    columns = (matches.label, matches.score, matches.offsets, matches.outcome)
    offsets, score, _, rows = true.ordered

    def count(first: int, last: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        before, late = np.zeros(len(rows) + classes, np.int32), np.zeros(len(rows), np.int32)
        for start in range(first, last, BLOCK):
            _count_false(
                start, min(start + BLOCK, last), columns, true.rank, true.ordered, true.index, before, late
            )
        return before, late

    counted = in_chunks(count, len(matches), rows=len(matches), each=1)
    before, late = (np.sum([part[i] for part in counted], axis=0, dtype=np.int64) for i in (0, 1))
    label = np.repeat(np.arange(classes), np.diff(offsets))
    running = np.cumsum(before)
    first_of = offsets[:-1] + np.arange(classes)  # a class has a slot more than true positives
    stand_before = running[np.arange(len(rows)) + label] - (running - before)[first_of][label]
    return Curves(
        offsets,
        score,
        matches.worth[matches.outcome[rows]],
        stand_before,
        (stand_before + late)[last_of_equals(offsets, score)],
        truth,
    )


BLOCK = 2**20
"""Detections that are sorted by class at once: 16 bytes of memory for each."""
FEW = 16
"""Scores up to which inserting one after the other sorts them fastest."""

Ordered = tuple[Ints, Floats, Ints, Ints]
"""True positives by class: offsets (C + 1,); score, falling within a class, rank of the image and row (P,)."""
Index = tuple[Ints, NDArray[np.int32]]
"""Where scores stand, so that few are compared. The scores from 0 to 1 of a class with p true positives are divided
into the first power of two from p on. Offsets (C + 1,) of the classes; of each part how many true positives have a
score in it or above it, and a 0 at the end of each class."""
Columns = tuple[Compact, Floats, Ints, Outcomes]
"""Of all detections (D,) label and score; offsets of the images (B + 1,); outcome (D,)."""


@dataclass(frozen=True, eq=False)
class TruePositives:
    """The true positives of each class in their order, and what finds the place of another detection among them."""

    rank: Ints
    """(B,) see `Matches.image_rank`."""
    ordered: Ordered
    index: Index


def true_positives(matches: Matches) -> TruePositives:
    """The true positives by class, falling score, and the order of equals that `Matches` states."""
    rank = matches.image_rank()
    worthy = [matches.outcome == outcome for outcome in np.flatnonzero(matches.worth > 0).tolist()]
    rows = np.flatnonzero(np.logical_or.reduce(worthy))
    of_image = rank[matches.image_of(rows)]
    if np.any(rank[1:] < rank[:-1]):
        order = np.argsort(of_image, kind="stable")
        rows, of_image = rows[order], of_image[order]
    order = np.argsort(matches.label[rows], kind="stable")
    counts = np.bincount(matches.label[rows], minlength=len(matches.vocabulary))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    score, order, index = _sorted(offsets, matches.score[rows[order]], order)
    return TruePositives(rank, (offsets, score, of_image[order], rows[order]), index)


def _sorted(offsets: Ints, score: Floats, rows: Ints) -> tuple[Floats, Ints, Index]:
    """Scores and rows of each class by falling score, equal ones in the order given; and the index of the scores."""
    parts = 1 << np.frexp(np.maximum(np.diff(offsets) - 1, 0))[1].astype(np.int64)
    first = np.concatenate([[0], np.cumsum(parts + 1)])
    above = np.zeros(first[-1], np.int32)
    sorted_score, sorted_rows = np.empty_like(score), np.empty_like(rows)

    def task(begin: int, end: int) -> None:
        _sort_classes(begin, end, offsets, (score, rows), (first, above), (sorted_score, sorted_rows))

    over_lists(task, offsets)
    return sorted_score, sorted_rows, (first, above)


@numba.njit(cache=True, nogil=True)
def _sort_classes(
    begin: int,
    end: int,
    offsets: Ints,
    given: tuple[Floats, Ints],
    index: Index,
    out: tuple[Floats, Ints],
) -> None:
    (score, rows), (first, above), (sorted_score, sorted_rows) = given, index, out
    for c in range(begin, end):
        start, parts = first[c], first[c + 1] - first[c] - 1
        for p in range(offsets[c], offsets[c + 1]):
            above[start + min(int(score[p] * parts), parts - 1)] += 1
        for k in range(start + parts - 1, start - 1, -1):
            above[k] += above[k + 1]
        after = offsets[c] + above[start + 1 : start + parts + 1]
        for p in range(offsets[c], offsets[c + 1]):
            k = min(int(score[p] * parts), parts - 1)
            sorted_score[after[k]], sorted_rows[after[k]] = score[p], rows[p]
            after[k] += 1
        for k in range(parts):
            low, high = offsets[c] + above[start + k + 1], offsets[c] + above[start + k]
            _sort(sorted_score[low:high], sorted_rows[low:high])


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
def false_rows(first: int, last: int, classes: int, columns: Columns) -> tuple[Ints, Ints, Floats]:
    """The false positives among rows first to last, by class: offsets of the classes, row, score.

    So the true positives of one class at a time are looked up, and stay in the processor's cache.
    """
    label, score, _, outcome = columns
    offsets = np.zeros(classes + 1, np.int64)
    for d in range(first, last):
        if outcome[d] == FALSE:
            offsets[label[d] + 1] += 1
    offsets = np.cumsum(offsets)
    after = offsets.copy()
    rows, scores = np.empty(offsets[-1], np.int64), np.empty(offsets[-1], np.float64)
    for d in range(first, last):
        if outcome[d] == FALSE:
            rows[after[label[d]]] = d
            scores[after[label[d]]] = score[d]
            after[label[d]] += 1
    return offsets, rows, scores


@numba.njit(cache=True, nogil=True)
def place(d: int, s: float, c: int, images: Ints, rank: Ints, ordered: Ordered, index: Index) -> int:
    """Which of the true positives of class c is the first that stands behind detection d of score s.

    Args:
        images: offsets of the images (B + 1,).
    """
    offsets, scores, ranks, rows = ordered
    first, above = index
    parts = first[c + 1] - first[c] - 1
    k = first[c] + min(int(s * parts), parts - 1)
    low, high = int(offsets[c] + above[k + 1]), int(offsets[c] + above[k])
    while low < high:
        middle = (low + high) // 2
        earlier = scores[middle] > s
        if scores[middle] == s:
            r = rank[np.searchsorted(images, d, side="right") - 1]
            earlier = ranks[middle] < r or (ranks[middle] == r and rows[middle] < d)
        if earlier:
            low = middle + 1
        else:
            high = middle
    return low


@numba.njit(cache=True, nogil=True)
def _count_false(
    first: int,
    last: int,
    columns: Columns,
    rank: Ints,
    ordered: Ordered,
    index: Index,
    before: NDArray[np.int32],
    late: NDArray[np.int32],
) -> None:
    """Count false positives by their place, and those that stand after all true positives of their own score."""
    offsets, scores, _, _ = ordered
    class_offsets, rows, false_scores = false_rows(first, last, len(offsets) - 1, columns)
    for c in range(len(offsets) - 1):
        for k in range(class_offsets[c], class_offsets[c + 1]):
            s = false_scores[k]
            p = place(rows[k], s, c, columns[2], rank, ordered, index)
            before[p + c] += 1
            if p > offsets[c] and scores[p - 1] == s and (p == offsets[c + 1] or scores[p] < s):
                late[p - 1] += 1


def last_of_equals(offsets: Ints, score: Floats) -> Ints:
    """(P,) the last true positive of the same class and score."""
    is_last = np.append(score[1:] != score[:-1], True)[: len(score)]
    is_last[offsets[1:][np.diff(offsets) > 0] - 1] = True
    ends = np.flatnonzero(is_last)
    return np.repeat(ends, np.diff(ends, prepend=-1))
