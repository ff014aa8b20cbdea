"""Pascal VOC: worked cases, and a literal evaluator on random tables."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation.small_tables import found_of, tables, truth_of
from hypothesis import given
from hypothesis import strategies as st
from oracles.voc_evaluator import evaluate_voc_literally

from wildbox.annotations import Annotations, expand
from wildbox.detections import Detections
from wildbox.errors import ConfigError
from wildbox.evaluation import EvaluationResult, evaluate, protocol_named
from wildbox.evaluation.voc import voc
from wildbox.vocabulary import Hierarchy, Vocabulary

Box = tuple[float, float, float, float]
BOX: Box = (0, 0, 4, 4)
FAR: Box = (8, 8, 9, 9)


def one_image(truth: list[Box], found: list[Box], *, difficult: int = 0) -> EvaluationResult:
    """Cats in one image, the last `difficult` of them difficult; `found` by falling score."""
    cat = Vocabulary(("cat",))
    flags = np.arange(len(truth)) >= len(truth) - difficult
    table = truth_of(cat, ("a",), [0] * len(truth), truth, [0] * len(truth), flags)
    scores = np.linspace(0.9, 0.1, len(found))
    detections = found_of(cat, ("a",), [0] * len(found), found, [0] * len(found), scores)
    return evaluate(detections, table, protocol="voc")


@given(tables(), st.sampled_from([0.25, 0.5, 0.75, 1.0]), st.booleans())
def test_equals_the_literal_evaluator(pair: tuple[Detections, Annotations], iou: float, eleven: bool) -> None:
    result = evaluate(*pair, protocol="voc-11-point" if eleven else "voc", iou=iou)
    literal = evaluate_voc_literally(*pair, iou=iou, eleven=eleven)
    np.testing.assert_allclose(result.ap, literal, rtol=0, atol=1e-12)
    assert np.array_equal(np.isnan(result.ap), result.truth_boxes == 0)


def test_threshold_is_inclusive_and_duplicates_are_false() -> None:
    assert one_image([BOX], [(0, 0, 4, 2)]).ap[0] == 1.0  # IoU 8 / 16
    # TRUE, FALSE, TRUE of 2: 1/2 * 1 + 1/2 * 2/3.
    assert one_image([BOX, FAR], [BOX, BOX, FAR]).ap[0] == pytest.approx(5 / 6)


def test_who_finds_a_difficult_box_is_ignored() -> None:
    result = one_image([BOX, FAR], [FAR, FAR, BOX], difficult=1)
    assert (result.ap[0], result.truth_boxes[0], result.detections[0]) == (1.0, 1, 1)
    assert np.isnan(one_image([BOX], [BOX], difficult=1).ap[0])


def test_difficult_box_takes_part_in_the_search_for_the_largest_iou() -> None:
    # The ordinary box overlaps by 12 / 16, but the difficult one by all: ignored, and nothing is found.
    result = one_image([(0, 0, 4, 3), BOX], [BOX], difficult=1)
    assert (result.ap[0], result.detections[0]) == (0.0, 0)


def test_detection_without_area_is_false() -> None:
    assert one_image([BOX], [(1, 1, 1, 3), BOX]).ap[0] == 0.5
    assert one_image([BOX], [(3, 3, 1, 1), BOX]).ap[0] == 0.5


def test_every_image_counts() -> None:
    cat = Vocabulary(("cat",))
    truth = truth_of(cat, ("a", "b"), [0], [BOX], [0])
    found = found_of(cat, ("b", "a"), [0, 1], [BOX, BOX], [0, 0], [0.9, 0.8])
    assert evaluate(found, truth, protocol="voc").ap[0] == 0.5


def test_hierarchy_expands_the_truth() -> None:
    vocabulary, tree = Vocabulary(("tiger", "animal")), Hierarchy(2, [(0, 1)])
    truth = truth_of(vocabulary, ("a",), [0], [BOX], [0])
    found = found_of(vocabulary, ("a",), [0], [BOX], [1], [0.9])
    result = evaluate(found, truth, protocol="voc", hierarchy=tree)
    np.testing.assert_array_equal(result.ap, [0.0, 1.0])
    np.testing.assert_array_equal(evaluate(found, expand(truth, tree), protocol="voc").ap, result.ap)


def test_takes_no_group_of_weight() -> None:
    cat = Vocabulary(("cat",))
    truth, found = truth_of(cat, (), [], [], []), found_of(cat, (), [], [], [], [])
    with pytest.raises(ConfigError, match="group_of_weight"):
        evaluate(found, truth, protocol="voc", group_of_weight=1.0)


@pytest.mark.parametrize(("name", "eleven"), [("voc", False), ("voc-11-point", True)])
def test_by_name_and_by_function_it_is_the_same(name: str, eleven: bool) -> None:
    assert voc(eleven=eleven) == protocol_named(name)
    assert voc().iou == 0.5
