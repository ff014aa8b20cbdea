"""Lists of rows, of which list l is rows offsets[l] to offsets[l + 1]: where they begin, and sorting each.

Letters: B images.
"""

from __future__ import annotations

import numba
import numpy as np

from wildbox.annotations import Floats, Ints
from wildbox.threads import over_lists


def offsets_of(image: Ints, images: int) -> Ints:
    """(B + 1,) the bounds of each image's rows, where `image` is sorted."""
    return np.searchsorted(image, np.arange(images + 1)).astype(np.int64)


def sort_rows(rows: Ints, offsets: Ints, label: Ints, score: Floats, boxes: Floats) -> None:
    """Sort, in place, the row numbers of each image by class, falling score and box; equal ones stay in order.

    Args:
        rows: of the columns `label`, `score`, `boxes`; those of image b stand from offsets[b] to offsets[b + 1].
    """
    spare = np.empty_like(rows)
    over_lists(lambda first, last: _sort(offsets, first, last, label, score, boxes, rows, spare), offsets)


@numba.njit(cache=True, nogil=True)
def _stands_before(i, j, label, score, boxes):  # type: ignore[no-untyped-def]
    if label[i] != label[j]:
        return label[i] < label[j]
    if score[i] != score[j]:
        return score[i] > score[j]
    for k in range(4):
        if boxes[i, k] != boxes[j, k]:
            return boxes[i, k] < boxes[j, k]
    return False


@numba.njit(cache=True, nogil=True)
def _sort(offsets, first, last, label, score, boxes, order, spare):  # type: ignore[no-untyped-def]
    """Merge sort of each image's part of `order`: runs of growing width, by way of `spare`."""
    for image in range(first, last):
        begin, end = offsets[image], offsets[image + 1]
        width = 1
        while width < end - begin:
            for low in range(begin, end, 2 * width):
                middle, high = min(low + width, end), min(low + 2 * width, end)
                a, b = low, middle
                for at in range(low, high):
                    if a < middle and not (
                        b < high and _stands_before(order[b], order[a], label, score, boxes)
                    ):
                        spare[at] = order[a]
                        a += 1
                    else:
                        spare[at] = order[b]
                        b += 1
            order[begin:end] = spare[begin:end]
            width *= 2
