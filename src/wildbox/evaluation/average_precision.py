"""Numbers of a precision-recall curve: the area under it, Pascal VOC's eleven points, the best F1.

Letters: C classes, P true positives.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wildbox.annotations import Floats
from wildbox.evaluation.curves import Curves, last_of_equals

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
    rise = recall.copy()
    rise[1:] -= recall[:-1]
    rise *= np.maximum.accumulate(precision[::-1])[::-1]
    return float(rise.sum())


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
    precision, recall = curves.precision, curves.recall
    ap = np.full(len(curves.truth), np.nan)
    for c in np.flatnonzero(curves.truth > 0):
        part = slice(curves.offsets[c], curves.offsets[c + 1])
        ap[c] = area(precision[part], recall[part])
    return ap


def best_f1(curves: Curves) -> tuple[Floats, Floats]:
    """The best F1 (C,) = 2 tp / (tp + fp + truth) of each class, and the score from which on it is reached.

    All detections of at least that score are taken; of equal F1 the highest score. NaN where the class has no
    truth; F1 is 0 and the score NaN where nothing true was found.
    """
    tp = curves.true_before[last_of_equals(curves.offsets, curves.score)]
    f1 = 2 * tp / (tp + curves.false_until + np.repeat(curves.truth, np.diff(curves.offsets)))
    best, threshold = np.where(curves.truth > 0, 0.0, np.nan), np.full(len(curves.truth), np.nan)
    for c in np.flatnonzero(np.diff(curves.offsets)):
        part = slice(curves.offsets[c], curves.offsets[c + 1])
        k = int(np.argmax(f1[part]))
        best[c], threshold[c] = f1[part][k], curves.score[part][k]
    return best, threshold
