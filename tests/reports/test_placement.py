"""Names of classes never lie on one another, and stay inside their panel."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wildbox.reports.placement import distances, group_boxes, leader, place_labels

side = st.floats(0, 200, allow_nan=False)
extent = st.floats(1, 120, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(side, side, extent, extent, extent, extent), max_size=14))
def test_no_two_labels_overlap(rows: list[tuple[float, ...]]) -> None:
    table = np.array(rows, np.float64).reshape(-1, 6)
    boxes = np.concatenate([table[:, :2], np.minimum(table[:, :2] + table[:, 2:4], 200)], axis=1)
    corners = place_labels(boxes, table[:, 4:], width=200, height=150)
    rects = [[x, y, x + w, y + h] for (x, y), (w, h) in zip(corners, table[:, 4:], strict=True) if x == x]
    for x1, y1, x2, y2 in rects:
        assert min(x1, y1) >= 0
        assert x2 <= 200 + 1e-9
        assert y2 <= 150 + 1e-9
    for a, b in combinations(rects, 2):
        assert min(a[2], b[2]) <= max(a[0], b[0]) or min(a[3], b[3]) <= max(a[1], b[1])


def test_label_without_room_is_nan() -> None:
    boxes, sizes = np.array([[0.0, 0, 9, 9], [0, 0, 9, 9]]), np.array([[100.0, 100], [101, 5]])
    corners = place_labels(boxes, sizes, width=100, height=100)
    assert corners[0].tolist() == [0, 0]
    assert np.isnan(corners[1]).all()
    for size in ([101.0, 5], [5, 101]):
        assert np.isnan(place_labels(boxes[:1], np.array([size]), width=100, height=100)).all()


def test_the_larger_of_two_labels_has_the_better_place() -> None:
    boxes = np.array([[20.0, 20, 60, 60], [20, 20, 60, 60]])
    corners = place_labels(boxes, np.array([[20.0, 8], [30, 8]]), width=99, height=99)
    assert corners[1].tolist() == [20, 12]  # above the corner
    assert corners[0].tolist() != [20, 12]
    # where there is room for one alone
    corners = place_labels(boxes, np.array([[20.0, 8], [30, 8]]), width=31, height=10)
    assert np.isnan(corners[0]).all()
    assert not np.isnan(corners[1]).any()


@pytest.mark.parametrize("size", [(15.0, 8.0), (8.0, 15.0), (8.0, 8.0)])
def test_a_label_stands_above_the_corner_of_its_box(size: tuple[float, float]) -> None:
    box = np.array([[20.0, 20.0, 60.0, 60.0]])
    corner = place_labels(box, np.array([size]), width=99, height=99)
    assert corner.tolist() == [[20.0, 20.0 - size[1]]]


def test_two_labels_have_a_gap_between_them() -> None:
    boxes = np.array([[0.0, 40, 40, 90], [40, 40, 90, 90]])
    one, other = place_labels(boxes, np.array([[40.0, 10], [39, 10]]), width=99, height=99)
    assert one.tolist() == [0, 30]
    assert other[0] >= 40 + 1


def test_labels_touch_their_box_as_long_as_there_is_room() -> None:
    box, sizes = np.array([[20.0, 20, 80, 80]]), np.array([[20.0, 8]] * 8)
    corners = place_labels(np.repeat(box, 8, axis=0), sizes, width=99, height=99)
    rects = np.concatenate([corners, corners + sizes], axis=1)
    assert distances(rects, box[0]).tolist() == [0] * 8
    many = np.array([[20.0, 8]] * 24)  # half of the panel
    corners = place_labels(np.repeat(box, 24, axis=0), many, width=99, height=99)
    assert not np.isnan(corners).any()


def test_label_keeps_clear_of_boxes_where_it_can() -> None:
    boxes = np.array([[50.0, 60, 90, 100], [50, 40, 90, 59]])
    corners = place_labels(boxes, np.array([[30.0, 10], [30, 10]]), width=200, height=200)
    rects = np.concatenate([corners, corners + np.array([30, 10])], axis=1)
    shared = np.minimum(rects[:, None, 2:], boxes[None, :, 2:]) - np.maximum(
        rects[:, None, :2], boxes[None, :, :2]
    )
    assert not (shared > 0).all(axis=2).any()


def test_nearly_identical_boxes_are_one_group_and_threshold_is_strict() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9.0], [0, 0, 10, 9.5]])
    assert group_boxes(boxes, order=np.zeros(3)) == [[0, 2], [1]]
    flat = np.zeros((2, 4))
    assert group_boxes(flat, order=np.zeros(2)) == [[0], [1]]


def test_the_largest_order_opens_the_first_group_and_ties_keep_the_rows() -> None:
    boxes = np.array([[0, 0, 10, 10], [50, 0, 60, 10], [0, 0, 10, 9.8], [50, 0, 60, 10]], float)
    assert group_boxes(boxes, order=np.array([0.1, 0.5, 0.7, 0.5])) == [[2, 0], [1, 3]]


def test_leader_is_as_long_as_the_distance() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        a, b = (np.concatenate([low, low + rng.uniform(1, 9, 2)]) for low in rng.uniform(0, 30, (2, 2)))
        start, end = leader(a, b)
        assert np.isclose(np.hypot(*(end - start)), distances(a[None], b)[0])
