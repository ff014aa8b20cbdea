"""Non-maximum suppression and Soft-NMS over the detections of several models.

Letters: M models, C classes, D detections; s score, o IoU of two boxes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numba
import numpy as np
from numpy.typing import ArrayLike

from wildbox.boxes import overlap
from wildbox.detections import Detections
from wildbox.ensembling.pooling import check_threshold, pool
from wildbox.errors import ConfigError


def nms(
    models: Sequence[Detections],
    *,
    weights: ArrayLike | None = None,
    iou: float = 0.5,
    skip_below: float = 0.0,
) -> Detections:
    """Detections of several models without those that a better one of the same class overlaps.

    In each image and class boxes are taken by falling weighted score (ties: by x1, y1, x2, y2); one that stays
    removes the later ones whose IoU with it is above `iou`. Scores are those of the models times their weight for
    the class, divided by the largest of these weights. The result does not depend on the order of rows or images,
    nor on that of models.

    Args and errors: see `weighted_boxes_fusion`.

    >>> from wildbox.vocabulary import Vocabulary
    >>> cat, box = Vocabulary(("cat",)), [[0.0, 0.0, 1.0, 1.0]]
    >>> a, b = (Detections(cat, ("x",), image=[0], boxes=box, label=[0], score=[s]) for s in (0.75, 0.25))
    >>> nms([a, b]).score.tolist()
    [0.75]
    """
    check_threshold(iou)
    pooled = pool(models, weights=weights, skip_below=skip_below)
    keep = np.ones(len(pooled.score), np.bool_)
    pooled.over_groups(lambda first, last: _suppress(pooled.groups, first, last, pooled.boxes, iou, keep))
    return pooled.result(pooled.boxes, pooled.score, keep)


def soft_nms(
    models: Sequence[Detections],
    *,
    weights: ArrayLike | None = None,
    sigma: float | None = None,
    iou: float | None = None,
    skip_below: float = 0.0,
    drop_below: float = 0.001,
) -> Detections:
    """Detections of several models, scores lowered by how much better ones of the same class overlap them.

    In each image and class the box of the highest score is taken, and each one not yet taken falls by

        s <- s exp(-o^2 / sigma)                (the Gaussian of the paper; default, sigma 0.5)
        s <- s (1 - o)  where o > iou           (its linear decay, where `iou` is given)

    until none is left. Ties: the box that had the higher weighted score at first, then by x1, y1, x2, y2. Scores
    are weighed as in `nms`; the result does not depend on the order of rows, images or models. Source: Bodla,
    Singh, Chellappa, Davis: "Soft-NMS: Improving Object Detection With One Line of Code", ICCV 2017.

    Args:
        sigma: above 0.
        iou: in [0, 1), exclusive.
        drop_below: what has fallen below it is left out; in [0, 1]. The authors' code has 0.001.
        models, weights, skip_below: see `weighted_boxes_fusion`, errors also.
    Raises:
        ConfigError: also where both `sigma` and `iou` are given.

    >>> from wildbox.vocabulary import Vocabulary
    >>> cat, box = Vocabulary(("cat",)), [[0.0, 0.0, 1.0, 1.0]]
    >>> a, b = (Detections(cat, ("x",), image=[0], boxes=box, label=[0], score=[s]) for s in (0.75, 0.25))
    >>> soft_nms([a, b], sigma=1.0).score.round(3).tolist()  # 0.25 / e
    [0.75, 0.092]
    """
    if sigma is not None and iou is not None:
        raise ConfigError("Soft-NMS decays by sigma (Gaussian) or above iou (linear): give one of them")
    if iou is not None:
        check_threshold(iou)
    sigma = 0.5 if sigma is None else sigma
    if not 0 < sigma < math.inf:
        raise ConfigError(f"sigma is {sigma}, expected a finite number above 0")
    if not 0 <= drop_below <= 1:
        raise ConfigError(f"drop_below is {drop_below}, expected a score in [0, 1]")
    pooled = pool(models, weights=weights, skip_below=skip_below)
    score, boxes, groups = pooled.score.copy(), pooled.boxes, pooled.groups
    threshold = -1.0 if iou is None else iou
    pooled.over_groups(lambda first, last: decay(groups, first, last, boxes, sigma, threshold, score))
    return pooled.result(boxes, score, score >= drop_below)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _suppress(groups, first, last, boxes, iou, keep):  # type: ignore[no-untyped-def]
    for g in range(first, last):
        for d in range(groups[g], groups[g + 1]):
            for later in range(d + 1, groups[g + 1] if keep[d] else 0):
                if keep[later] and overlap(boxes, d, boxes, later) > iou:
                    keep[later] = False


@numba.njit(cache=True, nogil=True, error_model="numpy")
def decay(groups, first, last, boxes, sigma, iou, score):  # type: ignore[no-untyped-def]
    """Lower the scores in place: linearly above `iou`, or by the Gaussian where `iou` is negative."""
    taken = np.zeros(groups[last] - groups[first], np.bool_)
    start = groups[first]
    for g in range(first, last):
        begin, end = groups[g], groups[g + 1]
        for _ in range(begin, end):
            best = -1
            for d in range(begin, end):
                if not taken[d - start] and (best < 0 or score[d] > score[best]):
                    best = d
            taken[best - start] = True
            for d in range(begin, end):
                if taken[d - start]:
                    continue
                share = overlap(boxes, best, boxes, d)
                if iou < 0 and share > 0:
                    score[d] *= math.exp(-share * share / sigma)
                elif 0 <= iou < share:
                    score[d] *= 1 - share
