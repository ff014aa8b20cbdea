"""Weights from average precisions, and models brought to the same images."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from ensembling.several_models import model_of, rows_of

from wildbox.ensembling import class_weights, on_same_images, weighted_boxes_fusion
from wildbox.errors import InputError, InputWarning

UNIT = (0.0, 0.0, 1.0, 1.0)


def test_a_model_counts_for_a_class_as_its_average_precision() -> None:
    nan = np.nan
    weights = class_weights([[0.5, 0.0, nan, 0.0], [0.1, 0.3, nan, 0.0]])
    assert weights.tolist() == [[0.5, 0.0, 1.0, 1.0], [0.1, 0.3, 1.0, 1.0]]


def test_each_model_is_trusted_where_it_is_good() -> None:
    """Each finds both things; each is right on one class and off on the other."""
    right, off = UNIT, (0.3, 0.0, 1.3, 1.0)
    a = model_of([(0, 0, 0.9, right), (0, 1, 0.9, off)])
    b = model_of([(0, 0, 0.9, off), (0, 1, 0.9, right)])
    found = weighted_boxes_fusion([a, b], weights=class_weights([[0.9, 0.1, 0.5], [0.1, 0.9, 0.5]]), iou=0.5)
    assert found.label.tolist() == [0, 1]
    for box in found.boxes:
        assert box == pytest.approx([0.03, 0, 1.03, 1])
    assert found.score == pytest.approx(0.9)


@pytest.mark.parametrize("ap", [[[1.1]], [[-0.1]], [0.5], [[0.5], [np.nan]]])
def test_average_precisions_that_cannot_be(ap: list[object]) -> None:
    with pytest.raises(InputError, match="average precision"):
        class_weights(ap)  # type: ignore[arg-type]


def test_images_of_all_models() -> None:
    a = model_of([(0, 0, 0.9, UNIT), (1, 1, 0.8, UNIT)], images=("r", "q"))
    b = model_of([(1, 0, 0.7, UNIT)], images=("p", "q"))
    c = model_of([], images=())
    with pytest.warns(InputWarning) as told:
        models = on_same_images([a, b, c], names=["a.csv", "b.csv", "c.csv"])
    assert [model.image_ids for model in models] == [("p", "q", "r")] * 3
    assert [rows_of(model) for model in models] == [rows_of(model) for model in (a, b, c)]
    assert [str(one.message)[:29] for one in told] == [
        "b.csv found nothing on 1 of 2",
        "c.csv found nothing on 2 of 2",
    ]


def test_one_model_and_empty_ones_share_images_with_nobody() -> None:
    a, empty = model_of([(0, 0, 0.9, UNIT)]), model_of([])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(on_same_images([a])) == 1
        assert len(on_same_images([empty, empty])) == 2
    assert on_same_images([]) == []


def test_models_of_other_images_are_an_error() -> None:
    a = model_of([(0, 0, 0.9, UNIT)], images=("p", "q"))
    b = model_of([(0, 0, 0.9, UNIT)], images=("r", "q"))
    with pytest.raises(InputError, match=r"model 1 shares no image with the other models; .* 'p'"):
        on_same_images([a, b])
