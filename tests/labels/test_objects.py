"""Boxes of one object, against all pairs tried in plain Python."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labels.crowded_tables import CLASSES, SIX, TREE, crowded, table, tables
from oracles.concurrency import labels_of_objects, partners

from wildbox.annotations import Annotations, expand
from wildbox.boxes import areas
from wildbox.errors import ConfigError
from wildbox.labels.objects import object_labels, same_object_pairs
from wildbox.vocabulary import Hierarchy, Vocabulary

UNIT = [0.0, 0.0, 1.0, 1.0]


def literal_pairs(truth: Annotations, *, iou: float = 0.9) -> list[list[int]]:
    return [[i, j] for i, others in enumerate(partners(truth, iou=iou)) for j in sorted(others) if i < j]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("iou", [0.0, 0.5, 0.9, 0.99])
def test_pairs_are_those_of_the_oracle(seed: int, iou: float) -> None:
    truth = crowded(seed)
    assert same_object_pairs(truth, iou=iou).tolist() == literal_pairs(truth, iou=iou)


@settings(max_examples=150, deadline=None)
@given(tables(), st.sampled_from([0.0, 0.5, 0.9]))
def test_pairs_of_arbitrary_boxes(truth: Annotations, iou: float) -> None:
    assert same_object_pairs(truth, iou=iou).tolist() == literal_pairs(truth, iou=iou)


def test_the_threshold_is_strict() -> None:
    half = table([(0, UNIT, 0), (0, [0.0, 0.0, 1.0, 0.5], 1)], images=1)  # exactly 0.5 in float64
    assert len(same_object_pairs(half, iou=0.5)) == 0
    assert len(same_object_pairs(half, iou=np.nextafter(0.5, 0))) == 1


def test_boxes_at_exactly_the_threshold_are_no_pair() -> None:
    """Shrunk in one direction to nine tenths, of decimals with up to six places: plain float64 lets some in."""
    rows, wrong = [], 0
    for image, (low, side) in enumerate(product(range(0, 900_000, 4_321), (10, 20_010, 61_230, 99_990))):
        x1, x2, y2 = low / 1e6, (low + side) / 1e6, (low + side * 9 // 10) / 1e6
        rows += [(image, [x1, x1, x2, x2], 0), (image, [x1, x1, x2, y2], 1)]
        whole, part = (x2 - x1) * (x2 - x1), (x2 - x1) * (y2 - x1)
        wrong += part > 0.9 * whole
    truth = table(rows, images=len(rows) // 2)
    assert wrong > 50
    assert len(same_object_pairs(truth)) == 0
    assert len(same_object_pairs(truth, iou=0.8999999)) == len(rows) // 2


@pytest.mark.parametrize("unit", [1, 100, 1_000_000])
def test_boxes_at_exactly_the_threshold_are_decided_as_decimals(unit: int) -> None:
    """Every box on a grid of 10 x 10 against the whole: 90 cells are not enough, 91 are."""
    rows = []
    for image, (x1, x2, y1, y2) in enumerate(product(range(3), range(8, 11), range(3), range(8, 11))):
        cells = [[0, 0, 10, 10], [x1, y1, x2, y2]]
        rows += [(image, [(7 + edge) / unit for edge in cell], label) for label, cell in enumerate(cells)]
    truth = table(rows, images=len(rows) // 2)
    assert same_object_pairs(truth).tolist() == literal_pairs(truth)
    assert same_object_pairs(truth, iou=0.81).tolist() == literal_pairs(truth, iou=0.81)


def test_many_boxes_in_many_images() -> None:
    """More boxes than one thread scans at a time, in images of one to a hundred."""
    rng = np.random.default_rng(0)
    image = np.sort(rng.choice(12_000, 450_000, p=rng.dirichlet(np.full(12_000, 0.7))))
    corner = rng.integers(0, 4, (len(image), 2)) / 4
    truth = Annotations(
        SIX, tuple(map(str, range(12_000))), image, np.hstack([corner, corner + 0.25]), image % 6
    )
    keys, counts = np.unique(
        np.column_stack([truth.image, truth.boxes[:, :2] * 4]), axis=0, return_counts=True
    )
    pairs = same_object_pairs(truth)
    assert len(keys) > 10_000
    assert len(pairs) == (counts * (counts - 1) // 2).sum()
    assert (truth.boxes[pairs[:, 0]] == truth.boxes[pairs[:, 1]]).all()


def test_boxes_without_area_match_nothing() -> None:
    assert len(same_object_pairs(table([(0, [0.2, 0.0, 0.2, 1.0], 0)] * 2, images=1))) == 0


def test_more_pairs_than_boxes() -> None:
    assert len(same_object_pairs(table([(0, UNIT, 0)] * 40, images=1))) == 40 * 39 // 2


@pytest.mark.parametrize("iou", [-0.1, 1.0, float("nan")])
def test_a_threshold_outside_is_an_error(iou: float) -> None:
    with pytest.raises(ConfigError, match="iou"):
        same_object_pairs(crowded(0), iou=iou)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("hierarchy", [None, TREE])
def test_labels_of_objects_are_those_of_the_oracle(seed: int, hierarchy: Hierarchy | None) -> None:
    truth = crowded(seed)
    if hierarchy is not None:
        truth = expand(truth, hierarchy)
        truth = truth.keep(
            areas(truth.boxes) > 0
        )  # no box is on the object of one without area, not its own parent
    objects = object_labels(truth)
    expected = labels_of_objects(truth, hierarchy)
    assert [objects.of(i).tolist() for i in range(len(truth))] == expected
    assert objects.rows.tolist() == [i for i, labels in enumerate(expected) if len(labels) > 1]
    rows = np.random.default_rng(seed).integers(0, len(truth), 9)
    hot = objects.multi_hot(rows, CLASSES)
    assert [np.flatnonzero(row).tolist() for row in hot] == [expected[i] for i in rows]


def test_labels_of_no_boxes() -> None:
    objects = object_labels(table([], images=1))
    assert objects.offsets.tolist() == [0]
    assert objects.multi_hot([], CLASSES).shape == (0, CLASSES)


def test_a_later_box_may_begin_before_by_a_tenth_of_the_width() -> None:
    """The larger box stands second and begins 1.05 before the smaller: IoU 9.95 / 11 = 0.905."""
    wide = np.array([[1.05, 0, 11, 10], [0, 0, 11, 10]])
    for boxes in (wide, wide[:, [1, 0, 3, 2]]):
        truth = Annotations(Vocabulary(("a",)), ("x",), np.zeros(2, int), boxes, np.zeros(2, int))
        assert same_object_pairs(truth).tolist() == [[0, 1]]
