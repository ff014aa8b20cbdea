"""Truth as one columnar table: boxes with labels, and the verified labels of whole images.

Letters: B images, N boxes, V verified image labels, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

import wildbox.loop_cache  # noqa: F401  # before the first loop
from wildbox.columns import checked_column, checked_ids, frozen
from wildbox.errors import InputError
from wildbox.vocabulary import Hierarchy, Vocabulary, check_size

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


BOX_COLUMNS = ("image", "boxes", "label", "is_group_of")


def _check_index(values: Ints, limit: int, name: str) -> None:
    if len(values) and (values.min() < 0 or values.max() >= limit):
        row = int(np.flatnonzero((values < 0) | (values >= limit))[0])
        raise InputError(f"row {row}: {name} {values[row]} is outside 0..{limit - 1}")


def indices(images: ArrayLike) -> Ints:
    """Images as indices; `InputError` for truth values, which numpy would take for 0 and 1."""
    given = np.asarray(images)
    if given.dtype == bool:
        raise InputError("images to select are indices, not truth values: np.flatnonzero makes them")
    return given.astype(np.int64)


def order_by_image(image: Ints, images: int) -> Ints | None:
    """Rows by their image (N,), in their order within one; None where they stand so already."""
    if np.all(image[1:] >= image[:-1]):
        return None
    if len(image) < images or image.min() < 0 or image.max() >= images:
        return np.argsort(image, kind="stable")
    return _counted_order(image, images)


@numba.njit(cache=True, nogil=True)
def _counted_order(image: Ints, images: int) -> Ints:
    """`order_by_image` by counting: of millions of rows it takes a tenth of the time of comparing them."""
    after = np.zeros(images + 1, np.int64)
    for b in image:
        after[b + 1] += 1
    after = np.cumsum(after)
    order = np.empty(len(image), np.int64)
    for row in range(len(image)):
        order[after[image[row]]] = row
        after[image[row]] += 1
    return order


@numba.njit(cache=True, nogil=True)
def _first_bad_box(boxes: Floats) -> int:
    """Row of the first that is not finite or turned around; -1 where there is none. One look at each number."""
    for row in range(len(boxes)):
        x1, y1, x2, y2 = boxes[row]
        if not (-np.inf < x1 <= x2 < np.inf and -np.inf < y1 <= y2 < np.inf):
            return row
    return -1


@dataclass(frozen=True, eq=False)
class ImageLabels:
    """Labels that people verified for whole images: V rows (image, label, is it there)."""

    image: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """(V,) index of the image."""
    label: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """(V,) index of the class."""
    is_positive: Bools = field(default_factory=lambda: np.zeros(0, bool))
    """(V,) true: verified to be there; false: verified to be absent."""
    is_exhaustive: Bools = None  # type: ignore[assignment]
    """(V,) false: perhaps not every object of the class has a box (LVIS). Default: every one has."""

    if TYPE_CHECKING:  # a column is given as anything that numpy reads, and held as an array

        def __init__(
            self,
            image: ArrayLike = ...,
            label: ArrayLike = ...,
            is_positive: ArrayLike = ...,
            is_exhaustive: ArrayLike | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        rows = len(self.image)
        if self.is_exhaustive is None:
            object.__setattr__(self, "is_exhaustive", np.ones(rows, bool))
        types = {"image": np.int64, "label": np.int64, "is_positive": bool, "is_exhaustive": bool}
        for name, dtype in types.items():
            object.__setattr__(self, name, frozen(checked_column(getattr(self, name), dtype, name, rows)))

    def __len__(self) -> int:
        return len(self.image)

    def rows(self, index: ArrayLike) -> ImageLabels:
        """Some rows: indices in any order, or V truth values."""
        return ImageLabels(*(getattr(self, field.name)[index] for field in fields(self)))


@dataclass(frozen=True, eq=False)
class Annotations:
    """N boxes with one label each on B images, sorted by image; rows of an image keep their order.

    One object with several labels is several rows. Arrays are read-only.

    >>> import numpy as np
    >>> truth = Annotations(Vocabulary(("cat", "pet")), ("a", "b"), image=[1, 0],
    ...                     boxes=[[0, 0, 1, 1], [0, 0, .5, 1]], label=[0, 1])
    >>> truth
    Annotations(2 boxes and 0 image labels on 2 images, 2 classes)
    >>> truth.image.tolist(), truth.label.tolist(), truth.offsets.tolist()
    ([0, 1], [1, 0], [0, 1, 2])
    """

    vocabulary: Vocabulary
    image_ids: tuple[str, ...]
    """B unique ids; an image without boxes is listed too."""
    image: Ints
    """(N,) index of the box's image, ascending."""
    boxes: Floats
    """(N, 4) x1, y1, x2, y2 in the unit of `sizes`; finite, x1 <= x2, y1 <= y2."""
    label: Ints
    """(N,) index of the class."""
    is_group_of: Bools = None  # type: ignore[assignment]
    """(N,) one box around several objects (COCO: crowd). Default: none is."""
    sizes: Floats = None  # type: ignore[assignment]
    """(B, 2) width and height of each image in the unit of the boxes: (1, 1) where coordinates are
    relative (the default), pixels where they are pixels."""
    image_labels: ImageLabels = field(default_factory=ImageLabels)
    file_names: tuple[str, ...] = ()
    """B image files, relative to the image folder; empty where not known (Open Images: id + ".jpg")."""

    if TYPE_CHECKING:  # as in `ImageLabels`

        def __init__(
            self,
            vocabulary: Vocabulary,
            image_ids: Sequence[str],
            image: ArrayLike,
            boxes: ArrayLike,
            label: ArrayLike,
            is_group_of: ArrayLike | None = None,
            sizes: ArrayLike | None = None,
            image_labels: ImageLabels = ...,
            file_names: Sequence[str] = (),
        ) -> None: ...

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        n, b = len(self.image), len(self.image_ids)
        set_(self, "image_ids", checked_ids(self.image_ids))
        set_(self, "file_names", tuple(self.file_names))
        if self.file_names and len(self.file_names) != b:
            raise InputError(f"{b} images but {len(self.file_names)} file names")
        image = checked_column(self.image, np.int64, "image", n)
        _check_index(image, b, "image")
        order = order_by_image(image, b)
        group_of = np.zeros(n, bool) if self.is_group_of is None else self.is_group_of
        given = {
            "image": image,
            "boxes": checked_column(self.boxes, np.float64, "boxes", n, width=4),
            "label": checked_column(self.label, np.int64, "label", n),
            "is_group_of": checked_column(group_of, bool, "is_group_of", n),
        }
        for name, values in given.items():
            set_(self, name, frozen(values if order is None else values[order]))
        sizes = np.ones((b, 2)) if self.sizes is None else self.sizes
        set_(self, "sizes", frozen(checked_column(sizes, np.float64, "sizes", b, width=2)))
        _check_index(self.label, len(self.vocabulary), "label")
        _check_index(self.image_labels.image, b, "image")
        _check_index(self.image_labels.label, len(self.vocabulary), "label")
        self._check_boxes()

    def _check_boxes(self) -> None:
        row = _first_bad_box(self.boxes)
        if row >= 0:
            raise InputError(
                f"image {self.image_ids[self.image[row]]!r}: box {self.boxes[row].tolist()} is not finite "
                "or turned around; expected x1 <= x2 and y1 <= y2"
            )

    def __repr__(self) -> str:
        labels = f"{len(self.image_labels):,} image labels"
        sizes = f"{len(self.image_ids):,} images, {len(self.vocabulary):,} classes"
        return f"Annotations({len(self):,} boxes and {labels} on {sizes})"

    def __len__(self) -> int:
        return len(self.label)

    @cached_property
    def offsets(self) -> Ints:
        """(B + 1,) the boxes of image b are rows offsets[b] to offsets[b + 1]."""
        counts = np.bincount(self.image, minlength=len(self.image_ids))
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def file_name(self, image: int) -> str:
        """Where an image lies in the image folder: its file name, or, as in Open Images, its id with `.jpg`."""
        return self.file_names[image] if self.file_names else f"{self.image_ids[image]}.jpg"

    def keep(self, rows: ArrayLike) -> Annotations:
        """The same table with some of its boxes only, given as N truth values; all images stay."""
        kept = np.asarray(rows, bool)
        return self._of_valid(**{name: getattr(self, name)[kept] for name in BOX_COLUMNS})

    def _of_valid(self, **columns: Any) -> Annotations:
        """This table with other columns, which are not checked: they come from a table that was."""
        table = object.__new__(Annotations)
        unchanged = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, values in (unchanged | columns).items():
            if isinstance(values, np.ndarray):
                values.setflags(write=False)
            object.__setattr__(table, name, values)
        return table

    def parts(self, count: int) -> Iterator[Annotations]:
        """At most `count` tables of consecutive images, with about as many boxes each; together they are this one.

        Their arrays of boxes are views: nothing is copied.
        """
        goals = np.linspace(0, len(self), count + 1)[1:-1]
        edges = np.unique([0, *np.searchsorted(self.offsets, goals), len(self.image_ids)]).tolist()
        edges = edges if len(self.image_ids) else [0, 0]
        for first, last in pairwise(edges):
            yield self._between(first, last)

    def _between(self, first: int, last: int) -> Annotations:
        """The images from `first` to `last`; arrays of boxes are views."""
        order, ends = self._image_labels_by_image
        rows, verified = slice(*self.offsets[[first, last]]), order[slice(*ends[[first, last]])]
        labels = self.image_labels.rows(verified)
        return self._of_valid(
            image_ids=self.image_ids[first:last],
            image=self.image[rows] - first,
            **{name: getattr(self, name)[rows] for name in BOX_COLUMNS[1:]},
            sizes=self.sizes[first:last],
            file_names=self.file_names[first:last],
            image_labels=replace(labels, image=labels.image - first),
        )

    def select(self, images: ArrayLike) -> Annotations:
        """The same table for some images, given as B' indices; they are numbered anew in that order.

        Raises:
            InputError: an index that stands twice, or truth values instead.
        """
        keep = np.arange(len(self.image_ids))[indices(images)]  # from the end, too
        if len(keep) and (np.diff(keep) == 1).all():
            return self._between(keep[0], keep[-1] + 1)
        if len(np.unique(keep)) != len(keep):
            raise InputError("an image stands twice among those to select")
        order, ends = self._image_labels_by_image
        (rows, image), (verified, labelled) = (_of_lists(keep, offsets) for offsets in (self.offsets, ends))
        return self._of_valid(
            image_ids=tuple(self.image_ids[i] for i in keep),
            image=image,
            **{name: getattr(self, name)[rows] for name in BOX_COLUMNS[1:]},
            sizes=self.sizes[keep],
            file_names=tuple(self.file_names[i] for i in keep) if self.file_names else (),
            image_labels=replace(self.image_labels.rows(order[verified]), image=labelled),
        )

    @cached_property
    def _image_labels_by_image(self) -> tuple[Ints, Ints]:
        """(V,) rows of the image labels, and (B + 1,) where among them those of each image begin."""
        image = self.image_labels.image
        order = np.argsort(image, kind="stable")
        return order, np.searchsorted(image[order], np.arange(len(self.image_ids) + 1))


