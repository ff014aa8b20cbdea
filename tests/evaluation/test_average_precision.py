"""The area under the monotone precision-recall curve: numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from wildbox.evaluation.average_precision import average_precision, class_average_precisions
from wildbox.evaluation.matching import FALSE, GROUP, IGNORED, TRUE, Matches


@pytest.mark.parametrize(
    ("worth", "truth", "expected"),
    [
        ([], 3, 0.0),
        ([0, 0], 3, 0.0),
        ([1, 1], 2, 1.0),
        ([1, 1, 0, 0], 2, 1.0),  # what follows the last true one does not matter
        ([0, 1], 1, 0.5),
        ([1, 0, 0, 1, 1], 4, 0.25 * 1 + 0.25 * 3 / 5 + 0.25 * 3 / 5),  # 2/4 is raised to 3/5
        ([0.5, 0, 1], 1.5, 0.5 / 1.5 * 1 + 1 / 1.5 * 1.5 / 2.5),
    ],
)
def test_worked_by_hand(worth: list[float], truth: float, expected: float) -> None:
    assert average_precision(np.array(worth, float), float(truth)) == pytest.approx(expected, abs=1e-15)


def test_no_truth_no_average_precision() -> None:
    assert np.isnan(average_precision(np.array([0.0]), 0.0))


def test_classes_are_apart_and_the_ignored_do_not_count() -> None:
    outcome = np.array([TRUE, IGNORED, GROUP, FALSE, TRUE], np.int8)
    matches = Matches(np.arange(5), np.array([0, 3, 3, 5]), outcome)
    ap, counted = class_average_precisions(matches, np.array([2.0, 1.0, 1.0]), group_of_weight=1.0)
    assert (ap.tolist(), counted.tolist()) == ([1.0, 0.0, 0.5], [2, 0, 2])
    ap, counted = class_average_precisions(matches, np.array([1.0, 1.0, 1.0]))
    assert (ap.tolist(), counted.tolist()) == ([1.0, 0.0, 0.5], [1, 0, 2])
