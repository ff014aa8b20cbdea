"""Detections of several models on the same images, drawn so that they overlap and tie often."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from wildbox.annotations import Floats
from wildbox.detections import Detections
from wildbox.vocabulary import Vocabulary

CLASSES = 3
VOCABULARY = Vocabulary(tuple("xyz"))
IMAGES = ("a", "b", "c")
Row = tuple[int, int, float, Sequence[float]]
"""Image, label, score, box."""


def model_of(
    rows: Sequence[Row], *, images: Sequence[str] = IMAGES, vocabulary: Vocabulary = VOCABULARY
) -> Detections:
    """Detections from a list."""
    image, label, score, boxes = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Detections(
        vocabulary,
        tuple(images),
        np.array(image, np.int64),
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array(label, np.int64),
        np.array(score, np.float64),
    )


def rows_of(found: Detections) -> list[tuple[str, int, float, list[float]]]:
    """Image id, label, score, box, sorted."""
    ids = [found.image_ids[i] for i in found.image]
    return sorted(zip(ids, found.label.tolist(), found.score.tolist(), found.boxes.tolist(), strict=True))


def draw(rng: np.random.Generator, *, models: int, grid: int | None, levels: int | None) -> list[Detections]:
    """Up to 30 detections a model, most of them around few places; images in another order in each.

    Args:
        grid: corners are multiples of 1 / grid (some boxes are flat or turned around); none: any number.
        levels: scores are multiples of 1 / levels, 0 among them; none: any number.
    """
    places = rng.integers(0, 5, (4, 2)) / 8
    result = []
    for _ in range(models):
        count = int(rng.integers(0, 31))
        low = places[rng.integers(0, 4, count)]
        boxes = np.hstack([low, low + 0.375]) + rng.normal(0, 0.06, (count, 4))
        boxes = np.clip(boxes if grid is None else np.round(boxes * grid) / grid, 0, 1)
        score = rng.random(count) if levels is None else rng.integers(0, levels + 1, count) / levels
        order = rng.permutation(3)
        ids = tuple(IMAGES[i] for i in order)
        image, label = rng.integers(0, 3, count), rng.integers(0, CLASSES, count)
        result.append(Detections(VOCABULARY, ids, image, boxes, label, score))
    return result


def several() -> st.SearchStrategy[list[Detections]]:
    """One to four models; with ties and without."""
    return st.builds(
        lambda seed, models, grid, levels: draw(
            np.random.default_rng(seed), models=models, grid=grid, levels=levels
        ),
        st.integers(0, 2**32 - 1),
        st.integers(1, 4),
        st.sampled_from([None, 8, 16]),
        st.sampled_from([None, 1, 4]),
    )


def relative(rng: np.random.Generator, *, models: int) -> Floats:
    """Weights (models, classes), some 0, the largest of a class 1."""
    weights: Floats = rng.random((models, CLASSES)) * (rng.random((models, CLASSES)) < 0.8)
    weights[rng.integers(0, models, CLASSES), np.arange(CLASSES)] = 1.0
    return weights
