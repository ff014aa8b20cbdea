"""Outcomes of single detections."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation.small_tables import found_of, truth_of

from wildbox.evaluation.matching import BEYOND, FALSE, GROUP, IGNORED, NO_AREA, TRUE, UNVERIFIED, match
from wildbox.vocabulary import Vocabulary

BOX, FAR, PART = (0, 0, 4, 4), (8, 8, 9, 9), (0, 0, 1, 1)


@pytest.mark.parametrize(
    ("absorbing", "expected"),
    [(True, [TRUE, GROUP, IGNORED, FALSE, FALSE]), (False, [TRUE, FALSE, FALSE, FALSE, FALSE])],
)
def test_group_of_boxes_absorb_or_are_difficult(absorbing: bool, expected: list[int]) -> None:
    # Class 0: BOX is a group-of box with two parts found, FAR an ordinary one; y holds no box.
    vocabulary = Vocabulary(("a", "b"))
    truth = truth_of(vocabulary, ("x", "y"), [0, 0], [BOX, FAR], [0, 0], [True, False])
    found = found_of(
        vocabulary,
        ("x", "y"),
        [0, 0, 0, 0, 1],
        [FAR, PART, PART, BOX, BOX],
        [0, 0, 0, 1, 0],
        [0.5, 0.4, 0.2, 1.0, 0.9],
    )
    outcome, tied = match(found, truth, absorbing=absorbing, iou=0.5)
    assert outcome.tolist() == expected
    assert tied.tolist() == [False, False]


def test_what_is_not_looked_at() -> None:
    vocabulary = Vocabulary(("a", "b", "c"))
    truth = truth_of(vocabulary, ("x",), [0], [BOX], [0], image_labels=((0, 1, False),))
    found = found_of(
        vocabulary,
        ("x",),
        [0] * 6,
        [BOX, BOX, FAR, (1, 1, 1, 3), FAR, FAR],
        [0, 0, 0, 0, 1, 2],
        [0.9, 0.8, 0.7, 0.95, 0.5, 0.5],
    )
    outcome, _ = match(found, truth, absorbing=True, iou=0.5, verified_only=True, limit=2)
    assert outcome.tolist() == [TRUE, FALSE, BEYOND, NO_AREA, FALSE, UNVERIFIED]
    outcome, _ = match(found, truth, absorbing=True, iou=0.5)
    assert outcome.tolist() == [TRUE, FALSE, FALSE, NO_AREA, FALSE, FALSE]


def test_equal_scores_that_come_out_differently_are_told() -> None:
    vocabulary = Vocabulary(("a",))
    truth = truth_of(vocabulary, ("x", "y"), [0, 1], [BOX, BOX], [0, 0])
    boxes = [(0, 0, 4, 3), BOX, FAR, BOX]
    for scores, expected in (([0.5, 0.5, 0.4, 0.5], True), ([0.5, 0.6, 0.4, 0.5], False)):
        found = found_of(vocabulary, ("x", "y"), [0, 0, 0, 1], boxes, [0] * 4, scores)
        outcome, tied = match(found, truth, absorbing=True, iou=0.5)
        assert tied.tolist() == [expected, False]
        # of equal scores the smaller box stands first: it takes the truth although it fits less
        assert outcome.tolist() == ([TRUE, FALSE, FALSE, TRUE] if expected else [FALSE, TRUE, FALSE, TRUE])


def test_threads_make_no_difference() -> None:
    rng = np.random.default_rng(0)
    images, n, d = 40, 400, 45_000
    ids = tuple(map(str, range(images)))
    vocabulary = Vocabulary(("a", "b"))
    corner = rng.random((n + d, 2))
    boxes = np.hstack([corner, corner + rng.random((n + d, 2)) * 0.3])
    image, label = rng.integers(0, images, n + d), rng.integers(0, 2, n + d)
    truth = truth_of(vocabulary, ids, image[:n], boxes[:n], label[:n], rng.random(n) < 0.2)
    found = found_of(vocabulary, ids, image[n:], boxes[n:], label[n:], rng.integers(0, 50, d) / 50)
    whole = match(found, truth, absorbing=True, iou=0.5)
    for b in range(images):
        rows = found.image == b
        one = found_of(
            vocabulary, ids, found.image[rows], found.boxes[rows], found.label[rows], found.score[rows]
        )
        outcome, tied = match(one, truth, absorbing=True, iou=0.5)  # few rows: one thread
        assert np.array_equal(outcome, whole[0][rows])
        assert tied[b] == whole[1][b]
