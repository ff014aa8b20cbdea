"""Boxes of a class that people verified to be absent from the image. Letters: C classes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np

from wildbox.annotations import Annotations, Ints
from wildbox.labels.examples import DrawnExamples, Examples, draw_examples


@dataclass(frozen=True, eq=False)
class Contradictions:
    """Sums over images: those of two shards add up."""

    boxes: Ints
    """(C,) boxes of each class on images where it is verified to be absent."""
    drawn: DrawnExamples
    """Of some of these boxes; the groups are the classes."""

    def __add__(self, other: Contradictions) -> Contradictions:
        """`ConfigError` where the numbers of examples differ."""
        return Contradictions(self.boxes + other.boxes, self.drawn.merged(other.drawn))

    @cached_property
    def examples(self) -> tuple[Examples, ...]:
        """C lists of some of these boxes."""
        return tuple(self.drawn.by_group(len(self.boxes)))


def find_contradictions(annotations: Annotations, *, examples: int = 4) -> Contradictions:
    """Boxes that contradict a verified negative image label, by class.

    >>> from wildbox.annotations import ImageLabels
    >>> from wildbox.vocabulary import Vocabulary
    >>> absent = ImageLabels(image=np.array([0]), label=np.array([0]), is_positive=np.array([False]))
    >>> truth = Annotations(Vocabulary(("a",)), ("x",), [0], [[0, 0, 1, 1]], [0], image_labels=absent)
    >>> find_contradictions(truth).boxes.tolist()
    [1]
    """
    classes, labels = len(annotations.vocabulary), annotations.image_labels
    negative = ~labels.is_positive
    image, label = labels.image[negative], labels.label[negative]
    order = np.argsort(image, kind="stable")
    wrong = _absent(annotations.offsets, annotations.label, image[order], label[order], classes)
    group = np.where(wrong, annotations.label, -1) if wrong.any() else np.zeros(0, np.int64)
    drawn = draw_examples(annotations, group, groups=classes, count=examples)
    return Contradictions(np.bincount(annotations.label[wrong], minlength=classes), drawn)


@numba.njit(cache=True, nogil=True)
def _absent(offsets, label, negative_image, negative_label, classes):  # type: ignore[no-untyped-def]
    """(N,) whether a box's class is among its image's negatives, which stand image by image."""
    wrong = np.zeros(len(label), np.bool_)
    latest = np.full(classes, -1)  # the last image where a class is absent
    for n in range(len(negative_image)):
        image = negative_image[n]
        latest[negative_label[n]] = image
        if n + 1 == len(negative_image) or negative_image[n + 1] != image:
            for box in range(offsets[image], offsets[image + 1]):
                wrong[box] = latest[label[box]] == image
    return wrong
