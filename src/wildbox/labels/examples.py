"""Boxes shown as examples: a few of each kind, the same few whatever the order of rows.

Letters: N boxes, G groups.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from wildbox.annotations import Annotations
from wildbox.errors import ConfigError

Ints = NDArray[np.int64]


class Example(NamedTuple):
    """A box, by the name of its image; ordered by `key`, a number made from the coordinates as if drawn."""

    key: int
    image_id: str
    box: tuple[float, float, float, float]
    """x1, y1, x2, y2 in the unit of the annotations."""


Examples = tuple[Example, ...]


def merged(a: Examples, b: Examples, *, count: int) -> Examples:
    """The first `count` of both.

    >>> one, two = Example(1, "x", (0, 0, 1, 1)), Example(2, "y", (0, 0, 1, 1))
    >>> merged((two,), (one, two), count=2) == (one, two)
    True
    """
    both = sorted(a + b)
    return tuple([one for one, before in zip(both, (None, *both), strict=False) if one != before][:count])


def draw_examples(annotations: Annotations, group: Ints, *, groups: int, count: int) -> list[Examples]:
    """Of each of G groups of boxes `count`, or all where there are fewer: those with the smallest keys.

    Equal keys are told apart by the image's id, so that the choice does not depend on the order of rows or images.

    Args:
        group: the group of each box, -1 for a box in none; of the first boxes where it is shorter.
    Raises:
        ConfigError: a `count` below 0.

    >>> from wildbox.vocabulary import Vocabulary
    >>> truth = Annotations(Vocabulary(("a",)), ("x",), image=[0], boxes=[[0, 0, 1, 1]], label=[0])
    >>> [example.image_id for example in draw_examples(truth, np.array([0]), groups=1, count=4)[0]]
    ['x']
    """
    if count < 0:
        raise ConfigError(f"examples is {count}, expected 0 or more")
    found: list[list[Example]] = [[] for _ in range(groups)]
    if count and groups:
        bits = np.ascontiguousarray(annotations.boxes).view(np.uint64)
        rows, keys = _drawn(bits, group, groups, count)
        columns = (group[rows], keys, annotations.image[rows], annotations.boxes[rows])
        for of, key, image, (x1, y1, x2, y2) in zip(*map(np.ndarray.tolist, columns), strict=True):
            found[of].append(Example(key, annotations.image_ids[image], (x1, y1, x2, y2)))
    return [merged(tuple(some), (), count=count) for some in found]


@numba.njit(cache=True, nogil=True)
def _key(bits):  # type: ignore[no-untyped-def]
    """A number below 2^62 for the coordinates of a box, as if drawn at random (FNV-1a, by words)."""
    key = np.uint64(0xCBF29CE484222325)
    for k in range(4):
        key = (key ^ bits[k]) * np.uint64(0x100000001B3)
        key ^= key >> np.uint64(29)
    return np.int64(key >> np.uint64(2))


@numba.njit(cache=True, nogil=True)
def _drawn(bits, group, groups, count):  # type: ignore[no-untyped-def]
    """Rows, with their keys, that have one of the `count` smallest different keys of their group."""
    least = np.full((groups, count), np.iinfo(np.int64).max)
    rows, keys = [np.int64(0)][:0], [np.int64(0)][:0]
    for row in range(len(group)):
        if group[row] < 0:
            continue
        key, mine, at = _key(bits[row]), least[group[row]], count
        if key > mine[-1]:
            continue
        rows.append(np.int64(row))
        keys.append(key)
        while at > 0 and mine[at - 1] >= key:
            at -= 1
        if mine[at] != key:
            mine[at + 1 :] = mine[at:-1].copy()
            mine[at] = key
    found, their = np.array(rows, np.int64), np.array(keys, np.int64)
    kept = their <= least[group[found], -1]
    return found[kept], their[kept]
