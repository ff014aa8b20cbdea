"""What kinds of errors a detector makes: wrong class, poor box, duplicate, background, missed.

Letters: B images, N truth boxes, D detections, C classes.
Source: Bolya, Foley, Hays, Hoffman, TIDE: A General Toolbox for Identifying Object Detection Errors (ECCV 2020).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from wildbox.annotations import Annotations, Bools, Floats, Ints
from wildbox.boxes import overlap
from wildbox.detections import Detections
from wildbox.errors import ConfigError, InputError
from wildbox.evaluation.average_precision import average_precisions
from wildbox.evaluation.curves import curves
from wildbox.evaluation.matches import Matches
from wildbox.evaluation.matching import FALSE, IGNORED, TRUE, Found, Outcomes, Truth
from wildbox.evaluation.protocol import Protocol
from wildbox.evaluation.result import known_mean
from wildbox.formats.files import write_csv
from wildbox.threads import over_lists
from wildbox.vocabulary import Vocabulary

POOR_BOX, WRONG_CLASS, DUPLICATE, BACKGROUND, BOTH, MISSED = range(6)
KINDS = ("poor_box", "wrong_class", "duplicate", "background", "wrong_class_and_poor_box", "missed")
"""Names of the kinds, by number. Of a false positive, the first that fits, where IoU is the largest with ordinary
boxes of its image, t the protocol's least IoU and b `background`:

- poor_box: b <= IoU < t with a box of its class;
- wrong_class: IoU >= t with a box of another class, and not the same IoU with one of its own (beyond TIDE: there an
  object has several labels, as after expansion, and a second detection of one of them is a duplicate);
- duplicate: IoU >= t with a box of its class, which another detection found;
- background: IoU <= b with all boxes;
- wrong_class_and_poor_box: b < IoU < t with a box of another class.

