"""Weighted boxes fusion: boxes that several models agree on become one.

Source: Solovyev, Wang, Gabruseva: "Weighted boxes fusion: Ensembling boxes from different object detection
models", Image and Vision Computing 107 (2021), arXiv 1910.13302. Letters: M models, C classes, D detections;
in a cluster of T boxes: C_i score, w_i weight of its model, X_i coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np
from numpy.typing import ArrayLike

from wildbox.boxes import overlap
from wildbox.detections import Detections
from wildbox.ensembling.pooling import check_threshold, pool

TINY = 1e-300
"""Scores up to it are too small to weigh coordinates by."""


def weighted_boxes_fusion(
    models: Sequence[Detections],
    *,
    weights: ArrayLike | None = None,
    iou: float = 0.55,
    skip_below: float = 0.0,
) -> Detections:
    """Detections of several models, those that lie on one another averaged.

    In each image and class boxes are taken by falling weighted score w_i C_i (ties: by x1, y1, x2, y2). A box joins
    the cluster whose fused box overlaps it most (ties: the older one) if that IoU is above `iou`, else it founds
    one. A cluster's box is fused anew with each member:

        X = sum_i w_i C_i X_i / sum_i w_i C_i                      C = sum_i w_i C_i / max(sum_i w_i, W)

    where W is the sum of the weights of all M models. With equal weights C is the paper's mean score times
    min(T, M) / M. The result does not depend on the order of rows or images, on that of models only by rounding.
    A cluster of scores 0 keeps its first box.

    Args:
        models: on the same images (see `on_same_images`), of the same classes; coordinates in one unit.
        weights: (M,) or (M, C), from 0 on; only their ratios within a class count, and a model of weight 0 is as
            if it were not there. Default: all the same.
        iou: in [0, 1), exclusive.
        skip_below: detections of a lower score (before weighing) are left out; in [0, 1].
    Returns:
        Detections on the images of the first model; rows of an image by class, the best first; scores in [0, 1].
        No detections give none.
    Raises:
        ConfigError: no models, a setting outside its range.
        InputError: models of different classes or images, a coordinate that is not finite.
    Warns:
        InputWarning: counts boxes without area, or turned around, which are left out.

    >>> from wildbox.vocabulary import Vocabulary
    >>> cat, box = Vocabulary(("cat",)), [[0.0, 0.0, 1.0, 1.0]]
    >>> a, b = (Detections(cat, ("x",), image=[0], boxes=box, label=[0], score=[s]) for s in (0.75, 0.25))
    >>> weighted_boxes_fusion([a, b]).score.tolist()
    [0.5]
    """
    check_threshold(iou)
    pooled = pool(models, weights=weights, skip_below=skip_below)
    boxes, score = np.empty_like(pooled.boxes), np.empty_like(pooled.score)
    keep = np.zeros(len(score), np.bool_)
    columns = (pooled.boxes, pooled.score, pooled.weight, pooled.class_weight[pooled.label])
    pooled.over_groups(
        lambda first, last: _fuse(pooled.groups, first, last, *columns, iou, boxes, score, keep)
    )
    return pooled.result(boxes, score, keep)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _fuse(  # type: ignore[no-untyped-def]
    groups, first, last, boxes, score, weight, all_weights, iou, fused, fused_score, keep
):
    """Write the clusters of each group to its first rows, and say which rows those are."""
    largest_group = 0
    for g in range(first, last):
        largest_group = max(largest_group, groups[g + 1] - groups[g])
    moment = np.empty((largest_group, 4))  # sum of w C X
    mass = np.empty(largest_group)  # sum of w C
    support = np.empty(largest_group)  # sum of w
    for g in range(first, last):
        begin, clusters = groups[g], 0
        for d in range(begin, groups[g + 1]):
            best, largest = -1, iou
            for c in range(clusters):
                share = overlap(fused, begin + c, boxes, d)
                if share > largest:
                    best, largest = c, share
            if best < 0:
                best = clusters
                clusters += 1
                moment[best] = score[d] * boxes[d]
                mass[best], support[best] = score[d], weight[d]
                fused[begin + best] = boxes[d]
                continue
            mass[best] += score[d]
            support[best] += weight[d]
            for k in range(4):
                moment[best, k] += score[d] * boxes[d, k]
                if mass[best] > TINY:
                    fused[begin + best, k] = moment[best, k] / mass[best]
        for c in range(clusters):
            fused_score[begin + c] = mass[c] / max(support[c], all_weights[begin])
            keep[begin + c] = True
