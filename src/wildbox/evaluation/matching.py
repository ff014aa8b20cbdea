"""Which detections find which boxes of the truth: true, false or ignored.

All images in one compiled pass. Within a class, detections are visited by falling score; what an image has
left is kept beside its boxes, so nothing is grouped by image and the cost grows linearly with detections
(each looks at the boxes of its class in its image only).

Letters: B images, N truth boxes, D detections, K detections that take part, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from wildbox.annotations import Annotations, Bools, Floats, Ints
from wildbox.boxes import intersection
from wildbox.detections import Detections
from wildbox.errors import ConfigError

FALSE, TRUE, GROUP, IGNORED = 0, 1, 2, 3
"""Outcomes. GROUP: the best of the detections that one group-of box absorbs."""


@dataclass(frozen=True, eq=False)
class Matches:
    """What became of K detections, by class; within a class by falling score, then image, then row."""

    rows: Ints
    """(K,) row of the detection in its table."""
    offsets: Ints
    """(C + 1,) the detections of class c are offsets[c] to offsets[c + 1]."""
    outcome: NDArray[np.int8]
    """(K,) FALSE, TRUE, GROUP or IGNORED."""


def match(
    detections: Detections,
    truth: Annotations,
    *,
    take_part: Bools | None = None,
    absorbing: bool,
    iou: float,
) -> Matches:
    """Match detections with the truth, whose images are the same in the same order.

    A detection is tried against one ordinary box only, that of largest IoU, the first among equals. Where it
    reaches `iou`, it is TRUE if that box is still free. Else it is FALSE, unless group-of boxes say more:

    - absorbing (Open Images): whatever is not TRUE is tried against the group-of box that holds the largest
      share of the detection's own area; where that share reaches `iou`, the first of the box's detections is
      GROUP (IGNORED if its score is 0, as the reference has it), later ones are IGNORED.
    - not absorbing (Pascal VOC's difficult objects): group-of boxes stand beside the ordinary ones when the
      largest IoU is sought, and whoever finds one is IGNORED.

    Args:
        take_part: (D,) detections to match; default: all.
    Raises:
        ConfigError: iou outside (0, 1].
    """
    if not 0 < iou <= 1:
        raise ConfigError(f"iou {iou} is outside (0, 1]")
    classes = len(truth.vocabulary)
    rows = _ranked(detections, take_part)
    by_class = np.argsort(truth.label, kind="stable")
    offsets = _offsets(detections.label[rows], classes)
    outcome = _match(
        rows,
        offsets,
        detections.image,
        detections.boxes,
        detections.score,
        _offsets(truth.label, classes),
        truth.image[by_class],
        truth.boxes[by_class],
        truth.is_group_of[by_class],
        len(truth.image_ids),
        iou,
        absorbing,
    )
    return Matches(rows, offsets, outcome)


def _ranked(detections: Detections, take_part: Bools | None) -> Ints:
    """Rows by class, then falling score; stable, so ties stay in the order of images, then of rows."""
    rows = np.arange(len(detections)) if take_part is None else np.flatnonzero(take_part)
    rows = rows[np.argsort(-detections.score[rows], kind="stable")]
    # The narrow type makes numpy's stable sort a radix sort.
    label = detections.label[rows].astype(np.min_scalar_type(len(detections.vocabulary)))
    return rows[np.argsort(label, kind="stable")]


def _offsets(label: Ints, classes: int) -> Ints:
    counts = np.bincount(label, minlength=classes)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


@numba.njit(cache=True, error_model="numpy")
def _match(
    rows: Ints,
    offsets: Ints,
    image: Ints,
    boxes: Floats,
    score: Floats,
    truth_offsets: Ints,
    truth_image: Ints,
    truth_boxes: Floats,
    is_group_of: Bools,
    images: int,
    iou: float,
    absorbing: bool,
) -> NDArray[np.int8]:
    """The truth is sorted by class, then image."""
    outcome = np.empty(len(rows), np.int8)
    found = np.zeros(len(truth_boxes), np.bool_)
    first = np.zeros(images, np.int64)  # of the class at hand, the boxes of image b are rows
    end = np.zeros(images, np.int64)  # first[b] to end[b]
    for c in range(len(offsets) - 1):
        begin, stop = truth_offsets[c], truth_offsets[c + 1]
        for t in range(begin, stop):
            b = truth_image[t]
            if t == begin or truth_image[t - 1] != b:
                first[b] = t
            end[b] = t + 1
        for k in range(offsets[c], offsets[c + 1]):
            d = rows[k]
            b = image[d]
            outcome[k] = FALSE
            if first[b] == end[b]:
                continue
            t, overlap = _largest_iou(boxes[d], truth_boxes, first[b], end[b], is_group_of, absorbing)
            if overlap >= iou:
                if is_group_of[t]:
                    outcome[k] = IGNORED
                elif not found[t]:
                    found[t] = True
                    outcome[k] = TRUE
            if absorbing and outcome[k] != TRUE:
                t, share = _largest_share(boxes[d], truth_boxes, first[b], end[b], is_group_of)
                if share >= iou:
                    outcome[k] = IGNORED if found[t] or score[d] <= 0.0 else GROUP
                    found[t] = True
        for t in range(begin, stop):
            first[truth_image[t]] = end[truth_image[t]] = 0
    return outcome


@numba.njit(cache=True, error_model="numpy")
def _largest_iou(
    box: Floats, boxes: Floats, first: int, end: int, is_group_of: Bools, ordinary_only: bool
) -> tuple[int, float]:
    """The first box of largest IoU and that IoU, -1 where there is no box."""
    best, largest = first, -1.0
    area = (box[2] - box[0]) * (box[3] - box[1])
    for t in range(first, end):
        if ordinary_only and is_group_of[t]:
            continue
        x1, y1, x2, y2 = boxes[t]
        shared = intersection(box[0], box[1], box[2], box[3], x1, y1, x2, y2)
        overlap = shared / (area + (x2 - x1) * (y2 - y1) - shared)
        if overlap > largest:
            best, largest = t, overlap
    return best, largest


@numba.njit(cache=True, error_model="numpy")
def _largest_share(box: Floats, boxes: Floats, first: int, end: int, is_group_of: Bools) -> tuple[int, float]:
    """The first group-of box that holds the largest share of `box`, and that share; -1 if there is none."""
    best, largest = first, -1.0
    area = (box[2] - box[0]) * (box[3] - box[1])
    for t in range(first, end):
        if is_group_of[t]:
            x1, y1, x2, y2 = boxes[t]
            share = intersection(box[0], box[1], box[2], box[3], x1, y1, x2, y2) / area
            if share > largest:
                best, largest = t, share
    return best, largest
