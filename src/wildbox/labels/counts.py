"""How many boxes and images each class has, and how uneven that is. Letters: C classes."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from wildbox.annotations import Annotations

HEAD, MIDDLE, TAIL, ABSENT = "head", "middle", "tail", "absent"


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """Sums over images: the counts of two shards add up to those of both."""

    boxes: NDArray[np.int64]
    """(C,)"""
    images: NDArray[np.int64]
    """(C,) images with at least one box of the class."""

    def __add__(self, other: ClassCounts) -> ClassCounts:
        return ClassCounts(self.boxes + other.boxes, self.images + other.images)

    @property
    def imbalance(self) -> float:
        """Boxes of the most frequent class over those of the rarest that occurs; nan without any."""
        occurring = self.boxes[self.boxes > 0]
        return float(occurring.max() / occurring.min()) if len(occurring) else float("nan")

    @property
    def gini(self) -> float:
        """Gini coefficient of boxes over the classes that occur: 0 even, towards 1 all in one class."""
        sizes = np.sort(self.boxes[self.boxes > 0]).astype(np.float64)
        if len(sizes) == 0:
            return float("nan")
        rank = np.arange(1, len(sizes) + 1)
        return float((2 * rank - len(sizes) - 1) @ sizes / (len(sizes) * sizes.sum()))

    def groups(self) -> NDArray[np.str_]:
        """(C,) "head", "middle", "tail": thirds of the occurring classes by images, ties by index; "absent".

        >>> ClassCounts(np.array([9, 5, 1, 0]), np.array([9, 5, 1, 0])).groups().tolist()
        ['head', 'middle', 'tail', 'absent']
        """
        result = np.full(len(self.images), ABSENT, dtype="<U6")
        ranked = np.argsort(-self.images, kind="stable")
        ranked = ranked[self.images[ranked] > 0]
        for name, members in zip((HEAD, MIDDLE, TAIL), np.array_split(ranked, 3), strict=True):
            result[members] = name
        return result


def count_classes(annotations: Annotations) -> ClassCounts:
    """Boxes and images of each class; group-of boxes count as one box.

    >>> from wildbox.vocabulary import Vocabulary
    >>> two = Vocabulary(("a", "b"))
    >>> truth = Annotations(two, ("x",), image=[0, 0], boxes=[[0, 0, 1, 1]] * 2, label=[0, 0])
    >>> counts = count_classes(truth)
    >>> counts.boxes.tolist(), counts.images.tolist()
    ([2, 0], [1, 0])
    """
    classes = len(annotations.vocabulary)
    return ClassCounts(
        np.bincount(annotations.label, minlength=classes),
        _images(annotations.image, annotations.label, classes),
    )


@numba.njit(cache=True, nogil=True)
def _images(image, label, classes):  # type: ignore[no-untyped-def]
    """(C,) images with a class; boxes stand image by image."""
    images, latest = np.zeros(classes, np.int64), np.full(classes, -1)
    for box in range(len(label)):
        if latest[label[box]] != image[box]:
            latest[label[box]] = image[box]
            images[label[box]] += 1
    return images
