"""Intersection over union of two rows, for compiled loops, and the threshold it is compared with."""

from __future__ import annotations

import numba

from wildbox.annotations import Floats
from wildbox.boxes import intersection
from wildbox.errors import ConfigError


@numba.njit(cache=True, nogil=True, error_model="numpy")
def overlap(a: Floats, i: int, b: Floats, j: int) -> float:
    """Intersection over union of two boxes with area, row i of `a` and row j of `b`. Compiled."""
    shared = intersection(a[i, 0], a[i, 1], a[i, 2], a[i, 3], b[j, 0], b[j, 1], b[j, 2], b[j, 3])
    area = (a[i, 2] - a[i, 0]) * (a[i, 3] - a[i, 1])
    other = (b[j, 2] - b[j, 0]) * (b[j, 3] - b[j, 1])
    share: float = shared / (area + other - shared)
    return share


def check_threshold(iou: float) -> None:
    """`ConfigError` unless in [0, 1): boxes match *above* it, so that at 1 none would."""
    if not 0 <= iou < 1:
        raise ConfigError(f"iou is {iou}, expected a threshold in [0, 1)")
