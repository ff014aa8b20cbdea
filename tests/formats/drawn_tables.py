"""Tables for tests of files: built from lists, drawn at random, compared."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from wildbox.annotations import Annotations, ImageLabels
from wildbox.vocabulary import Vocabulary

Row = tuple[int, int, Sequence[float]]
"""Image, label, box."""

IDS = st.text(string.ascii_letters + string.digits + "/_, \"'é#@%", min_size=1, max_size=6).filter(str.strip)
NUMERALS = st.integers(0, 10**12).map(str)


def table(images: Sequence[str], classes: Sequence[str], rows: Sequence[Row]) -> Annotations:
    """A table in relative coordinates; the name of a class is its id in capitals."""
    return Annotations(
        Vocabulary(tuple(classes), tuple(id_.upper() for id_ in classes)),
        tuple(images),
        image=np.array([image for image, _, _ in rows], np.int64),
        boxes=np.array([box for _, _, box in rows], np.float64).reshape(-1, 4),
        label=np.array([label for _, label, _ in rows], np.int64),
    )


def boxes(limit: float = 1.0) -> st.SearchStrategy[list[float]]:
    """Boxes in [0, limit], some without area."""
    side = st.tuples(st.floats(0, limit), st.floats(0, limit)).map(sorted)
    return st.tuples(side, side).map(lambda xy: [xy[0][0], xy[1][0], xy[0][1], xy[1][1]])


@st.composite
def tables(
    draw: st.DrawFn, *, ids: st.SearchStrategy[str] = IDS, scale: float = 1.0, lvis: bool = False
) -> Annotations:
    """Tables with at least one box, groups and image labels, on images of `scale` x `scale`.

    With `lvis` there are image labels that are not exhaustive, and groups of classes.
    """
    classes = draw(st.lists(ids, min_size=1, max_size=4, unique=True))
    images = draw(st.lists(ids, min_size=1, max_size=4, unique=True))
    an_image, a_class = st.integers(0, len(images) - 1), st.integers(0, len(classes) - 1)
    rows = draw(st.lists(st.tuples(an_image, a_class, boxes(scale)), min_size=1, max_size=6))
    groups = draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    said = st.sampled_from([(1, 1), (0, 1), (1, 0)] if lvis else [(1, 1), (0, 1)])
    verified = draw(st.lists(st.tuples(an_image, a_class, said), max_size=4))
    columns = np.array([(b, c, *kind) for b, c, kind in verified], np.int64).reshape(-1, 4)
    frequency = draw(st.lists(st.sampled_from("rcf"), min_size=len(classes), max_size=len(classes)))
    drawn = table(images, classes, rows)
    return replace(
        drawn,
        vocabulary=replace(drawn.vocabulary, groups=tuple(frequency) if lvis else ()),
        is_group_of=np.array(groups, bool),
        sizes=np.full((len(images), 2), scale),
        image_labels=ImageLabels(columns[:, 0], columns[:, 1], columns[:, 2] == 1, columns[:, 3] == 1),
    )


def assert_same(a: Annotations, b: Annotations) -> None:
    """Equal in everything; image labels in any order."""
    assert a.vocabulary == b.vocabulary
    assert a.vocabulary.groups == b.vocabulary.groups
    assert (a.image_ids, a.file_names) == (b.image_ids, b.file_names)
    for name in ("image", "boxes", "label", "is_group_of", "sizes"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert verified_rows(a) == verified_rows(b)


def verified_rows(truth: Annotations) -> list[tuple[int, ...]]:
    """Image labels as sorted rows."""
    labels = truth.image_labels
    columns = (labels.image, labels.label, labels.is_positive, labels.is_exhaustive)
    return sorted(zip(*(column.tolist() for column in columns), strict=True))
