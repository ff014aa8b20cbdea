"""Numbers of a precision-recall curve: the area under it, Pascal VOC's eleven points, the best F1.

Letters: C classes, P true positives.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np

from wildbox.annotations import Floats, Ints
from wildbox.evaluation.curves import Counts, Curves

Area = Callable[[Floats, Floats], float]
"""(precision, recall) at the true positives of a class, by falling score -> average precision."""


def area_under(precision: Floats, recall: Floats) -> float:
    """Area under the curve of precision over recall, precision made non-increasing from the right.

    Beyond the last recall precision is 0.
    Source: Pascal VOC devkit since 2010 (`VOCap`), and the TensorFlow Object Detection API, `metrics.py`.

    Args:
        precision, recall: (P,) at the true positives, recall rising.
    Returns:
        In [0, 1]; 0 without true positives.

    >>> area_under(np.array([1.0, 2 / 3]), np.array([0.25, 0.5]))  # 1/4 at precision 1, 1/4 at 2/3
    0.41666666666666663
    """
    return float(_area(precision, recall))


@numba.njit(cache=True, nogil=True)
def _area(precision: Floats, recall: Floats) -> float:
    area, best = 0.0, 0.0
    for k in range(len(recall) - 1, -1, -1):
        best = max(best, precision[k])
        area += best * (recall[k] - (recall[k - 1] if k else 0.0))
    return area


def eleven_point(precision: Floats, recall: Floats) -> float:
    """Mean of the best precision at a recall of at least 0, 0.1, ..., 1, 0 where that is not reached.

    The recalls are those of numpy's `arange(0, 1.1, 0.1)`, as in the Python ports of the devkit (three of them are
    a last bit above the decimal, so a class with 10 boxes of which 3 are found does not reach the recall 0.3).
    Source: Pascal VOC devkit until 2009 (`VOCevaldet`); Fast R-CNN, `voc_eval.py`.

    >>> eleven_point(np.array([1.0]), np.array([0.25]))  # recall 0, 0.1, 0.2
    0.2727272727272727
    """
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(np.mean(envelope[np.searchsorted(recall, np.arange(0.0, 1.1, 0.1))]))


def average_precisions(curves: Curves, *, area: Area = area_under) -> Floats:
    """Average precision (C,) of each class; NaN where it has no truth."""
    ap, ends = np.full(len(curves.truth), np.nan), curves.offsets.tolist()
    precision, recall = curves.points()
    for c in np.flatnonzero(curves.truth > 0).tolist():
        part = slice(ends[c], ends[c + 1])
        ap[c] = area(precision[part], recall[part])
    return ap


def best_f1(curves: Curves) -> tuple[Floats, Floats]:
    """The best F1 (C,) = 2 tp / (tp + fp + truth) of each class, and the score from which on it is reached.

    All detections of at least that score are taken; of equal F1 the highest score. NaN where the class has no
    truth; F1 is 0 and the score NaN where nothing true was found.
    """
    best, threshold = np.where(curves.truth > 0, 0.0, np.nan), np.full(len(curves.truth), np.nan)
    points = (curves.score, curves.true_before, curves.false_until)
    _search_best(curves.offsets, points, curves.truth, best, threshold)
    return best, threshold


@numba.njit(cache=True, nogil=True)
def _search_best(
    offsets: Ints, points: tuple[Floats, Floats, Counts], truth: Floats, best: Floats, threshold: Floats
) -> None:
    score, true_before, false_until = points
    for c in range(len(truth)):
        for p in range(offsets[c], offsets[c + 1]):
            if p + 1 == offsets[c + 1] or score[p + 1] != score[p]:  # the last of those of its score
                f1 = 2 * true_before[p] / (true_before[p] + false_until[p] + truth[c])
                if f1 > best[c]:
                    best[c], threshold[c] = f1, score[p]
