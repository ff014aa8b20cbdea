"""Boxes of one object, against all pairs tried in plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labels.crowded_tables import CLASSES, TREE, crowded, table, tables
from oracles.concurrency import labels_of_objects, partners

from wildbox.annotations import Annotations
from wildbox.errors import ConfigError, InputError
from wildbox.labels.objects import object_labels, same_object_pairs
from wildbox.vocabulary import Hierarchy

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
    objects = object_labels(truth, hierarchy=hierarchy)
    expected = labels_of_objects(truth, hierarchy)
    assert [objects.of(i).tolist() for i in range(len(truth))] == expected
    rows = np.random.default_rng(seed).integers(0, len(truth), 9)
    hot = objects.multi_hot(rows, CLASSES)
    assert [np.flatnonzero(row).tolist() for row in hot] == [expected[i] for i in rows]


def test_labels_of_no_boxes() -> None:
    objects = object_labels(table([], images=1), hierarchy=TREE)
    assert objects.offsets.tolist() == [0]
    assert objects.multi_hot([], CLASSES).shape == (0, CLASSES)


def test_a_hierarchy_of_another_size_is_an_error() -> None:
    with pytest.raises(InputError, match="hierarchy of 2 classes, expected 6"):
        object_labels(crowded(0), hierarchy=Hierarchy(2, []))
