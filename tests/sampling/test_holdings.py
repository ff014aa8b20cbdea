"""From labels of images to images of classes, against a search through lists."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wildbox.errors import ConfigError, InputError
from wildbox.sampling import to_csr
from wildbox.sampling.holdings import images_by_class

HOLDINGS = st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=12).filter(
    lambda rows: {label for row in rows for label in row} != {0, 1}  # might be multi-hot rows
)
"""The labels of each image."""


@settings(max_examples=100, deadline=None)
@given(HOLDINGS, st.sampled_from([0, 70_000]), st.integers(0, 3))
def test_images_by_class(holdings: list[list[int]], shift: int, more: int) -> None:
    offsets, labels = to_csr([[label + shift for label in labels] for labels in holdings])
    largest = max((label + shift for labels in holdings for label in labels), default=-1)
    for classes, expected_classes in ((None, largest + 1), (largest + 1 + more, largest + 1 + more)):
        first, images = images_by_class(offsets, labels, classes=classes)
        assert len(first) == expected_classes + 1
        assert first[0] == 0
        assert first[-1] == len(images)
        for label in range(shift, largest + 1):
            expected = [b for b, held in enumerate(holdings) if label - shift in held]
            assert images[first[label] : first[label + 1]].tolist() == expected


@given(HOLDINGS)
def test_csr_can_be_read_back(holdings: list[list[int]]) -> None:
    offsets, labels = to_csr(holdings)
    assert [part.tolist() for part in np.split(labels, offsets[1:])][: len(holdings)] == holdings
    assert offsets.dtype == labels.dtype == np.int64


def test_every_kind_of_integers_will_do() -> None:
    offsets, labels = to_csr([[3, 3, 1], [], [1]])
    expected = images_by_class(offsets, labels)
    readonly = labels.copy()
    readonly.setflags(write=False)
    given: list[tuple[Any, Any]] = [
        (offsets.tolist(), labels.tolist()),
        (torch.from_numpy(offsets), torch.from_numpy(labels)),
        (offsets.astype(np.int32), labels.astype(np.uint8)),
        (offsets, readonly),
        (offsets, np.repeat(labels, 2)[::2]),
    ]
    for pair in given:
        found = images_by_class(*pair)
        assert [column.tolist() for column in found] == [column.tolist() for column in expected]


@pytest.mark.parametrize(
    ("offsets", "labels", "message"),
    [
        ([], [], "offsets: expected to ascend from 0 to 0, the number of labels, got none"),
        ([1, 2], [0, 0], "ascend from 0 to 2, the number of labels, got 1 to 2"),
        ([0, 1], [0, 0], "ascend from 0 to 2, the number of labels, got 0 to 1"),
        ([0, 2, 1, 2], [0, 0], "ascend from 0 to 2, the number of labels, got 1 after 2 in entry 2"),
        ([0, 2], [0, -3], r"entry 1 \(image 0\) is -3, expected at least 0"),
        ([0, 2], [0, 1.5], "labels: expected integers"),
        ([0, 1], [math.nan], "labels: expected integers"),
        ([0, 2], [[0, 1]], r"labels: expected integers \(N,\), got int64 \(1, 2\)"),
    ],
)
def test_rows_must_fit(offsets: list[int], labels: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        images_by_class(offsets, labels)


def test_labels_must_be_among_the_classes() -> None:
    with pytest.raises(InputError, match=r"entry 3 \(image 2\) is 7, expected 0\.\.6"):
        images_by_class([0, 2, 2, 4], [0, 6, 1, 7], classes=7)
    with pytest.raises(ConfigError, match="classes is -1"):
        images_by_class([0], [], classes=-1)


@pytest.mark.parametrize(
    "labels", [3, "torch", ["torch"], [0.5], [0, -1], [True, False], torch.tensor([True, False])]
)
def test_lists_hold_class_indices(labels: Any) -> None:
    with pytest.raises(InputError, match=r"image 1 has .*, expected the list of its class indices"):
        to_csr([[0], labels])


def test_a_multi_hot_array_is_no_list_of_lists() -> None:
    with pytest.raises(InputError, match="expected one list of class indices an image, got ndarray of 2-D"):
        to_csr(np.eye(3, dtype=np.int64))


def test_multi_hot_rows_are_no_lists_of_labels() -> None:
    rows = [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    for table in (rows, [np.array(row) for row in rows], [torch.tensor(row) for row in rows]):
        with pytest.raises(InputError, match="each of 3 images has 3 labels, all 0 or 1, as multi-hot rows"):
            to_csr(table)
    others: list[list[list[int]]] = [
        [[1, 0, 0]],
        [[1, 0], [0, 1]],
        [[1, 0, 0], [0, 1]],
        [[1, 0, 0], [0, 2, 0]],
        [[1, 1, 1]] * 2,
        [[0, 0, 0]] * 2,
        [[], []],
    ]
    for fine in others:
        assert to_csr(fine)[1].tolist() == [label for row in fine for label in row]
