"""Precision over recall of each class, at its true positives: between two of them precision only falls.

False positives are not sorted: each finds its place among the true positives of its class by bisection.

Letters: D detections, P true positives (what group-of boxes absorb being one each), C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from wildbox.annotations import Floats, Ints
from wildbox.evaluation.matches import Compact, Matches
from wildbox.evaluation.matching import FALSE, Outcomes
from wildbox.evaluation.threads import in_chunks
from wildbox.formats.files import write_csv
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
    rank = matches.image_rank()
    offsets, rows = true_rows(matches, rank)
    score = matches.score[rows]
    places = (offsets, score, rank[matches.image[rows]], rows)
    columns = (matches.label, matches.score, matches.image, matches.outcome)

    def count(first: int, last: int) -> tuple[Ints, Ints]:
        before, until = np.zeros(len(rows) + classes, np.int64), np.zeros(len(rows), np.int64)
        _count_false(first, last, columns, rank, places, before, until)
        return before, until

    counted = in_chunks(count, len(matches), rows=len(matches), each=1)
    before, late = (np.sum([part[i] for part in counted], axis=0) for i in (0, 1))
    first_of = np.repeat(np.arange(classes), np.diff(offsets)) + np.arange(
        len(rows)
    )  # a class has a slot more
    running = np.cumsum(before)
    class_start = np.repeat(offsets[:-1] + np.arange(classes), np.diff(offsets))
    stand_before = running[first_of] - (running - before)[class_start]
    return Curves(
        offsets,
        score,
        matches.worth[matches.outcome[rows]],
        stand_before,
        _until(offsets, score, stand_before, late),
        truth,
    )


def true_rows(matches: Matches, rank: Ints) -> tuple[Ints, Ints]:
    """Rows (P,) of the true positives by class and, within it, by falling score; and where classes begin."""
    rows = np.flatnonzero((matches.worth > 0)[matches.outcome])
    if np.any(rank[1:] < rank[:-1]):
        rows = rows[np.argsort(rank[matches.image[rows]], kind="stable")]
    rows = rows[np.argsort(matches.label[rows], kind="stable")]
    counts = np.bincount(matches.label[rows], minlength=len(matches.vocabulary))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    score = -matches.score[rows]
    for first, last in pairwise(offsets):
        rows[first:last] = rows[first:last][np.argsort(score[first:last], kind="stable")]
    return offsets, rows


Places = tuple[Ints, Floats, Ints, Ints]
"""True positives by class: offsets (C + 1,); score, rank of the image and row (P,)."""
Columns = tuple[Compact, Floats, NDArray[Any], Outcomes]
"""Of all detections (D,): label, score, image, outcome."""


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
def place(
    d: int,
    s: float,
    low: int,
    high: int,
    image: NDArray[Any],
    rank: Ints,
    scores: Floats,
    ranks: Ints,
    rows: Ints,
) -> int:
    """Which of the true positives from low to high is the first that stands behind detection d of score s."""
    left = high - low
    while left > 1:  # no branch in it for the processor to guess
        half = left // 2
        low += half * (scores[low + half - 1] > s)
        left -= half
    if left == 1:
        low += scores[low] > s
    if low == high or scores[low] != s:
        return low
    r = rank[image[d]]
    while low < high:
        middle = (low + high) // 2
        if scores[middle] == s and (ranks[middle] < r or (ranks[middle] == r and rows[middle] < d)):
            low = middle + 1
        else:
            high = middle
    return low


@numba.njit(cache=True, nogil=True)
def _count_false(
    first: int, last: int, columns: Columns, rank: Ints, places: Places, before: Ints, late: Ints
) -> None:
    """Count false positives by their place, and those that stand after all true positives of their own score."""
    offsets, scores, ranks, true_rows = places
    image = columns[2]
    class_offsets, rows, false_scores = false_rows(first, last, len(offsets) - 1, columns)
    for c in range(len(offsets) - 1):
        begin, end = offsets[c], offsets[c + 1]
        for k in range(class_offsets[c], class_offsets[c + 1]):
            s = false_scores[k]
            p = place(rows[k], s, begin, end, image, rank, scores, ranks, true_rows)
            before[p + c] += 1
            if p > begin and scores[p - 1] == s and (p == end or scores[p] < s):
                late[p - 1] += 1


def _until(offsets: Ints, score: Floats, before: Ints, late: Ints) -> Ints:
    return (before + late)[last_of_equals(offsets, score)]


def last_of_equals(offsets: Ints, score: Floats) -> Ints:
    """(P,) the last true positive of the same class and score."""
    if not len(score):
        return np.zeros(0, np.int64)
    label = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    ends = np.flatnonzero(np.append((score[1:] != score[:-1]) | (label[1:] != label[:-1]), True))
    return ends[np.searchsorted(ends, np.arange(len(score)))]
