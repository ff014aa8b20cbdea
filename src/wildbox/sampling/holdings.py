"""Which image holds which class, and the other way round.

Letters: B images, C classes, E entries (image, class), as many as there are labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import index

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

import wildbox.loop_cache  # noqa: F401  # before the first loop
from wildbox.errors import ConfigError, InputError

Ints = NDArray[np.integer]


def to_csr(labels_of_images: Iterable[Iterable[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lists of labels, one an image, as the two arrays that this package reads.

    Args:
        labels_of_images: for each image its class indices; none and repeats are fine.

    Returns:
        offsets (B + 1,) and labels (E,): the classes of image b are labels[offsets[b]:offsets[b + 1]].

    Raises:
        InputError: what is no list of class indices; the image is named. Rows that may be multi-hot: more than one, all
            of one length above 2, of 0 and 1.

    >>> [column.tolist() for column in to_csr([[4], [], [1, 2]])]
    [[0, 1, 1, 3], [4, 1, 2]]
    """
    if getattr(labels_of_images, "ndim", 1) > 1:  # 0 and 1 of a multi-hot array would be read as classes
        raise InputError(
            f"expected one list of class indices an image, got {type(labels_of_images).__name__} of 2-D"
        )
    rows = [_indices(image, labels) for image, labels in enumerate(labels_of_images)]
    if _are_multi_hot(rows):
        raise InputError(
            f"each of {len(rows)} images has {len(rows[0])} labels, all 0 or 1, as multi-hot rows have: expected class "
            "indices, such as np.flatnonzero makes of a row; where these are some, give each once"
        )
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return offsets, np.array([label for row in rows for label in row], np.int64)


def _are_multi_hot(rows: list[list[int]]) -> bool:
    """Whether they look like it: of one length above 2, with nothing but 0 and 1, and both."""
    columns = len(rows[0]) if len(rows) > 1 else 0
    alike = columns > 2 and all(len(row) == columns and max(row) <= 1 for row in rows)
    return alike and any(map(any, rows)) and not all(map(all, rows))


def _indices(image: int, labels: Iterable[int]) -> list[int]:
    try:
        each = labels.tolist() if hasattr(labels, "tolist") else labels  # index() takes a tensor's True for 1
        found = [-1 if isinstance(label, bool) else index(label) for label in each]
    except TypeError:
        found = [-1]
    if any(label < 0 for label in found):
        raise InputError(f"image {image} has {labels!r}, expected the list of its class indices, from 0 on")
    return found


def images_by_class(
    offsets: ArrayLike, labels: ArrayLike, *, classes: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Turn the classes of images into the images of classes. Takes 4 bytes an entry, and no more on the way.

    Args:
        offsets: (B + 1,) CSR: the classes of image b are labels[offsets[b]:offsets[b + 1]]; repeats count once.
        labels: (E,) class indices, integers.
        classes: C; None: one more than the largest label.

    Returns:
        (C + 1,) offsets and image indices, ascending within a class.

    Raises:
        InputError: offsets that do not ascend from 0 to len(labels), a label that is no integer in 0..C-1.

    >>> [column.tolist() for column in images_by_class([0, 2, 3], [1, 1, 0])]
    [[0, 1, 2], [1, 0]]
    """
    start, label = _integers(offsets, "offsets"), _integers(labels, "labels")
    if len(start) == 0 or start[0] != 0 or start[-1] != len(label) or (start[1:] < start[:-1]).any():
        raise InputError(
            f"offsets: expected to ascend from 0 to {len(label)}, the number of labels, got {_course(start)}"
        )
    if classes is not None and classes < 0:
        raise ConfigError(f"classes is {classes}, expected at least 0")
    largest = int(label.max()) if len(label) else -1
    limit = largest + 1 if classes is None else classes
    if len(label) and (label.min() < 0 or largest >= limit):
        entry = int(np.argmax((label < 0) | (label >= limit)))
        image = int(np.searchsorted(start, entry, side="right")) - 1
        expected = "at least 0" if classes is None else f"0..{limit - 1}"
        raise InputError(f"labels: entry {entry} (image {image}) is {label[entry]}, expected {expected}")
    counts = np.zeros(limit, np.int64)
    _place(start, label, counts, np.empty(0, np.int32))
    first = np.concatenate([[0], np.cumsum(counts)])
    images = np.empty(first[-1], np.int32)
    if len(images):
        _place(start, label, first[:-1].copy(), images)
    return first, images


def _course(start: Ints) -> str:
    """What is wrong with offsets, in words."""
    if len(start) == 0:
        return "none"
    falls = np.flatnonzero(start[1:] < start[:-1])
    if len(falls):
        return f"{start[falls[0] + 1]} after {start[falls[0]]} in entry {falls[0] + 1}"
    return f"{start[0]} to {start[-1]}"


def _integers(values: ArrayLike, name: str) -> Ints:
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InputError(f"{name}: expected integers (N,), got {array.dtype} {array.shape}")
    return array if array.size else array.astype(np.int64)


@numba.njit(cache=True)
def _place(start: Ints, label: Ints, free: NDArray[np.int64], images: NDArray[np.int32]) -> None:
    """Write each image behind the others of its classes, or, where `images` is empty, count them alone.

    One function for both, so that it is compiled once. free (C,) is the next free place of each class.
    """
    last = np.full(len(free), -1, np.int64)  # the image that a class was met in last: a repeat counts once
    for image in range(len(start) - 1):
        for entry in range(start[image], start[image + 1]):
            held = label[entry]
            if last[held] != image:
                last[held] = image
                if len(images):
                    images[free[held]] = image
                free[held] += 1
