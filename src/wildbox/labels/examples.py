"""Boxes shown as examples: a few of each kind, the same few whatever the order of rows.

Letters: N boxes, G groups, E examples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from wildbox.annotations import Annotations, Floats, Ints
from wildbox.errors import ConfigError


class Example(NamedTuple):
    """A box, by the name of its image; ordered by `key`, a number made from the coordinates as if drawn."""

    key: int
    image_id: str
    box: tuple[float, float, float, float]
    """x1, y1, x2, y2 in the unit of the annotations."""


Examples = tuple[Example, ...]


@dataclass(frozen=True, eq=False)
class DrawnExamples:
    """Examples of G groups as columns, since thousands are drawn for each that is shown; those of two shards merge."""

    group: Ints
    """(E,) ascending."""
    key: Ints
    """(E,) ascending within a group."""
    image_id: NDArray[np.object_]
    """(E,) texts."""
    boxes: Floats
    """(E, 4)"""
    count: int
    """How many are kept of each group, where there are so many."""

    def merged(self, other: DrawnExamples) -> DrawnExamples:
        """The first of both, whose groups have the same numbers.

        Raises:
            ConfigError: another `count`.
        """
        if self.count != other.count:
            raise ConfigError(f"{self.count} and {other.count} examples of a kind do not add up")
        both = ((getattr(self, name), getattr(other, name)) for name in ("group", "key", "image_id", "boxes"))
        return _first_of_each(*map(np.concatenate, both), count=self.count)

    def renumbered(self, number: Ints) -> DrawnExamples:
        """The same, of groups with other numbers: number[g] for g. To be merged, these need not ascend."""
        return replace(self, group=number[self.group])

    def by_group(self, groups: int) -> list[Examples]:
        """Of each of G groups its examples, in order."""
        columns = (self.group, self.key, self.image_id, self.boxes)
        found: list[list[Example]] = [[] for _ in range(groups)]
        for of, key, image_id, (x1, y1, x2, y2) in zip(*(column.tolist() for column in columns), strict=True):
            found[of].append(Example(key, image_id, (x1, y1, x2, y2)))
        return [tuple(some) for some in found]


def _first_of_each(
    group: Ints, key: Ints, image_id: NDArray[np.object_], boxes: Floats, *, count: int
) -> DrawnExamples:
    """Of each group the first `count` by key, then image and box; one that stands twice counts once."""
    order = np.lexsort((key, group))
    equal = (np.diff(group[order]) == 0) & (np.diff(key[order]) == 0)
    if equal.any():
        tied = order[np.append(equal, False) | np.append(False, equal)]
        names = [(id_, *box) for id_, box in zip(image_id[tied], boxes[tied].tolist(), strict=True)]
        rank, place = {name: r for r, name in enumerate(sorted({*names}))}, np.zeros(len(group), np.int64)
        place[tied] = [rank[name] for name in names]
        order = np.lexsort((place, key, group))
        repeated = np.logical_and.reduce([np.diff(column[order]) == 0 for column in (group, key, place)])
        order = order[np.append(True, ~repeated)]
    ordered = group[order]
    kept = order[np.arange(len(order)) - np.searchsorted(ordered, ordered) < count]
    return DrawnExamples(group[kept], key[kept], image_id[kept], boxes[kept], count)


def draw_examples(annotations: Annotations, group: Ints, *, groups: int, count: int) -> DrawnExamples:
    """Of each of G groups of boxes `count`, or all where there are fewer: those with the smallest keys.

    Equal keys are told apart by the image's id, so that the choice does not depend on the order of rows or images.

    Args:
        group: the group of each box, -1 for a box in none; of the first boxes where it is shorter.
    Raises:
        ConfigError: a `count` below 0.

    >>> from wildbox.vocabulary import Vocabulary
    >>> truth = Annotations(Vocabulary(("a",)), ("x",), image=[0], boxes=[[0, 0, 1, 1]], label=[0])
    >>> [one.image_id for one in draw_examples(truth, np.array([0]), groups=1, count=4).by_group(1)[0]]
    ['x']
    """
    if count < 0:
        raise ConfigError(f"examples is {count}, expected 0 or more")
    if not count:
        group = group[:0]
    bits = np.ascontiguousarray(annotations.boxes).view(np.uint64)
    rows, keys = _drawn(bits, group, groups, max(count, 1))
    image_id = np.array([annotations.image_ids[i] for i in annotations.image[rows].tolist()], object)
    return _first_of_each(group[rows], keys, image_id, annotations.boxes[rows], count=count)


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