missed: a box of the truth that nothing found, and that no poor_box or wrong_class is nearest to.
"""


@dataclass(frozen=True, eq=False)
class ErrorKinds:
    """Errors of C classes by kind."""

    vocabulary: Vocabulary
    counts: Ints
    """(C, 6) errors of each kind: of false positives by their class, of missed boxes by theirs."""
    mean_ap: float
    without: Floats
    """(6,) mean average precision if the errors of a kind were not made: without these false positives, or without
    the missed boxes in the truth."""
    confused: Ints
    """(Q, 3) class of the detection, class of the truth, number of wrong_class errors; most frequent first."""

    def interchangeable(self, rates: ArrayLike) -> tuple[float, float]:
        """How much of the wrong_class errors is a label that the truth itself uses for the same objects.

        Args:
            rates: (C, C) concurrent rates: [i, j] is the share of the boxes of class i that are also labelled j.
        Returns:
            Share of the errors whose two classes concur, in either direction; and the mean rate at which boxes of
            the truth's class also carry the detection's: the share that would be right by chance had the annotators
            labelled these boxes once more. NaN without errors.
        Raises:
            InputError: rates of another shape.

        >>> kinds = ErrorKinds(Vocabulary(("torch", "flashlight", "cat")), np.zeros((3, 6)), 0.5, np.zeros(6),
        ...                    np.array([[0, 1, 3], [0, 2, 1]]))
        >>> kinds.interchangeable([[0, 0.5, 0], [0.2, 0, 0], [0, 0, 0]])
        (0.75, 0.15)
        """
        table = np.asarray(rates, np.float64)
        if table.shape != (len(self.vocabulary),) * 2:
            raise InputError(f"rates of shape {table.shape} for {len(self.vocabulary)} classes")
        if not len(self.confused):
            return float("nan"), float("nan")
        found, true, count = self.confused.T
        concur = (table[true, found] > 0) | (table[found, true] > 0)
        total = count.sum()
        return float(count[concur].sum() / total), round(
            float((count * table[true, found]).sum() / total), 15
        )

    def write(self, path: str | Path) -> None:
        """Write the counts as CSV: class_id, class_name, then a column for each kind."""
        rows = zip(self.vocabulary.ids, self.vocabulary.names, self.counts.tolist(), strict=True)
        write_csv(path, ("class_id", "class_name", *KINDS), ((id_, name, *row) for id_, name, row in rows))

    def write_confused(self, path: str | Path, rates: ArrayLike | None = None) -> None:
        """Write who is taken for whom as CSV: detected, truth, their names, errors, and the two rates if given."""
        ids, names = self.vocabulary.ids, self.vocabulary.names
        table = None if rates is None else np.asarray(rates, np.float64)
        rows = []
        for found, true, count in self.confused.tolist():
            both = () if table is None else (float(table[true, found]), float(table[found, true]))
            rows.append((ids[found], ids[true], names[found], names[true], count, *both))
        further = () if table is None else ("rate", "rate_back")
        write_csv(path, ("detected", "truth", "detected_name", "truth_name", "errors", *further), rows)


def error_kinds(
    detections: Detections,
    truth: Annotations,
    *,
    protocol: Protocol,
    min_score: float | Floats = 0.0,
    background: float = 0.1,
) -> ErrorKinds:
    """Tell the errors of detections apart; the truth is expanded already where a hierarchy is in use.

    What the protocol ignores is no error. Where boxes of several labels lie on one spot, a wrong class is told of
    the first of them, which after expansion is the label that people gave.

    Args:
        min_score: only detections of at least this score, one for all classes or (C,) of each; NaN: none of it.
            Over all scores most errors are false positives that hardly matter; `best_f1` has a working point.
        background: IoU up to which nothing is there, above 0 and below the protocol's.
    Raises:
        ConfigError: background outside that.
        InputError, and Warns: as `Protocol.match`.
    """
    if not 0 < background < protocol.iou:
        raise ConfigError(
            f"background {background}, expected more than 0 and less than the least IoU {protocol.iou}"
        )
    detections, truth = protocol.on_same_images(detections, truth)
    outcome, tied = protocol.outcomes(detections, truth)
    classes = len(truth.vocabulary)
    least = np.broadcast_to(np.asarray(min_score, np.float64), (classes,))
    outcome[~(detections.score >= least[detections.label])] = IGNORED
    kind = np.full(len(detections), -1, np.int8)
    nearest = np.full(len(detections), -1, np.int64)
    found = (detections.offsets, detections.label, detections.score, detections.boxes)
    boxes = (truth.offsets, truth.label, truth.boxes, truth.is_group_of)
    over_lists(
        lambda first, last: _tell_apart(
            first, last, found, boxes, protocol.iou, background, outcome, kind, nearest
        ),
        detections.offsets,
    )
    told = ((kind == POOR_BOX) | (kind == WRONG_CLASS) | (outcome == TRUE)) & (nearest >= 0)
    missed = ~truth.is_group_of
    missed[nearest[told]] = False
    false = kind >= 0
    keys = detections.label[false] * len(KINDS) + kind[false]
    counts = np.bincount(keys, minlength=classes * len(KINDS)).reshape(classes, len(KINDS))
    counts[:, MISSED] = np.bincount(truth.label[missed], minlength=classes)
    wrong = kind == WRONG_CLASS
    whole = protocol.kept(detections, truth, outcome, tied)
    without = [
        _without_detections(kind == k, detections, truth, outcome, tied, protocol) for k in range(MISSED)
    ]
    without.append(_mean_ap(_without_boxes(whole, missed), protocol))
    pairs = _counted(detections.label[wrong], truth.label[nearest[wrong]], classes)
    return ErrorKinds(truth.vocabulary, counts, _mean_ap(whole, protocol), np.array(without), pairs)


def _without_detections(
    gone: Bools,
    detections: Detections,
    truth: Annotations,
    outcome: Outcomes,
    tied: Bools,
    protocol: Protocol,
) -> float:
    outcome = outcome.copy()
    outcome[gone] = IGNORED
    return _mean_ap(protocol.kept(detections, truth, outcome, tied), protocol)


def _mean_ap(matches: Matches, protocol: Protocol) -> float:
    return known_mean(average_precisions(curves(matches), area=protocol.area))


def _without_boxes(matches: Matches, gone: Bools) -> Matches:
    return replace(
        matches,
        truth_image=matches.truth_image[~gone],
        truth_label=matches.truth_label[~gone],
        truth_is_group_of=matches.truth_is_group_of[~gone],
    )


def _counted(found: Ints, true: Ints, classes: int) -> Ints:
    """(Q, 3) pairs with their number; most frequent first, ties by classes."""
    keys, count = np.unique(found * classes + true, return_counts=True)
    order = np.argsort(-count, kind="stable")
    return np.column_stack([keys // max(classes, 1), keys % max(classes, 1), count])[order]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _tell_apart(
    first: int,
    last: int,
    found: Found,
    truth: Truth,
    iou: float,
    background: float,
    outcome: Outcomes,
    kind: NDArray[np.int8],
    nearest: Ints,
) -> None:
    """Kind of each false positive; and of it, if its kind has one, or of a true one, the nearest box."""
    offsets, label, _, boxes = found
    truth_offsets, truth_label, truth_boxes, is_group_of = truth
    for b in range(first, last):
        begin, end = truth_offsets[b], truth_offsets[b + 1]
        for d in range(offsets[b], offsets[b + 1]):
            if outcome[d] != FALSE and outcome[d] != TRUE:
                continue
            own, own_iou, other, other_iou = _two_nearest(
                d, label[d], begin, end, boxes, truth_label, truth_boxes, is_group_of
            )
            nearest[d] = own
            if outcome[d] == TRUE:
                continue
            if background <= own_iou < iou:
                kind[d] = POOR_BOX
            elif other_iou >= iou and other_iou != own_iou:
                kind[d], nearest[d] = WRONG_CLASS, other
            elif own_iou >= iou:
                kind[d] = DUPLICATE
            elif max(own_iou, other_iou) <= background:
                kind[d] = BACKGROUND
            else:
                kind[d] = BOTH


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _two_nearest(
    d: int,
    c: int,
    begin: int,
    end: int,
    found: Floats,
    label: Ints,
    boxes: Floats,
    is_group_of: Bools,
) -> tuple[int, float, int, float]:
    """The first ordinary box of largest IoU of class c, and of the others; -1 and IoU -1 where there is none."""
    own, own_iou, other, other_iou = -1, -1.0, -1, -1.0
    for t in range(begin, end):
        if is_group_of[t]:
            continue
        share = overlap(found, d, boxes, t)
        if label[t] == c:
            if share > own_iou:
                own, own_iou = t, share
        elif share > other_iou:
            other, other_iou = t, share
    return own, own_iou, other, other_iou
