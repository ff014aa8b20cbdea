"""Boxes and images per class, and how uneven they are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from labels.crowded_tables import CLASSES, crowded, table
from oracles.concurrency import rows_of

from wildbox.labels.counts import ClassCounts, count_classes


@pytest.mark.parametrize("seed", range(4))
def test_counts_are_those_of_the_rows(seed: int) -> None:
    truth = crowded(seed)
    rows = rows_of(truth)
    counts = count_classes(truth)
    assert counts.boxes.tolist() == [sum(label == c for _, label, _ in rows) for c in range(CLASSES)]
    images = [len({image for image, label, _ in rows if label == c}) for c in range(CLASSES)]
    assert counts.images.tolist() == images


def test_parts_add_up() -> None:
    truth = crowded(1)
    both = count_classes(truth.select(range(5))) + count_classes(truth.select(range(5, 14)))
    assert both.boxes.tolist() == count_classes(truth).boxes.tolist()
    assert both.images.tolist() == count_classes(truth).images.tolist()


def test_imbalance_is_over_classes_that_occur() -> None:
    counts = ClassCounts(np.array([0, 30, 2]), np.array([0, 3, 1]))
    assert counts.imbalance == 15
    assert math.isnan(count_classes(table([], images=1)).imbalance)


def test_gini_is_half_the_mean_difference_over_the_mean() -> None:
    boxes = np.array([7, 0, 1, 30, 4])
    occurring = boxes[boxes > 0]
    differences = np.abs(occurring[:, None] - occurring[None, :]).mean()
    expected = differences / (2 * occurring.mean())
    assert ClassCounts(boxes, boxes).gini == pytest.approx(expected, rel=1e-12)
    assert ClassCounts(np.array([4, 4]), np.array([1, 1])).gini == 0


def test_groups_are_thirds_by_images_and_ties_go_by_index() -> None:
    groups = ClassCounts(np.arange(7), np.array([5, 5, 5, 0, 9, 1, 5])).groups()
    assert groups.tolist() == ["head", "middle", "middle", "absent", "head", "tail", "tail"]
