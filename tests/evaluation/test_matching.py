"""Outcomes of single detections and their order."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation.small_tables import found_of, truth_of

from wildbox.evaluation.matching import FALSE, GROUP, IGNORED, TRUE, match
from wildbox.vocabulary import Vocabulary

BOX, FAR, PART = (0, 0, 4, 4), (8, 8, 9, 9), (0, 0, 1, 1)


@pytest.mark.parametrize(
    ("absorbing", "expected"),
    [(True, [FALSE, TRUE, GROUP, IGNORED, FALSE]), (False, [FALSE, TRUE, FALSE, FALSE, FALSE])],
)
def test_outcomes_by_class_then_falling_score(absorbing: bool, expected: list[int]) -> None:
    # Class 0: BOX is a group-of box with two parts found, FAR an ordinary one; y holds no box.
    vocabulary = Vocabulary(("a", "b"))
    truth = truth_of(vocabulary, ("x", "y"), [0, 0], [BOX, FAR], [0, 0], [True, False])
    found = found_of(
        vocabulary,
        ("x", "y"),
        [1, 0, 0, 0, 1],
        [BOX, PART, FAR, PART, BOX],
        [1, 0, 0, 0, 0],
        [1.0, 0.2, 0.5, 0.4, 0.9],
    )
    matches = match(found, truth, absorbing=absorbing, iou=0.5)
    # Rows are sorted by image: the three of x first.
    assert matches.rows.tolist() == [4, 1, 2, 0, 3]
    assert matches.offsets.tolist() == [0, 4, 5]
    assert matches.outcome.tolist() == expected


def test_only_those_that_take_part_are_matched() -> None:
    vocabulary = Vocabulary(("a",))
    truth = truth_of(vocabulary, ("x",), [0], [BOX], [0])
    found = found_of(vocabulary, ("x",), [0, 0], [BOX, BOX], [0, 0], [0.9, 0.8])
    matches = match(found, truth, take_part=np.array([False, True]), absorbing=True, iou=0.5)
    assert (matches.rows.tolist(), matches.outcome.tolist()) == ([1], [TRUE])
