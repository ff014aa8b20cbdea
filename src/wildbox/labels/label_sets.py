"""Which sets of labels objects carry, how often, and examples of each.

Letters: N boxes, S of them with several labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numba
import numpy as np

from wildbox.annotations import Annotations
from wildbox.errors import ConfigError
from wildbox.labels.examples import Examples, draw_examples, merged
from wildbox.labels.objects import ObjectLabels


@dataclass(frozen=True)
class LabelSet:
    """A set of labels that some boxes' objects carry."""

    labels: tuple[int, ...]
    """Class indices, ascending."""
    boxes: int
    """Boxes whose object (the box, and those with IoU above the threshold to it) carries exactly these labels."""
    examples: Examples
    """Some of these boxes, those of the first label, drawn in a way that does not depend on the order of rows."""


@dataclass(frozen=True)
class LabelSets:
    """All sets that occur, most boxes first, ties by labels; the sets of two shards add up."""

    sets: tuple[LabelSet, ...]
    examples: int
    """How many examples of each are kept, where there are so many."""

    def __add__(self, other: LabelSets) -> LabelSets:
        if self.examples != other.examples:
            raise ConfigError(f"label sets with {self.examples} and {other.examples} examples do not add up")
        found: dict[tuple[int, ...], LabelSet] = {one.labels: one for one in self.sets}
        for one in other.sets:
            ours = found.get(one.labels)
            if ours is not None:
                kept = merged(ours.examples, one.examples, count=self.examples)
                one = LabelSet(one.labels, ours.boxes + one.boxes, kept)
            found[one.labels] = one
        return LabelSets(_ranked(found.values()), self.examples)

    def by_size(self) -> list[int]:
        """Boxes whose object carries 1, 2, 3 ... labels.

        >>> LabelSets((LabelSet((0,), 5, ()), LabelSet((0, 2), 4, ())), 0).by_size()
        [5, 4]
        """
        counts = [0] * max((len(one.labels) for one in self.sets), default=0)
        for one in self.sets:
            counts[len(one.labels) - 1] += one.boxes
        return counts


def _ranked(sets: Iterable[LabelSet]) -> tuple[LabelSet, ...]:
    return tuple(sorted(sets, key=lambda one: (-one.boxes, one.labels)))


def count_label_sets(annotations: Annotations, objects: ObjectLabels, *, examples: int = 4) -> LabelSets:
    """Count the label sets of all boxes.

    Args:
        objects: what `object_labels` gave for these annotations.
        examples: how many to keep of each set, 0 or more.

    >>> from wildbox.labels.objects import object_labels
    >>> from wildbox.vocabulary import Vocabulary
    >>> two = Vocabulary(("torch", "flashlight"))
    >>> truth = Annotations(two, ("x",), image=[0, 0], boxes=[[0, 0, 1, 1]] * 2, label=[0, 1])
    >>> count_label_sets(truth, object_labels(truth)).sets[0].boxes
    2
    """
    classes, rows = len(annotations.vocabulary), objects.rows
    which, first = _numbered(objects.offsets, objects.labels)
    bounds = zip(objects.offsets[first].tolist(), objects.offsets[first + 1].tolist(), strict=True)
    members = [(i,) for i in range(classes)] + [tuple(objects.labels[a:b].tolist()) for a, b in bounds]
    group, boxes = _grouped(
        annotations.label, rows, which, objects.offsets, objects.labels, classes, len(first)
    )
    kept = draw_examples(annotations, group, groups=len(members), count=examples)
    found = zip(members, boxes.tolist(), kept, strict=True)
    return LabelSets(_ranked(LabelSet(*one) for one in found if one[1]), examples)


@numba.njit(cache=True, nogil=True)
def _numbered(offsets, labels):  # type: ignore[no-untyped-def]
    """Each list's set as a number, (S,), and of each number the first list that has it."""
    which, first, sets = np.empty(len(offsets) - 1, np.int64), np.empty(1024, np.int64), 0
    slots = np.full(4096, -1)  # a hash table of the numbers, open addressing
    for row in range(len(which)):
        slot = _slot(slots, first, offsets, labels, row)
        if slots[slot] < 0:
            if sets == len(first):
                first = np.concatenate((first, np.empty_like(first)))
            first[sets], slots[slot] = row, sets
            sets += 1
        which[row] = slots[slot]
        if 2 * sets > len(slots):
            slots = np.full(4 * len(slots), -1)
            for number in range(sets):
                slots[_slot(slots, first, offsets, labels, first[number])] = number
    return which, first[:sets].copy()


@numba.njit(cache=True, nogil=True)
def _grouped(label, rows, which, offsets, labels, classes, sets):  # type: ignore[no-untyped-def]
    """(N,) each box's set, -1 for all but one box an object, that of the first label; and how many each set has."""
    group, boxes = label.copy(), np.zeros(classes + sets, np.int64)
    for at in range(len(rows)):
        boxes[classes + which[at]] += 1
        boxes[label[rows[at]]] -= 1
        group[rows[at]] = classes + which[at] if labels[offsets[at]] == label[rows[at]] else -1
    for box in range(len(label)):
        boxes[label[box]] += 1
    return group, boxes


@numba.njit(cache=True, nogil=True)
def _slot(slots, first, offsets, labels, row):  # type: ignore[no-untyped-def]
    """Where the table holds the set of a list, or the free place where it belongs."""
    begin, size = offsets[row], offsets[row + 1] - offsets[row]
    code = np.uint64(0)
    for k in range(begin, begin + size):
        code = (code ^ np.uint64(labels[k] + 1)) * np.uint64(0x9E3779B97F4A7C15)
        code ^= code >> np.uint64(32)
    last = len(slots) - 1
    slot = np.int64(code & np.uint64(last))
    while slots[slot] >= 0:
        other, same = first[slots[slot]], 0
        if offsets[other + 1] - offsets[other] == size:
            while same < size and labels[begin + same] == labels[offsets[other] + same]:
                same += 1
            if same == size:
                break
        slot = (slot + 1) & last
    return slot
