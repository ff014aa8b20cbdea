"""Which detections find which boxes of the truth: true, false or ignored.

One compiled pass, image by image and in threads. Nothing is sorted: a box goes to the best of the detections that
ask for it, so the cost grows linearly with detections (each looks at the boxes of its class in its image only).

Letters: B images, N truth boxes, D detections, C classes.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from wildbox.annotations import Annotations, Bools, Floats, ImageLabels, Ints
from wildbox.boxes import intersection, overlap
from wildbox.detections import Detections
from wildbox.errors import ConfigError
from wildbox.threads import over_lists

FALSE, TRUE, GROUP, IGNORED, UNVERIFIED, NO_AREA, BEYOND = range(7)
"""Outcomes; those from IGNORED on do not count.

TRUE: the best of the detections whose nearest box it is. GROUP: the best of those that one group-of box absorbs;
IGNORED: the others of them, or one that found a difficult object. UNVERIFIED: nobody looked for its class in its
image. NO_AREA: an empty or turned box. BEYOND: more detections of its class in its image than are looked at.
"""

Outcomes = NDArray[np.int8]
Found = tuple[Ints, Ints, Floats, Floats]
"""Detections: offsets of the images (B + 1,); label (D,), score (D,), boxes (D, 4)."""
Places = NDArray[np.uint64]
"""Unsigned, since a compiled loop looks at each signed index whether it counts from the end."""
FoundInImage = tuple[Places, Floats, Floats]
"""Those of the image at hand: label, score, boxes."""
Truth = tuple[Ints, Ints, Floats, Bools]
"""Offsets of the images (B + 1,); label (N,), boxes (N, 4), is_group_of (N,)."""
Chains = tuple[Ints, Ints, Ints]
"""The boxes of each class in the image at hand, counted from the image's first and in their order: of each class the
first of its ordinary and the first of its group-of boxes (C, 2), where these are matched apart, and else the first of
all and none; of each box the next one of its chain. -1: none. And of each box the first of the detections that reached
it, likewise."""
Asking = tuple[Places, Places, Ints, Floats, Places]
"""Memory for the detections of the image at hand: those whose class has an ordinary box there, those whose class has a
group-of box; of each of the former the box of largest IoU and that IoU; and which of these reach it."""


def match(
    detections: Detections,
    truth: Annotations,
    *,
    absorbing: bool,
    iou: float,
    verified_only: bool = False,
    limit: int | None = None,
) -> tuple[Outcomes, Bools]:
    """Match detections with the truth, whose images are the same in the same order.

    A detection is tried against one ordinary box only, that of largest IoU, the first in the truth among equals. Of
    those that reach `iou` with a box, the one that stands first is TRUE: it has the highest score or, among equal
    scores, the smallest box, by x1, then y1, x2, y2. The others are FALSE, unless group-of boxes say more:

    - absorbing (Open Images): detections without area are NO_AREA. Whatever is not TRUE is tried against the
      group-of box that holds the largest share of the detection's own area; of those that reach `iou` with it, the
      first is GROUP (IGNORED if its score is 0, as the reference has it), the others are IGNORED.
    - not absorbing (Pascal VOC's difficult objects): group-of boxes stand beside the ordinary ones when the
      largest IoU is sought, and whoever finds one is IGNORED.

    Args:
        verified_only: a detection is UNVERIFIED where its class has neither a box nor an image label in its image.
        limit: detections of one class in one image that are looked at, the first; default: all.
    Returns:
        (D,) outcomes, and (B,) whether equal scores of one class in the image came out differently.
    Raises:
        ConfigError: iou outside (0, 1].
    """
    if not 0 < iou <= 1:
        raise ConfigError(f"iou {iou} is outside (0, 1]")
    outcome = np.zeros(len(detections), np.int8)
    if limit is not None and len(detections) > limit:
        _cut(detections, limit, outcome)
    tied = np.zeros(len(truth.image_ids), bool)
    by_image = np.argsort(truth.image_labels.image, kind="stable")
    tables = (
        (detections.offsets, detections.label, detections.score, detections.boxes),
        (truth.offsets, truth.label, truth.boxes, truth.is_group_of),
        (_offsets(truth.image_labels, len(tied)), truth.image_labels.label[by_image]),
    )
    classes = len(truth.vocabulary)

    def task(first: int, last: int) -> None:
        _match_images(first, last, *tables, classes, iou, absorbing, verified_only, outcome, tied)

    over_lists(task, detections.offsets)
    return outcome, tied


def _offsets(labels: ImageLabels, images: int) -> Ints:
    return np.concatenate([[0], np.cumsum(np.bincount(labels.image, minlength=images))]).astype(np.int64)


def _cut(detections: Detections, limit: int, outcome: Outcomes) -> None:
    """Mark what is beyond the first `limit` of its class in its image; boxes without area are not counted."""
    for b in np.flatnonzero(np.diff(detections.offsets) > limit):
        rows = np.arange(detections.offsets[b], detections.offsets[b + 1])
        rows = rows[(detections.boxes[rows, 2:] > detections.boxes[rows, :2]).all(axis=1)]
        x1, y1, x2, y2 = detections.boxes[rows].T
        rows = rows[np.lexsort((y2, x2, y1, x1, -detections.score[rows], detections.label[rows]))]
        label = detections.label[rows]
        outcome[rows[np.arange(len(rows)) - np.searchsorted(label, label) >= limit]] = BEYOND


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _match_images(
    first: int,
    last: int,
    found: Found,
    truth: Truth,
    verified: tuple[Ints, Ints],
    classes: int,
    iou: float,
    absorbing: bool,
    verified_only: bool,
    outcome: Outcomes,
    tied: Bools,
) -> None:
    offsets, label, score, boxes = found
    looked_for = np.full(classes, -1, np.int64)
    most, most_found = _longest(truth[0][first : last + 1]), _longest(offsets[first : last + 1])
    start = np.full((classes, 2), -1, np.int64)
    link, winner = np.empty(most, np.int64), np.empty(most, np.int64)
    asking = (
        np.empty(most_found, np.uint64),
        np.empty(most_found, np.uint64),
        np.empty(most_found, np.int64),
        np.empty(most_found, np.float64),
        np.empty(most_found, np.uint64),
    )
    for b in range(first, last):
        begin, end = truth[0][b], truth[0][b + 1]
        winner[: end - begin] = -1
        for t in range(end - begin - 1, -1, -1):
            c, apart = truth[1][begin + t], int(absorbing and truth[3][begin + t])
            link[t], start[c, apart] = start[c, apart], t
            looked_for[c] = b
        for i in range(verified[0][b], verified[0][b + 1]):
            looked_for[verified[1][i]] = b
        here = slice(offsets[b], offsets[b + 1])
        if verified_only:
            _leave_out_unverified(looked_for, b, label[here], outcome[here])
        tied[b] = _match_image(
            (label[here].view(np.uint64), score[here], boxes[here]),
            (truth[2][begin:end], truth[3][begin:end]),
            (start, link, winner),
            asking,
            iou,
            absorbing,
            outcome[here],
        )
        for t in range(begin, end):
            start[truth[1][t]] = -1


@numba.njit(cache=True, nogil=True)
def _leave_out_unverified(looked_for: Ints, b: int, label: Ints, outcome: Outcomes) -> None:
    for d in range(len(label)):
        if looked_for[label[d]] != b and outcome[d] == FALSE:
            outcome[d] = UNVERIFIED


@numba.njit(cache=True, nogil=True)
def _longest(offsets: Ints) -> int:
    """Rows of the longest list."""
    most = 0
    for i in range(len(offsets) - 1):
        most = max(most, offsets[i + 1] - offsets[i])
    return most


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _match_image(
    found: FoundInImage,
    truth: tuple[Floats, Bools],
    chains: Chains,
    asking: Asking,
    iou: float,
    absorbing: bool,
    outcome: Outcomes,
) -> bool:
    """Let the detections of an image ask for the box of largest IoU, which keeps the first of them; group-of boxes
    absorb what is left. Whether equal scores came out differently."""
    label, score, boxes = found
    (start, link, winner), (asked, near_groups, nearest, _, reached), is_group_of = chains, asking, truth[1]
    if absorbing:
        for d in range(len(label)):
            if not ((boxes[d, 0] < boxes[d, 2]) & (boxes[d, 1] < boxes[d, 3])):
                outcome[d] = NO_AREA
    asked = asked[: _with_box(label, start[:, 0], outcome, asked)]
    for k in reached[: _find(asked, label, boxes, truth[0], chains, asking, iou)]:
        d, t = asked[k], nearest[k]
        if is_group_of[t]:
            outcome[d] = IGNORED
        elif winner[t] < 0 or _stands_before(d, winner[t], score, boxes):
            winner[t] = d
    for d in winner[: len(is_group_of)]:
        if d >= 0:
            outcome[d] = TRUE
    if not (absorbing and is_group_of.any()):
        return _any_tied(asked, len(is_group_of), found, chains, outcome)
    near_groups = near_groups[: _with_box(label, start[:, 1], outcome, near_groups)]
    for d in near_groups:
        t = _absorb(d, start[label[d], 1], link, boxes, truth[0], iou)
        if t >= 0:
            outcome[d] = IGNORED
            if winner[t] < 0 or _stands_before(d, winner[t], score, boxes):
                winner[t] = d
    for t in range(len(is_group_of)):
        if is_group_of[t] and winner[t] >= 0 and score[winner[t]] > 0:
            outcome[winner[t]] = GROUP
    return _any_tied(asked, len(is_group_of), found, chains, outcome) or _any_tied(
        near_groups, len(is_group_of), found, chains, outcome
    )


@numba.njit(cache=True, nogil=True)
def _with_box(label: Places, start: Ints, outcome: Outcomes, rows: Places) -> int:
    """Put into `rows` the detections that are FALSE so far and whose class has a box; how many these are.

    Without a branch, which would be guessed wrong too often, as below.
    """
    count = 0
    for d in range(len(label)):
        rows[count] = d  # written over by the next one
        count += (outcome[d] == FALSE) & (start[label[d]] >= 0)
    return count


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _find(
    asked: Places,
    label: Places,
    found: Floats,
    boxes: Floats,
    chains: Chains,
    asking: Asking,
    iou: float,
) -> int:
    """Of each detection that asks the box of largest IoU, the first of its chain among equals; and those, in order,
    of which that is at least `iou`: how many these are."""
    (start, link, _), (_, _, nearest, largest, some) = chains, asking
    count = 0
    for k in range(len(asked)):
        d = asked[k]
        t = start[label[d], 0]
        share = overlap(found, d, boxes, t)
        nearest[k], largest[k] = t, share if share > -1.0 else -1.0  # of two without area it is NaN
        some[count] = k
        count += link[t] >= 0
    for k in some[:count]:
        best, most, d, t = nearest[k], largest[k], asked[k], link[nearest[k]]
        while t >= 0:
            share = overlap(found, d, boxes, t)
            is_more = share > most
            best, most = t if is_more else best, share if is_more else most
            t = link[t]
        nearest[k], largest[k] = best, most
    count = 0
    for k in range(len(asked)):
        some[count] = k
        count += largest[k] >= iou
    return count


@numba.njit(cache=True, nogil=True)
def _any_tied(asked: Places, boxes: int, found: FoundInImage, chains: Chains, outcome: Outcomes) -> bool:
    """Whether a TRUE or GROUP detection has the score of another one of its class whose outcome differs.

    Few have the score of any of them: those that may are told by one bit for each of 64 kinds of scores.
    """
    (label, score, _), (start, link, winner) = found, chains
    there = np.uint64(0)
    for other in winner[:boxes]:
        if other >= 0 and outcome[other] < IGNORED:
            there |= _kind(score[other])
    for d in asked:
        others = (outcome[d] == FALSE) | (outcome[d] == GROUP)  # a TRUE one is among those that these look at
        if others & (there & _kind(score[d]) != 0):
            for i in range(2):
                t = start[label[d], i]
                while t >= 0:
                    other = winner[t]
                    if other >= 0 and score[other] == score[d] and outcome[d] != outcome[other] < IGNORED:
                        return True
                    t = link[t]
    return False


@numba.njit(cache=True, inline="always")
def _kind(score: float) -> np.uint64:
    return np.uint64(1) << (np.uint64(score * 2**20) & np.uint64(63))


@numba.njit(cache=True, nogil=True)
def _stands_before(a: int, b: int, score: Floats, boxes: Floats) -> bool:
    """Whether detection a stands before detection b; of two that are equal in all, neither does."""
    if score[a] != score[b]:
        return bool(score[a] > score[b])
    for i in range(4):
        if boxes[a, i] != boxes[b, i]:
            return bool(boxes[a, i] < boxes[b, i])
    return False


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _absorb(d: int, t: int, link: Ints, found: Floats, boxes: Floats, iou: float) -> int:
    """Of the chain from t on, the first box with the largest share of detection d; -1 below `iou`."""
    best, largest = -1, -1.0
    ax1, ay1, ax2, ay2 = found[d, 0], found[d, 1], found[d, 2], found[d, 3]
    area = (ax2 - ax1) * (ay2 - ay1)
    while t >= 0:
        shared = intersection(ax1, ay1, ax2, ay2, boxes[t, 0], boxes[t, 1], boxes[t, 2], boxes[t, 3])
        if shared / area > largest:
            best, largest = t, shared / area
        t = link[t]
    return best if largest >= iou else -1
