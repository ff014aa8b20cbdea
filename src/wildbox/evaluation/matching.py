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
from wildbox.boxes import intersection
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
Truth = tuple[Ints, Ints, Floats, Bools]
"""Offsets of the images (B + 1,); label (N,), boxes (N, 4), is_group_of (N,)."""
Chains = tuple[Ints, Ints, Ints, Ints]
"""The boxes of a class in the image at hand, counted from its first and in their order. Of each class: the latest image
that holds a box of it, and the first of these boxes. Of each box: the next one of the chain, -1 for none, and the first
of the detections that reached it, likewise."""
Asking = tuple[Ints, Ints]
"""The detections of an image whose class has a box there, and the box that each reached, -1 for none."""


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
    offsets, label, score, _ = found
    looked_for = np.full(classes, -1, np.int64)
    most, most_found = _longest(truth[0][first : last + 1]), _longest(offsets[first : last + 1])
    boxed_in, start = np.full(classes, -1, np.int64), np.empty(classes, np.int64)
    link, winner = np.empty(most, np.int64), np.empty(most, np.int64)
    asking = (np.empty(most_found, np.int64), np.empty(most_found, np.int64))
    for b in range(first, last):
        begin, end = truth[0][b], truth[0][b + 1]
        winner[: end - begin] = -1
        for t in range(end - begin - 1, -1, -1):
            c = truth[1][begin + t]
            link[t] = start[c] if boxed_in[c] == b else -1
            start[c] = t
            boxed_in[c] = looked_for[c] = b
        for i in range(verified[0][b], verified[0][b + 1]):
            looked_for[verified[1][i]] = b
        for d in range(offsets[b], offsets[b + 1]):
            if verified_only and looked_for[label[d]] != b and outcome[d] == FALSE:
                outcome[d] = UNVERIFIED
        boxes = (truth[2][begin:end], truth[3][begin:end])
        count = _match_image(
            b, found, boxes, (boxed_in, start, link, winner), asking, iou, absorbing, outcome
        )
        for d in asking[0][:count]:
            if outcome[d] < IGNORED and _is_tied(d, start[label[d]], link, winner, score, outcome):
                tied[b] = True
                break


@numba.njit(cache=True, nogil=True)
def _longest(offsets: Ints) -> int:
    """Rows of the longest list."""
    most = 0
    for i in range(len(offsets) - 1):
        most = max(most, offsets[i + 1] - offsets[i])
    return most


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _match_image(
    b: int,
    found: Found,
    truth: tuple[Floats, Bools],
    chains: Chains,
    asking: Asking,
    iou: float,
    absorbing: bool,
    outcome: Outcomes,
) -> int:
    """Let the detections of image b ask for the box of largest IoU, which keeps the first of them; group-of boxes
    absorb what is left. How many detections asked."""
    offsets, label, score, boxes = found
    boxed_in, start, link, winner = chains
    asked, nearest = asking
    count = 0
    for d in range(offsets[b], offsets[b + 1]):
        if absorbing and not (boxes[d, 0] < boxes[d, 2] and boxes[d, 1] < boxes[d, 3]):
            outcome[d] = NO_AREA
        elif outcome[d] == FALSE and boxed_in[label[d]] == b:
            t = _find(d, start[label[d]], link, boxes, truth, iou, absorbing)
            asked[count], nearest[count] = d, t
            count += 1
            if t >= 0 and (winner[t] < 0 or _stands_before(d, winner[t], score, boxes)):
                winner[t] = d
    is_group_of = truth[1]
    for k in range(count):
        d, t = asked[k], nearest[k]
        if t >= 0 and is_group_of[t]:
            outcome[d] = IGNORED
        elif t >= 0 and winner[t] == d:
            outcome[d] = TRUE
        elif absorbing:
            t = _absorb(d, start[label[d]], link, boxes, truth, iou)
            if t >= 0:
                outcome[d] = IGNORED
                if winner[t] < 0 or _stands_before(d, winner[t], score, boxes):
                    winner[t] = d
    if absorbing:
        for t in range(len(is_group_of)):
            if is_group_of[t] and winner[t] >= 0 and score[winner[t]] > 0:
                outcome[winner[t]] = GROUP
    return count


@numba.njit(cache=True, nogil=True)
def _stands_before(a: int, b: int, score: Floats, boxes: Floats) -> bool:
    """Whether detection a stands before detection b; of two that are equal in all, neither does."""
    if score[a] != score[b]:
        return bool(score[a] > score[b])
    for i in range(4):
        if boxes[a, i] != boxes[b, i]:
            return bool(boxes[a, i] < boxes[b, i])
    return False


@numba.njit(cache=True, nogil=True)
def _is_tied(d: int, t: int, link: Ints, winner: Ints, score: Floats, outcome: Outcomes) -> bool:
    """Whether a TRUE or GROUP detection of the class has d's score, and d another outcome."""
    while t >= 0:
        other = winner[t]
        if other >= 0 and score[other] == score[d] and outcome[d] != outcome[other] < IGNORED:
            return True
        t = link[t]
    return False


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _find(
    d: int,
    t: int,
    link: Ints,
    found: Floats,
    truth: tuple[Floats, Bools],
    iou: float,
    ordinary_only: bool,
) -> int:
    """Of the chain from t on, the first box of largest IoU with detection d; -1 where that is below `iou`."""
    (boxes, is_group_of), best, largest = truth, -1, -1.0
    ax1, ay1, ax2, ay2 = found[d, 0], found[d, 1], found[d, 2], found[d, 3]
    area = (ax2 - ax1) * (ay2 - ay1)
    while t >= 0:
        if not (ordinary_only and is_group_of[t]):
            x1, y1, x2, y2 = boxes[t, 0], boxes[t, 1], boxes[t, 2], boxes[t, 3]
            shared = intersection(ax1, ay1, ax2, ay2, x1, y1, x2, y2)
            overlap = shared / (area + (x2 - x1) * (y2 - y1) - shared)
            if overlap > largest:
                best, largest = t, overlap
        t = link[t]
    return best if largest >= iou else -1


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _absorb(d: int, t: int, link: Ints, found: Floats, truth: tuple[Floats, Bools], iou: float) -> int:
    """Of the chain from t on, the first group-of box with the largest share of detection d; -1 below `iou`."""
    (boxes, is_group_of), best, largest = truth, -1, -1.0
    ax1, ay1, ax2, ay2 = found[d, 0], found[d, 1], found[d, 2], found[d, 3]
    area = (ax2 - ax1) * (ay2 - ay1)
    while t >= 0:
        if is_group_of[t]:
            shared = intersection(ax1, ay1, ax2, ay2, boxes[t, 0], boxes[t, 1], boxes[t, 2], boxes[t, 3])
            if shared / area > largest:
                best, largest = t, shared / area
        t = link[t]
    return best if largest >= iou else -1
