"""What a model found: boxes with a label and a score. Letters: B images, D detections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from wildbox.annotations import Annotations, Floats, Ints, indices, order_by_image, spread
from wildbox.columns import checked_column, checked_ids, frozen
from wildbox.errors import InputError
from wildbox.threads import in_chunks
from wildbox.vocabulary import Hierarchy, Vocabulary, check_same_classes, check_size


@dataclass(frozen=True, eq=False)
class Detections:
    """D scored boxes on B images, sorted by image; rows of an image keep their order.

    Coordinates have the unit of the truth they will be compared with. A detection box may be degenerate
    (evaluators define what then happens) but never NaN. Columns that are sorted and of the right type are not
    copied: do not write to them afterwards.

    Raises:
        InputError: columns of other lengths or shapes, an image or label that is no whole number or outside its
            range, a score outside [0, 1], NaN, an image id that is no text or stands twice.

    >>> cat = Vocabulary(("cat",))
    >>> Detections(cat, ("a",), image=[0], boxes=[[0, 0, 1, 1]], label=[0], score=[0.9])
    Detections(1 on 1 images, 1 classes)
    """

    vocabulary: Vocabulary
    image_ids: tuple[str, ...]
    image: Ints
    boxes: Floats
    """(D, 4) x1, y1, x2, y2."""
    label: Ints
    """(D,) index of the class."""
    score: Floats
    """(D,) in [0, 1]."""

    if TYPE_CHECKING:  # a column is given as anything that numpy reads, and held as an array

        def __init__(
            self,
            vocabulary: Vocabulary,
            image_ids: Sequence[str],
            image: ArrayLike,
            boxes: ArrayLike,
            label: ArrayLike,
            score: ArrayLike,
        ) -> None: ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_ids", checked_ids(self.image_ids))
        rows = len(self.image)
        image = checked_column(self.image, np.int64, "image", rows)
        order = order_by_image(image, len(self.image_ids))
        columns = {
            "image": image,
            "boxes": checked_column(self.boxes, np.float64, "boxes", rows, width=4),
            "label": checked_column(self.label, np.int64, "label", rows),
            "score": checked_column(self.score, np.float64, "score", rows),
        }
        for name, values in columns.items():
            object.__setattr__(self, name, frozen(values if order is None else values[order]))
        self._check()

    @staticmethod
    def of_checked(
        vocabulary: Vocabulary, image_ids: tuple[str, ...], offsets: Ints, **columns: Ints | Floats
    ) -> Detections:
        """A table that is not checked, sorted or copied: its columns come from a reader that saw to all that.

        Args:
            offsets: see `Detections.offsets`.
            columns: boxes, label and score, in C order.
        """
        table = object.__new__(_OfChecked)
        for values in columns.values():
            values.setflags(write=False)
        given = {"vocabulary": vocabulary, "image_ids": image_ids, "offsets": offsets, **columns}
        for name, value in given.items():
            object.__setattr__(table, name, value)
        return table

    def _check(self) -> None:
        if not len(self) or all(in_chunks(self._are_sound, len(self), rows=len(self))):
            return
        ends = {
            "image": (self.image[0], self.image[-1], len(self.image_ids)),
            "label": (self.label.min(), self.label.max(), len(self.vocabulary)),
        }
        for name, (least, most, limit) in ends.items():
            if least < 0 or most >= limit:
                raise InputError(f"a detection's {name} is outside 0..{limit - 1}")
        bad = self.score[~((self.score >= 0) & (self.score <= 1))]
        raise InputError(f"score {bad[0]} is outside [0, 1]" if len(bad) else "a detection box holds NaN")

    def _are_sound(self, first: int, last: int) -> bool:
        """Whether no row from first to last, of sorted ones, is refused."""
        image, label, score = (column[first:last] for column in (self.image, self.label, self.score))
        return bool(
            image[0] >= 0
            and image[-1] < len(self.image_ids)
            and label.min() >= 0
            and label.max() < len(self.vocabulary)
            and score.min() >= 0  # NaN: the smallest is NaN
            and score.max() <= 1
            and not np.isnan(self.boxes[first:last].min())
        )

    def __repr__(self) -> str:
        return (
            f"Detections({len(self):,} on {len(self.image_ids):,} images, {len(self.vocabulary):,} classes)"
        )

    def __len__(self) -> int:
        return len(self.label)

    @cached_property
    def offsets(self) -> Ints:
        """(B + 1,) the detections of image b are rows offsets[b] to offsets[b + 1]."""

        def some(first: int, last: int) -> Ints:
            return np.searchsorted(self.image, np.arange(first, last)).astype(np.int64)

        return np.concatenate(in_chunks(some, len(self.image_ids) + 1, rows=len(self)))

    def select(self, images: ArrayLike) -> Detections:
        """As `Annotations.select`."""
        keep = np.arange(len(self.image_ids))[indices(images)]
        renumber = np.full(len(self.image_ids), -1, np.int64)
        renumber[keep] = np.arange(len(keep))
        image = renumber[self.image]
        row = image >= 0
        ids = tuple(self.image_ids[i] for i in keep)
        return Detections(self.vocabulary, ids, image[row], self.boxes[row], self.label[row], self.score[row])

    def aligned(self, truth: Annotations) -> Detections:
        """The same detections on the images of `truth`, in its order.

        Images without detections need not be in the truth.

        Raises:
            InputError: detections on an image that the truth does not know, or another vocabulary.
        """
        check_same_classes(
            self.vocabulary, truth.vocabulary, "detections and truth have different vocabularies"
        )
        if self.image_ids == truth.image_ids:
            return self
        position = {id_: i for i, id_ in enumerate(truth.image_ids)}
        renumber = np.array([position.get(id_, -1) for id_ in self.image_ids], np.int64)
        unknown = np.flatnonzero((renumber < 0) & (np.diff(self.offsets) > 0))
        if len(unknown):
            some = [self.image_ids[i] for i in unknown[:3]]
            raise InputError(f"{len(unknown)} images with detections are not in the truth: {some}")
        image = renumber[self.image] if len(self) else self.image
        return Detections(self.vocabulary, truth.image_ids, image, self.boxes, self.label, self.score)


class _OfChecked(Detections):
    """`Detections.of_checked`: the image of each row is worked out when it is asked for."""

    @cached_property
    def image(self) -> Ints:
        image = np.repeat(np.arange(len(self.image_ids)), np.diff(self.offsets))
        image.setflags(write=False)
        return image


def concatenate_detections(parts: Sequence[Detections]) -> Detections:
    """Tables of the same classes as one; an image that several have gets the rows of all.

    Raises:
        InputError: no tables, or such of different classes.

    >>> a, b = (Detections(Vocabulary(("cat",)), ids, [0], [[0, 0, 1, 1]], [0], [1]) for ids in (("x",), ("y", "x")))
    >>> concatenate_detections([a, b]).image_ids
    ('x', 'y')
    """
    if not parts:
        raise InputError("expected tables of detections")
    for part in parts:
        check_same_classes(parts[0].vocabulary, part.vocabulary, "expected detections of the same classes")
    ids = tuple(dict.fromkeys(id_ for part in parts for id_ in part.image_ids))
    position = {id_: i for i, id_ in enumerate(ids)}
    image = [np.array([position[id_] for id_ in part.image_ids], np.int64)[part.image] for part in parts]
    columns = ([getattr(part, name) for part in parts] for name in ("boxes", "label", "score"))
    return Detections(parts[0].vocabulary, ids, np.concatenate(image), *map(np.concatenate, columns))


def expand_detections(detections: Detections, hierarchy: Hierarchy) -> Detections:
    """Detections repeated for every ancestor of their class, with the same box and score; nothing is merged.

    For models that name leaves alone. Open Images' evaluation expands the truth only: a model is to find the ancestors
    itself.

    >>> found = Detections(Vocabulary(("cat", "pet")), ("a",), image=[0], boxes=[[0, 0, 1, 1]], label=[0], score=[0.5])
    >>> expand_detections(found, Hierarchy(2, [(0, 1)])).label.tolist()
    [0, 1]
    """
    check_size(hierarchy, len(detections.vocabulary))
    row, label = spread(detections.label, hierarchy.is_ancestor)
    return Detections(
        detections.vocabulary,
        detections.image_ids,
        detections.image[row],
        detections.boxes[row],
        label,
        detections.score[row],
    )
