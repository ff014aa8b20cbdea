"""Where the class names of a picture go: those of one object together, beside it, none over another.

Letters: N boxes, G groups (objects), W, H width and height of a panel. Lengths are points, y grows downwards.
"""

from __future__ import annotations

import numpy as np

from wildbox.boxes import Floats, iou, pairwise_intersection

GAP = 1.0
"""Points left free between two blocks of names."""
COVER_COST = 30.0
"""A block moves this many points away rather than lie on a picture's box entirely."""


def group_boxes(boxes: Floats, *, order: Floats, same_object: float = 0.9) -> list[list[int]]:
    """Rows of `boxes` (N, 4) that mark one object: IoU > `same_object` to the group's first row.

    The row with the largest `order` (N,) opens the first group; ties keep the order of the rows.

    >>> group_boxes(np.array([[0, 0, 9, 9], [20, 0, 29, 9], [0, 0, 9, 9.1]]), order=np.array([0.5, 0.6, 0.7]))
    [[2, 0], [1]]
    """
    same = iou(boxes, boxes) > same_object
    free = np.ones(len(boxes), bool)
    groups = []
    ranked = np.argsort(-order, kind="stable")
    for first in ranked:
        if free[first]:
            rows = [int(row) for row in ranked if free[row] and (same[first, row] or row == first)]
            free[rows] = False
            groups.append(rows)
    return groups


def place_labels(boxes: Floats, sizes: Floats, *, width: float, height: float) -> Floats:
    """Top left corners (G, 2) of G blocks of text in a panel of `width` x `height`.

    Args:
        boxes: (G, 4) the box that each block names.
        sizes: (G, 2) width and height of each block.

    No two blocks overlap and none leaves the panel; a block for which no room is left gets NaN. Large blocks
    are placed first. A place costs its distance from the box, and more where it hides boxes; ties go to the
    place nearest to the corner above the box.

    >>> box, size = np.array([[20.0, 20.0, 40.0, 40.0]]), np.array([[15.0, 8.0]])
    >>> place_labels(box, size, width=99, height=99).tolist()
    [[20.0, 12.0]]
    """
    corners = np.full((len(boxes), 2), np.nan)
    taken = np.zeros((0, 4))
    for i in np.argsort(-sizes[:, 0] * sizes[:, 1], kind="stable"):
        (w, h), box = sizes[i], boxes[i]
        if w > width or h > height:
            continue
        xs = _positions(box[0], box[2], w, width)
        ys = _positions(box[1], box[3], h, height)
        corner = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
        rect = np.concatenate([corner, corner + sizes[i]], axis=1)
        allowed = ~(pairwise_intersection(rect, taken) > 0).any(axis=1)
        if not allowed.any():
            continue
        corner, rect = corner[allowed], rect[allowed]
        preferred = np.hypot(*(corner - [box[0], box[1] - h]).T)
        hidden = pairwise_intersection(rect, boxes).sum(axis=1) / (w * h)
        cost = COVER_COST * hidden + distances(rect, box) + 0.01 * preferred
        best = int(np.argmin(cost))
        corners[i] = corner[best]
        taken = np.vstack([taken, rect[best] + np.array([-GAP, -GAP, GAP, GAP])])
    return corners


def _positions(low: float, high: float, size: float, limit: float) -> Floats:
    """Starts along one axis: flush with and centred on the box, and a grid over the panel."""
    flush = [low, high - size, low - size, high, (low + high - size) / 2, low - size - 6, high + 6]
    grid = np.linspace(0, limit - size, max(2, int((limit - size) / 4)))
    return np.unique(np.concatenate([np.clip(flush, 0, limit - size), grid]))


def distances(rects: Floats, box: Floats) -> Floats:
    """Free space between each rectangle (M, 4) and one box (4,), as (M,); 0 where they touch."""
    apart = np.maximum(np.maximum(rects[:, :2] - box[2:], box[:2] - rects[:, 2:]), 0)
    return np.asarray(np.hypot(apart[:, 0], apart[:, 1]))


def leader(rect: Floats, box: Floats) -> tuple[Floats, Floats]:
    """The shortest line between a rectangle and a box, as its two ends (2,) and (2,).

    >>> [end.tolist() for end in leader(np.array([0.0, 0.0, 2.0, 2.0]), np.array([5.0, 0.0, 9.0, 4.0]))]
    [[2.0, 1.0], [5.0, 1.0]]
    """
    low, high = np.maximum(rect[:2], box[:2]), np.minimum(rect[2:], box[2:])
    middle = (low + high) / 2
    start = np.where(low <= high, middle, np.where(rect[2:] < box[:2], rect[2:], rect[:2]))
    end = np.where(low <= high, middle, np.where(rect[2:] < box[:2], box[:2], box[2:]))
    return start, end
