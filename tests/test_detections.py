"""Tables of detections: some of their images, several as one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wildbox.detections import Detections, concatenate_detections
from wildbox.errors import InputError
from wildbox.vocabulary import Vocabulary

PETS = Vocabulary(("cat", "dog"))


def numbered(ids: tuple[str, ...], image: list[int], first: int) -> Detections:
    """Boxes of height 1 whose x1 are `first`, `first` + 1, ... in the order given."""
    x = np.arange(first, first + len(image), dtype=float)
    boxes = np.column_stack([x, np.zeros_like(x), x + 1, np.ones_like(x)])
    return Detections(PETS, ids, np.array(image), boxes, np.arange(len(image)) % 2, x / 100)


def rows(found: Detections) -> list[tuple[str, float, int, float]]:
    return [
        (found.image_ids[image], box[0], label, score)
        for image, box, label, score in zip(
            found.image.tolist(),
            found.boxes.tolist(),
            found.label.tolist(),
            found.score.tolist(),
            strict=True,
        )
    ]


def test_some_images() -> None:
    found = numbered(("a", "b", "c"), [2, 0, 1, 2, 0], 1)
    some = found.select([2, 1])
    assert some.image_ids == ("c", "b")
    assert rows(some) == [("c", 1, 0, 0.01), ("c", 4, 1, 0.04), ("b", 3, 0, 0.03)]
    assert len(found.select([])) == 0


def test_several_tables() -> None:
    a, b = numbered(("a", "b"), [0, 1, 1], 1), numbered(("c", "b"), [1, 0], 11)
    whole = concatenate_detections([a, b])
    assert whole.image_ids == ("a", "b", "c")
    assert [(id_, x) for id_, x, _, _ in rows(whole)] == [("a", 1), ("b", 2), ("b", 3), ("b", 11), ("c", 12)]
    assert sorted(rows(whole)) == sorted(rows(a) + rows(b))
    with pytest.raises(InputError, match="same classes"):
        concatenate_detections([a, replace(b, vocabulary=Vocabulary(("cow", "pig")))])
    with pytest.raises(InputError, match="tables"):
        concatenate_detections([])