def _of_lists(keep: Ints, offsets: Ints) -> tuple[Ints, Ints]:
    """Rows of some lists, one list after the other, and the place of each row's list in `keep`."""
    first, last = offsets[:-1][keep], offsets[1:][keep]
    return members(first, last - first), np.repeat(np.arange(len(keep)), last - first)


def concatenate(tables: Sequence[Annotations]) -> Annotations:
    """Tables of different images as one, in their order.

    Raises:
        InputError: no table, other classes in one than in another, an image that stands in two.

    >>> one, two = Annotations(Vocabulary(("a",)), ("x", "y"), [0, 1], [[0, 0, 1, 1]] * 2, [0, 0]).parts(2)
    >>> concatenate([two, one]).image_ids
    ('y', 'x')
    """
    if not tables:
        raise InputError("no table to put together")
    if any(table.vocabulary != tables[0].vocabulary for table in tables):
        raise InputError("tables with other classes do not go together")
    starts = np.cumsum([0, *(len(table.image_ids) for table in tables)])

    def joined(name: str, *, shift: bool = False, labels: bool = False) -> NDArray[Any]:
        of = [getattr(table.image_labels if labels else table, name) for table in tables]
        return np.concatenate([x + start if shift else x for x, start in zip(of, starts, strict=False)])

    named = any(table.file_names for table in tables)
    return Annotations(
        tables[0].vocabulary,
        tuple(chain.from_iterable(table.image_ids for table in tables)),
        image=joined("image", shift=True),
        boxes=joined("boxes"),
        label=joined("label"),
        is_group_of=joined("is_group_of"),
        sizes=joined("sizes"),
        file_names=tuple(t.file_name(b) for t in tables for b in range(len(t.image_ids))) if named else (),
        image_labels=ImageLabels(
            joined("image", shift=True, labels=True),
            joined("label", labels=True),
            joined("is_positive", labels=True),
            joined("is_exhaustive", labels=True),
        ),
    )


