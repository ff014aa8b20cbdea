"""Arithmetic of axis-aligned boxes, as arrays and as compiled scalars.

A box is `(x1, y1, x2, y2)` with x1 <= x2 and y1 <= y2, in any unit; its area is (x2 - x1)(y2 - y1), with no
"+ 1" for pixels. Letters: N, M boxes.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

import wildbox.loop_cache  # noqa: F401  # before the first loop

Floats = NDArray[np.float64]


@numba.njit(cache=True, inline="always")
def intersection(
    ax1: float, ay1: float, ax2: float, ay2: float, bx1: float, by1: float, bx2: float, by2: float
) -> float:
    """Area that two boxes share; 0 where they only touch. Compiled, for inner loops."""
    width = min(ax2, bx2) - max(ax1, bx1)
    height = min(ay2, by2) - max(ay1, by1)
    return width * height if (width > 0.0) & (height > 0.0) else 0.0


@numba.njit(cache=True, inline="always")
def overlap(a: Floats, i: int, b: Floats, j: int) -> float:
    """Intersection over union of row i of `a` and row j of `b`; NaN of two without area.

    Compiled, for loops whose `error_model` is numpy's: in others two boxes without area are a ZeroDivisionError.
    """
    ax1, ay1, ax2, ay2 = a[i, 0], a[i, 1], a[i, 2], a[i, 3]
    bx1, by1, bx2, by2 = b[j, 0], b[j, 1], b[j, 2], b[j, 3]
    shared = intersection(ax1, ay1, ax2, ay2, bx1, by1, bx2, by2)
    return float(shared / ((ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - shared))


@numba.njit(cache=True, nogil=True)
def areas(boxes: Floats) -> Floats:
    """Areas of boxes (N, 4), as (N,); 0 for a turned box. In one pass: numpy's expression makes five arrays on the way.

    >>> areas(np.array([[0.0, 0.0, 2.0, 3.0]]))
    array([6.])
    """
    found = np.empty(len(boxes), boxes.dtype)
    for row in range(len(boxes)):
        found[row] = max(boxes[row, 2] - boxes[row, 0], 0) * max(boxes[row, 3] - boxes[row, 1], 0)
    return found


@numba.njit(cache=True, inline="always")
def _is_empty(boxes: Floats, row: int) -> bool:
    return bool((boxes[row, 2] <= boxes[row, 0]) | (boxes[row, 3] <= boxes[row, 1]))


@numba.njit(cache=True, nogil=True)
def count_empty(boxes: Floats) -> int:
    """How many boxes (N, 4) have no width or no height, or are turned around.

    >>> count_empty(np.array([[0.0, 0.0, 2.0, 0.0], [0.0, 0.0, 2.0, 1.0]]))
    1
    """
    count = 0
    for row in range(len(boxes)):
        count += _is_empty(boxes, row)
    return count


@numba.njit(cache=True, nogil=True)
def first_empty(boxes: Floats) -> int:
    """Row of the first of those that `count_empty` counts; -1 without any.

    >>> first_empty(np.array([[0.0, 0.0, 2.0, 1.0], [0.0, 0.0, 2.0, 0.0]]))
    1
    """
    for row in range(len(boxes)):
        if _is_empty(boxes, row):
            return row
    return -1


def pairwise_intersection(a: Floats, b: Floats) -> Floats:
    """Shared area of every pair: (N, 4), (M, 4) -> (N, M)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides: Floats = np.maximum(high - low, 0)
    return np.asarray(sides[..., 0] * sides[..., 1])


def iou(a: Floats, b: Floats) -> Floats:
    """Intersection over union of every pair: (N, 4), (M, 4) -> (N, M) in [0, 1].

    Two boxes without area have IoU 0.

    >>> iou(np.array([[0.0, 0.0, 1.0, 1.0]]), np.array([[0.5, 0.0, 1.0, 1.0]]))
    array([[0.5]])
    """
    shared = pairwise_intersection(a, b)
    union = areas(a)[:, None] + areas(b)[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def clip(boxes: Floats, *, width: float, height: float) -> Floats:
    """Boxes (N, 4) cut to the frame [0, width] x [0, height]; a box outside loses its area.

    >>> clip(np.array([[-1.0, 0.5, 2.0, 3.0]]), width=1, height=1)
    array([[0. , 0.5, 1. , 1. ]])
    """
    return np.clip(boxes, 0.0, np.array([width, height, width, height], dtype=np.float64))
