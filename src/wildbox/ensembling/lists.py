"""Lists of rows, of which list l is rows offsets[l] to offsets[l + 1]: work on them in threads, sort each.

Letters: L lists, D rows, B images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from wildbox.annotations import Floats, Ints

FEW = 20_000
"""Rows up to which a second thread costs more than it saves."""
CHUNKS = 8
"""Pieces of work a thread, since some take longer than others."""


def offsets_of(image: Ints, images: int) -> Ints:
    """(B + 1,) the bounds of each image's rows, where `image` is sorted."""
    return np.searchsorted(image, np.arange(images + 1)).astype(np.int64)


def over_lists(task: Callable[[int, int], None], offsets: Ints) -> None:
    """Call task(first, last) on ranges of the lists, of about as many rows each."""
    lists, rows = len(offsets) - 1, int(offsets[-1])
    threads = min(numba.get_num_threads(), math.ceil(rows / FEW))
    if threads <= 1:
        task(0, lists)
        return
    bounds = np.searchsorted(offsets, np.linspace(0, rows, CHUNKS * threads + 1)[1:-1])
    bounds = np.unique([0, *bounds, lists])
    with ThreadPoolExecutor(threads) as threads_:
        list(threads_.map(task, bounds[:-1].tolist(), bounds[1:].tolist()))


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