def expand(annotations: Annotations, hierarchy: Hierarchy) -> Annotations:
    """The truth with what the hierarchy implies, as Open Images' own tool writes it.

    Each box is repeated for every ancestor of its class, right after itself, ancestors ascending; a positive
    image label likewise; a negative one is repeated for every descendant. Nothing is merged: two boxes on one
    object under one parent give the parent two boxes.
    Source: TensorFlow Object Detection API, `oid_hierarchical_labels_expansion.py`.

    >>> truth = Annotations(Vocabulary(("cat", "pet")), ("a",), image=[0], boxes=[[0, 0, 1, 1]], label=[0])
    >>> expand(truth, Hierarchy(2, [(0, 1)])).label.tolist()
    [0, 1]
    """
    check_size(hierarchy, len(annotations.vocabulary))
    row, label = spread(annotations.label, hierarchy.is_ancestor)
    there = annotations.image_labels.rows(annotations.image_labels.is_positive)
    absent = annotations.image_labels.rows(~annotations.image_labels.is_positive)
    positive, up = spread(there.label, hierarchy.is_ancestor)
    negative, down = spread(absent.label, hierarchy.is_ancestor.T)
    labels = [replace(there.rows(positive), label=up), replace(absent.rows(negative), label=down)]
    return replace(
        annotations,
        image=annotations.image[row],
        boxes=annotations.boxes[row],
        label=label,
        is_group_of=annotations.is_group_of[row],
        image_labels=ImageLabels(
            *(np.concatenate([getattr(some, field.name) for some in labels]) for field in fields(ImageLabels))
        ),
    )


def spread(label: Ints, implies: Bools) -> tuple[Ints, Ints]:
    """Each label followed by those it implies: (source row, label), the label itself first."""
    with_itself = implies | np.eye(len(implies), dtype=bool)
    i, j = np.nonzero(with_itself)
    implied = j[np.lexsort((j, i != j, i))]
    counts = with_itself.sum(axis=1)
    first, repeat = np.cumsum(counts) - counts, counts[label]
    return np.repeat(np.arange(len(label)), repeat), implied[members(first[label], repeat)]


def members(first: Ints, counts: Ints) -> Ints:
    """Positions of all members of some lists, one list after the other.

    Args:
        first, counts: of each list the position of its first member, and how many it has.

    >>> members(np.array([7, 0]), np.array([2, 3])).tolist()
    [7, 8, 0, 1, 2]
    """
    places: Ints = np.arange(counts.sum()) + np.repeat(first - (np.cumsum(counts) - counts), counts)
    return places
