"""Labels of objects from boxes with one label each."""

from __future__ import annotations

import pytest
import torch

from wildbox.adapters.targets import check_columns, first_of_object, object_labels, with_background
from wildbox.classification import ConcurrentSoftmax, Softmax
from wildbox.errors import ConfigError, InputError

# a is the same as b and b as c, but c is not the same as a; d is elsewhere and has no area
BOXES = torch.tensor([[0, 0, 100, 100], [0, 0, 100, 95], [0, 0, 100, 89], [200, 200, 200, 200]]).float()
LABELS = torch.tensor([0, 1, 2, 3])


def test_labels_of_all_boxes_of_an_object() -> None:
    found = object_labels({}, BOXES, LABELS, classes=5)
    expected = [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 0]]
    assert found.long().tolist() == expected
    alone = object_labels({}, BOXES, LABELS, classes=5, iou=None)
    assert alone.long().tolist() == torch.eye(5)[:4].long().tolist()


def test_one_box_of_each_object() -> None:
    assert first_of_object(BOXES).tolist() == [True, False, True, True]
    assert first_of_object(BOXES, iou=None).all()


def test_no_boxes() -> None:
    none = torch.zeros(0, 4)
    assert object_labels({}, none, torch.zeros(0, dtype=torch.int64), classes=3).shape == (0, 3)
    assert first_of_object(none).shape == (0,)
    assert with_background(torch.zeros(0, 3)).shape == (0, 4)


def test_given_labels_are_taken() -> None:
    given = torch.tensor([[1, 1], [0, 1]])
    found = object_labels({"multi_hot": given}, BOXES[:2], LABELS[:2], classes=2)
    assert found.dtype == torch.bool
    assert found.long().tolist() == given.tolist()
    with pytest.raises(InputError, match=r"multi_hot: expected \(2, 3\), got \(2, 2\)"):
        object_labels({"multi_hot": given}, BOXES[:2], LABELS[:2], classes=3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.tensor([[1, 0], [0, 0]]), "multi_hot: row 1 has no label, expected at least one a box"),
        (torch.tensor([[1, 0], [0, 2]]), "multi_hot: row 1 has values other than 0 and 1"),
        (torch.tensor([[0.5, 0], [0, 1]]), "multi_hot: row 0 has values other than 0 and 1"),
        (torch.tensor([[1, torch.nan], [0, 1]]), "multi_hot: row 0 has values other than 0 and 1"),
    ],
)
def test_given_labels_are_checked(given: torch.Tensor, message: str) -> None:
    """A box without a label would be learnt as background, without a word."""
    with pytest.raises(InputError, match=message):
        object_labels({"multi_hot": given}, BOXES[:2], LABELS[:2], classes=2)


def test_labels_and_rules_must_fit() -> None:
    with pytest.raises(InputError, match=r"box 3 of an image has 3, expected 0\.\.2"):
        object_labels({}, BOXES, LABELS, classes=3)
    with pytest.raises(ConfigError, match=r"the model has 5 columns .* rates: expected \(5, 5\)"):
        check_columns(ConcurrentSoftmax(torch.zeros(4, 4)), torch.nn.Linear(2, 5), 5)
    check_columns(Softmax(), torch.nn.Linear(2, 5), 5)
    check_columns(ConcurrentSoftmax(torch.zeros(4, 4)), torch.nn.Identity(), None)


def test_boxes_at_the_threshold_are_two_objects() -> None:
    half = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 5]])  # IoU exactly 1/2
    label = torch.tensor([0, 1])
    apart = [[True, False], [False, True]]
    assert object_labels({}, half, label, classes=2, iou=0.5).tolist() == apart
    assert object_labels({}, half, label, classes=2, iou=0.49).all()
    assert first_of_object(half, iou=0.5).tolist() == [True, True]
    assert first_of_object(half, iou=0.49).tolist() == [True, False]
