"""Which sets of labels objects carry, how often, and examples of each.

Letters: N boxes, S of them with several labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numba
import numpy as np

from wildbox.annotations import Annotations, Ints, members
from wildbox.labels.examples import DrawnExamples, Examples, draw_examples
from wildbox.labels.objects import ObjectLabels

Lists = tuple[Ints, Ints]
"""Sets of labels as CSR: offsets (S + 1,), and the labels of each, ascending."""


@dataclass(frozen=True)
class LabelSet:
    """A set of labels that some boxes' objects carry."""

    labels: tuple[int, ...]
    """Class indices, ascending."""
    boxes: int
    """Boxes whose object (the box, and those with IoU above the threshold to it) carries exactly these labels."""
    examples: Examples
    """Some of these boxes, those of the first label, drawn in a way that does not depend on the order of rows."""


@dataclass(frozen=True, eq=False)
class LabelSets:
    """All S sets that occur, as columns; those of two shards add up."""

    lists: Lists
    boxes: Ints
    """(S,) see `LabelSet`."""
    drawn: DrawnExamples
    """Of each set; the groups are the numbers of the sets."""

    def __add__(self, other: LabelSets) -> LabelSets:
        """`ConfigError` where the numbers of examples differ."""
        lists = _joined(self.lists, other.lists)
        which, first = _numbered(*lists)
        boxes = np.zeros(len(first), np.int64)
        np.add.at(boxes, which, np.concatenate([self.boxes, other.boxes]))
        ours, theirs = np.split(which, [len(self.boxes)])
        drawn = self.drawn.renumbered(ours).merged(other.drawn.renumbered(theirs))
        return LabelSets(_rows(lists, first), boxes, drawn)

    @cached_property
    def sets(self) -> tuple[LabelSet, ...]:
        """Most boxes first, ties by labels."""
        labels = self.lists[1].tolist()
        members = [tuple(labels[first:last]) for first, last in pairwise(self.lists[0].tolist())]
        found = zip(members, self.boxes.tolist(), self.drawn.by_group(len(self.boxes)), strict=True)
        return tuple(sorted((LabelSet(*one) for one in found), key=lambda one: (-one.boxes, one.labels)))

    def by_size(self) -> list[int]:
        """Boxes whose object carries 1, 2, 3 ... labels."""
        sizes = np.diff(self.lists[0]).tolist()
        counts = [0] * max(sizes, default=0)
        for size, boxes in zip(sizes, self.boxes.tolist(), strict=True):
            counts[size - 1] += boxes
        return counts


def _joined(a: Lists, b: Lists) -> Lists:
    return np.append(a[0], b[0][1:] + a[0][-1]), np.append(a[1], b[1])


def _rows(lists: Lists, rows: Ints) -> Lists:
    """Some of the lists, in the order given."""
    offsets, labels = lists
    counts = np.diff(offsets)[rows]
    return np.append(0, np.cumsum(counts)), labels[members(offsets[rows], counts)]


def count_label_sets(annotations: Annotations, objects: ObjectLabels, *, examples: int = 4) -> LabelSets:
    """Count the label sets of all boxes.

    Args:
        objects: what `object_labels` gave for these annotations.
        examples: how many to keep of each set, 0 or more.
    Raises:
        ConfigError: a number of examples below 0.

    >>> from wildbox.labels.objects import object_labels
    >>> from wildbox.vocabulary import Vocabulary
    >>> two = Vocabulary(("torch", "flashlight"))
    >>> truth = Annotations(two, ("x",), image=[0, 0], boxes=[[0, 0, 1, 1]] * 2, label=[0, 1])
    >>> found = count_label_sets(truth, object_labels(truth))
    >>> found.sets[0].boxes, found.by_size()
    (2, [0, 2])
    """
    classes, rows = len(annotations.vocabulary), objects.rows
    which, first = _numbered(objects.offsets, objects.labels)
    group, boxes = _grouped(
        annotations.label, rows, which, objects.offsets, objects.labels, classes, len(first)
    )
    drawn = draw_examples(annotations, group, groups=len(boxes), count=examples)
    alone = (np.arange(classes + 1), np.arange(classes))
    occurring = np.flatnonzero(boxes)
    number = np.cumsum(boxes > 0) - 1
    return LabelSets(
        _rows(_joined(alone, _rows((objects.offsets, objects.labels), first)), occurring),
        boxes[occurring],
        drawn.renumbered(number),
    )


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
