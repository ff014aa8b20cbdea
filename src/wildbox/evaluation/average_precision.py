"""Area under the monotone precision-recall curve.

Letters: C classes, K detections of a class.
"""

from __future__ import annotations

import numba
import numpy as np

from wildbox.annotations import Floats, Ints
from wildbox.evaluation.matching import IGNORED, Matches


@numba.njit(cache=True)
def average_precision(worth: Floats, truth: float) -> float:
    """Area under the curve of precision over recall, precision made non-increasing from the right.

    After k detections, tp the sum of what the true ones are worth and fp the number of the others:
    precision = tp / (tp + fp), recall = tp / truth. Beyond the last recall precision is 0.
    Source: Pascal VOC devkit since 2010 (`VOCap`), and the TensorFlow Object Detection API, `metrics.py`.

    Args:
        worth: (K,) by falling score: 0 for a false positive, else what the true one is worth.
        truth: what all boxes of the truth are worth together.
    Returns:
        In [0, 1]: 0 without detections, NaN without truth.

    >>> average_precision(np.array([1.0, 0.0, 1.0]), 4.0)  # 1/4 at precision 1, 1/4 at 2/3
    0.41666666666666663
    """
    if truth == 0:
        return np.nan
    precision = np.empty(len(worth))
    recall = np.empty(len(worth))
    tp, fp = 0.0, 0.0
    for k in range(len(worth)):
        if worth[k] > 0:
            tp += worth[k]
        else:
            fp += 1.0
        precision[k] = tp / (tp + fp)
        recall[k] = tp / truth
    area, envelope = 0.0, 0.0
    for k in range(len(worth) - 1, -1, -1):
        envelope = max(envelope, precision[k])
        area += envelope * (recall[k] - (recall[k - 1] if k else 0.0))
    return area


def class_average_precisions(
    matches: Matches, truth: Floats, *, group_of_weight: float = 0.0
) -> tuple[Floats, Ints]:
    """Average precision of each class, and how many of its detections count.

    Args:
        truth: (C,) what the boxes of each class are worth together.
        group_of_weight: what a GROUP is worth; with 0 it is ignored.
    Returns:
        (C,) average precision, NaN where the class has no truth, and (C,) number of true and false positives.
    """
    worth = np.array([0.0, 1.0, group_of_weight])
    ap = np.full(len(truth), np.nan)
    counted = np.zeros(len(truth), np.int64)
    last = IGNORED if group_of_weight > 0 else IGNORED - 1  # outcomes below it count
    for c in range(len(truth)):
        outcome = matches.outcome[matches.offsets[c] : matches.offsets[c + 1]]
        outcome = outcome[outcome < last]
        ap[c] = average_precision(worth[outcome], float(truth[c]))
        counted[c] = len(outcome)
    return ap, counted
