"""Columns that people give: nothing is reshaped, cut off or read as something else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wildbox.annotations import Annotations, ImageLabels
from wildbox.columns import checked_column
from wildbox.detections import Detections
from wildbox.errors import InputError
from wildbox.vocabulary import Vocabulary

PETS = Vocabulary(("cat", "dog"))
BOXES = [[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 3.0, 3.0]]


def found(**columns: Any) -> Detections:
    sound: dict[str, Any] = {"image": [0, 0, 1], "boxes": BOXES, "label": [0, 1, 1], "score": [0.5, 0.5, 1]}
    return Detections(PETS, ("a", "b"), **(sound | columns))


def truth(**columns: Any) -> Annotations:
    sound: dict[str, Any] = {"image": [0, 0, 1], "boxes": BOXES, "label": [0, 1, 1]}
    return Annotations(PETS, ("a", "b"), **(sound | columns))


@pytest.mark.parametrize("table", [found, truth])
@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"boxes": np.transpose(BOXES)}, r"'boxes' has the shape \(4, 3\), expected \(N, 4\)"),
        ({"boxes": np.ravel(BOXES)}, r"'boxes' has the shape \(12,\)"),
        ({"boxes": BOXES[:2]}, "'boxes' has 2 rows, expected 3"),
        ({"label": [[0], [1], [1]]}, r"'label' has the shape \(3, 1\), expected \(N,\)"),
        ({"label": [0, 0.9, 1]}, "'label', row 1: 0.9, expected a whole number"),
        ({"label": [0, np.nan, 1]}, "'label', row 1: nan"),
        ({"label": [True, False, True]}, "'label' holds bool"),
        ({"label": ["0", "1", "1"]}, "'label' holds <U1"),
        ({"label": np.array([0, 0.5, 1], object)}, "'label', row 1: 0.5"),
        ({"label": np.array(["0", 1, 1], object)}, "'label', row 0: 0"),
        ({"label": np.array([0, None, 1], object)}, "'label': .*; expected a whole number in each row"),
        ({"boxes": [["0", "0", "1", "1"]] * 3}, "'boxes' holds <U1, expected a number"),
        ({"boxes": torch.tensor(BOXES).bfloat16()}, "'boxes': Got unsupported ScalarType BFloat16"),
        ({"boxes": torch.tensor(BOXES).requires_grad_()}, "'boxes': Can't call numpy.* requires grad"),
        ({"boxes": [BOXES[0], [1, 2], BOXES[2]]}, "'boxes': .*inhomogeneous shape"),
        ({"image": [[0], [0], [1]]}, "'image' has the shape"),
        ({"image": [0, 0.5, 1]}, "'image', row 1: 0.5"),
    ],
)
def test_refuses(table: Any, columns: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        table(**columns)


def test_refuses_what_one_table_has() -> None:
    with pytest.raises(InputError, match="'score' has the shape"):
        found(score=[[0.5], [0.5], [0.5]])
    for group_of, said in (
        (["0", "1", "0"], "holds <U1"),
        ([0, np.nan, 1], "row 1: nan"),
        ([0, 2, 1], "row 1: 2"),
    ):
        with pytest.raises(InputError, match=said):
            truth(is_group_of=group_of)
    with pytest.raises(InputError, match="'sizes' has the shape"):
        truth(sizes=[10, 10, 20, 20])
    with pytest.raises(InputError, match=r"'label', row 0: 0\.5"):
        ImageLabels(np.array([0]), np.array([0.5]), np.array([True]))
    none: Any = []
    for id_ in (7, None):
        ids: Any = ("a", id_)
        with pytest.raises(InputError, match=f"image id {id_}: expected a text"):
            Detections(PETS, ids, none, none, none, none)
        with pytest.raises(InputError, match=f"image id {id_}"):
            Annotations(PETS, ids, none, none, none)


def test_takes_what_loses_nothing() -> None:
    same = found(
        image=torch.tensor([0, 0, 1]).int(),
        boxes=torch.tensor(BOXES).half(),
        label=np.array([0, 1, 1], np.uint8),
        score=[0.5, 0.5, 1],
    )
    for name in ("image", "boxes", "label", "score"):
        assert np.array_equal(getattr(same, name), getattr(found(), name))
    assert found(label=[0.0, 1.0, 1.0]).label.tolist() == [0, 1, 1]
    mixed = np.array([[0, 0.5], [1, 0.5], [1, 1.0]], object)  # as rows of a data frame come
    assert found(label=mixed[:, 0], score=mixed[:, 1]).label.tolist() == [0, 1, 1]
    assert found(image=[], boxes=[], label=np.zeros((0, 1)), score=[]).label.shape == (0,)
    assert truth(is_group_of=[0, 1, 0]).is_group_of.tolist() == [False, True, False]
    assert found(image=[], boxes=[], label=[], score=[]).boxes.shape == (0, 4)


@pytest.mark.parametrize("table", [found, truth])
def test_a_table_is_read_only_but_not_what_it_was_made_from(table: Any) -> None:
    given = {"image": np.array([0, 0, 1]), "boxes": np.array(BOXES), "label": np.array([0, 1, 1])}
    made = table(**given)
    for name, column in given.items():
        column += 0
        with pytest.raises(ValueError, match="read-only"):
            getattr(made, name)[0] = 0


@given(st.lists(st.floats(), max_size=5))
def test_whole_numbers_and_no_others(values: list[float]) -> None:
    if all(value.is_integer() and -(2**63) <= value < 2**63 for value in values):
        assert checked_column(values, np.int64, "x", len(values)).tolist() == values
    else:
        with pytest.raises(InputError, match="a whole number"):
            checked_column(values, np.int64, "x", len(values))
