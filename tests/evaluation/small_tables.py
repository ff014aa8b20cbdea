"""Small truths and detections: from plain lists, or random ones that touch, tie and overlap often.

Random coordinates are eighths, so that sums and products of them are exact.
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from wildbox.annotations import Annotations, Floats, ImageLabels
from wildbox.detections import Detections
from wildbox.vocabulary import Hierarchy, Vocabulary

CLASSES = 4
IMAGES = ("a", "b", "c")
EDGES = ((0, 1), (1, 2), (0, 3))
"""Class 0 has two parents, one of which has a parent of its own."""


def truth_of(
    vocabulary: Vocabulary,
    image_ids: tuple[str, ...],
    image: ArrayLike,
    boxes: ArrayLike,
    label: ArrayLike,
    is_group_of: ArrayLike = False,
    image_labels: tuple[tuple[int, int, bool], ...] = (),
) -> Annotations:
    """A truth from lists; image labels are (image, label, is it there)."""
    image = np.asarray(image, np.int64)
    at, of, there = zip(*image_labels, strict=True) if image_labels else ((), (), ())
    return Annotations(
        vocabulary,
        image_ids,
        image,
        np.reshape(np.asarray(boxes, np.float64), (-1, 4)),
        np.asarray(label, np.int64),
        np.broadcast_to(np.asarray(is_group_of, bool), image.shape),
        image_labels=ImageLabels(np.array(at, np.int64), np.array(of, np.int64), np.array(there, bool)),
    )


def found_of(
    vocabulary: Vocabulary,
    image_ids: tuple[str, ...],
    image: ArrayLike,
    boxes: ArrayLike,
    label: ArrayLike,
    score: ArrayLike,
) -> Detections:
    """Detections from lists."""
    return Detections(
        vocabulary,
        image_ids,
        np.asarray(image, np.int64),
        np.asarray(boxes, np.float64),
        np.asarray(label, np.int64),
        np.asarray(score, np.float64),
    )


def random_boxes(rng: np.random.Generator, count: int, *, cells: int) -> Floats:
    """Boxes (count, 4) with corners on a grid of `cells`; some have no area."""
    corner = rng.integers(0, cells, (count, 2, 2))
    grown: Floats = np.hstack([corner.min(axis=1), corner.max(axis=1) + (rng.random((count, 2)) < 0.7)]) / 8
    return grown


def draw(rng: np.random.Generator, *, levels: int, group_of: float) -> tuple[Detections, Annotations]:
    """A truth on three images, with image labels and group-of boxes, and detections, most of them copies.

    Args:
        levels: scores are multiples of 1 / levels, 0 among them: few levels, many ties.
        group_of: share of group-of boxes.
    """
    vocabulary = Vocabulary(tuple("wxyz"))
    n, d, v = (int(rng.integers(0, high)) for high in (13, 40, 9))
    box, label, image = random_boxes(rng, n, cells=4), rng.integers(0, CLASSES, n), rng.integers(0, 3, n)
    labels = ImageLabels(rng.integers(0, 3, v), rng.integers(0, CLASSES, v), rng.random(v) < 0.5)
    truth = Annotations(vocabulary, IMAGES, image, box, label, rng.random(n) < group_of, image_labels=labels)
    found, found_label, found_image = (
        random_boxes(rng, d, cells=4),
        rng.integers(0, CLASSES, d),
        rng.integers(0, 3, d),
    )
    for i in range(d if n else 0):
        if rng.random() < 0.6:
            row = rng.integers(0, n)
            found[i], found_label[i], found_image[i] = truth.boxes[row], truth.label[row], truth.image[row]
    turned = rng.random(d) < 0.05
    found[turned] = found[turned][:, [2, 1, 0, 3]]
    score = rng.integers(0, levels + 1, d) / levels
    # The images of the detections stand in another order than those of the truth, as files may have them.
    return Detections(vocabulary, IMAGES[::-1], 2 - found_image, found, found_label, score), truth


def tables(*, levels: int = 5) -> st.SearchStrategy[tuple[Detections, Annotations]]:
    """What `draw` draws, for all seeds."""
    shares = st.sampled_from([0.0, 0.3, 0.8])
    return st.builds(
        lambda seed, share: draw(np.random.default_rng(seed), levels=levels, group_of=share),
        st.integers(0, 2**32 - 1),
        shares,
    )


def hierarchies() -> st.SearchStrategy[Hierarchy | None]:
    """None, or a hierarchy of some of the edges."""
    return st.none() | st.lists(st.sampled_from(EDGES)).map(lambda edges: Hierarchy(CLASSES, edges))
