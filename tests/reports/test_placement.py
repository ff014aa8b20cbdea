"""Names of classes never lie on one another, and stay inside their panel."""

from __future__ import annotations

from itertools import combinations

import numpy as np
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


def test_leader_is_as_long_as_the_distance() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        a, b = (np.concatenate([low, low + rng.uniform(1, 9, 2)]) for low in rng.uniform(0, 30, (2, 2)))
        start, end = leader(a, b)
        assert np.isclose(np.hypot(*(end - start)), distances(a[None], b)[0])
