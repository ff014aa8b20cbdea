"""The Open Images Challenge: worked cases, and a literal evaluator on random tables."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from evaluation.small_tables import found_of, hierarchies, tables, truth_of
from hypothesis import given
from hypothesis import strategies as st
from oracles.open_images_evaluator import evaluate_literally

import wildbox.threads as threads_module
from wildbox.annotations import Annotations
from wildbox.detections import Detections
from wildbox.errors import ConfigError, InputError, InputWarning
from wildbox.evaluation import EvaluationResult, evaluate
from wildbox.vocabulary import Hierarchy, Vocabulary

Box = tuple[float, float, float, float]
BOX: Box = (0, 0, 4, 4)
FAR: Box = (8, 8, 9, 9)
CAT = Vocabulary(("cat",))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Degenerate boxes and missing image labels warn; the cases below are full of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        yield


def one_image(
    truth: list[Box], found: list[tuple[float, Box]], *, groups: list[Box] | None = None, weight: float = 1.0
) -> EvaluationResult:
    """Cats in one image: `truth` ordinary boxes, `groups` group-of boxes, `found` scored boxes."""
    every = [*truth, *(groups or [])]
    flags = np.arange(len(every)) >= len(truth)
    table = truth_of(CAT, ("a",), [0] * len(every), every, [0] * len(every), flags, ((0, 0, True),))
    scores, boxes = [score for score, _ in found], [box for _, box in found]
    detections = found_of(CAT, ("a",), [0] * len(found), boxes, [0] * len(found), scores)
    return evaluate(detections, table, group_of_weight=weight)


IOUS = [0.25, 0.5, 0.75, 1.0]


@given(tables(), hierarchies(), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from(IOUS), st.booleans())
def test_equals_the_literal_evaluator(
    pair: tuple[Detections, Annotations],
    hierarchy: Hierarchy | None,
    weight: float,
    iou: float,
    unknown: bool,
) -> None:
    detections, truth = pair
    if unknown:  # image c stands in the detections alone
        truth = truth.select([1, 0])
    result = evaluate(detections, truth, hierarchy=hierarchy, group_of_weight=weight, iou=iou)
    ap, counted = evaluate_literally(detections, truth, hierarchy=hierarchy, group_of_weight=weight, iou=iou)
    np.testing.assert_allclose(result.ap, ap, rtol=0, atol=1e-12)
    assert result.detections.tolist() == counted
    assert np.array_equal(np.isnan(result.ap), result.truth_boxes == 0)


@given(tables(), hierarchies(), st.sampled_from([None, 0.0, 1.0]), st.booleans(), st.booleans())
def test_version_2_equals_the_literal_evaluator(
    pair: tuple[Detections, Annotations],
    hierarchy: Hierarchy | None,
    weight: float | None,
    filtered: bool,
    unknown: bool,
) -> None:
    detections, truth = pair
    if unknown:
        truth = truth.select([1, 0])
    result = evaluate(
        detections,
        truth,
        protocol="open-images-v2",
        hierarchy=hierarchy,
        group_of_weight=weight,
        verified_only=filtered,
    )
    ap, counted = evaluate_literally(
        detections, truth, hierarchy=hierarchy, group_of_weight=weight or 0.0, verified_only=filtered
    )
    np.testing.assert_allclose(result.ap, ap, rtol=0, atol=1e-12)
    assert result.detections.tolist() == counted


@given(tables(), st.integers(0, 99), st.sampled_from(["open-images-challenge", "open-images-v2", "voc"]))
def test_order_of_detections_and_images_has_no_influence(
    pair: tuple[Detections, Annotations], seed: int, protocol: str
) -> None:
    detections, truth = pair
    rng = np.random.default_rng(seed)
    rows, images = rng.permutation(len(detections)), rng.permutation(3)
    mixed = found_of(
        detections.vocabulary,
        tuple(detections.image_ids[i] for i in images),
        np.argsort(images)[detections.image[rows]],
        detections.boxes[rows],
        detections.label[rows],
        detections.score[rows],
    )
    straight = evaluate(detections, truth, protocol=protocol)
    again = evaluate(mixed, truth.select(rng.permutation(3)), protocol=protocol)
    np.testing.assert_array_equal(straight.ap, again.ap)
    for name, column in straight.columns.items():
        np.testing.assert_array_equal(column, again.columns[name])


@given(tables())
def test_a_perfect_detector_has_ap_1(pair: tuple[Detections, Annotations]) -> None:
    _, truth = pair
    box = truth.boxes
    whole = (box[:, 0] < box[:, 2]) & (box[:, 1] < box[:, 3])
    once = np.zeros(len(box), bool)  # of equal boxes only the first can be found
    keys = np.column_stack([truth.image, truth.label, box])
    once[np.unique(keys, axis=0, return_index=True)[1]] = True
    rows = np.flatnonzero(whole & once)
    truth = truth_of(truth.vocabulary, truth.image_ids, truth.image[rows], box[rows], truth.label[rows])
    found = found_of(
        truth.vocabulary, truth.image_ids, truth.image, truth.boxes, truth.label, np.ones(len(rows))
    )
    ap = evaluate(found, truth).ap
    assert np.all(np.isnan(ap) | (np.abs(ap - 1.0) < 1e-12))


def test_threshold_is_inclusive() -> None:
    assert one_image([BOX], [(0.9, (0, 0, 4, 2))]).ap[0] == 1.0  # IoU 8 / 16
    assert one_image([BOX], [(0.9, (0, 0, 4, 1.999))]).ap[0] == 0.0


def test_second_detection_of_a_box_is_false() -> None:
    # TRUE, FALSE, TRUE of 2: precision 1 up to recall 1/2, then 2/3: 1/2 + 1/2 * 2/3.
    result = one_image([BOX, FAR], [(0.9, BOX), (0.8, BOX), (0.7, FAR)])
    assert result.ap[0] == pytest.approx(5 / 6)
    assert result.detections[0] == 3


def test_tried_against_the_box_of_largest_iou_only() -> None:
    # Both detections are nearest to BOX; the second also overlaps (0, 0, 4, 3) by 12 / 16, which stays free.
    result = one_image([BOX, (0, 0, 4, 3)], [(0.9, BOX), (0.8, BOX)])
    assert result.ap[0] == 0.5


def test_of_two_equal_truth_boxes_one_is_never_found() -> None:
    result = one_image([BOX, BOX], [(0.9, BOX), (0.8, BOX)])
    assert (result.ap[0], result.truth_boxes[0]) == (0.5, 2)


@pytest.mark.parametrize("box", [(1, 1, 1, 3), (1, 1, 3, 1), (3, 1, 1, 3), (1, 3, 3, 1), (3, 3, 1, 1)])
def test_detections_without_area_are_dropped(box: Box) -> None:
    result = one_image([BOX], [(0.9, box), (0.8, BOX)])
    assert (result.ap[0], result.detections[0]) == (1.0, 1)


def test_truth_box_without_area_is_counted_and_never_found() -> None:
    assert one_image([BOX, (1, 1, 1, 3)], [(0.9, BOX)]).ap[0] == 0.5


def test_group_of_box_absorbs_its_detections_into_one() -> None:
    inside: list[tuple[float, Box]] = [(0.7, (0, 0, 1, 1)), (0.8, (1, 1, 2, 2)), (0.6, (2, 2, 3, 3))]
    # FALSE at 0.9, then the group at 0.8: precision 1/2 at recall 1.
    result = one_image([], [(0.9, FAR), *inside], groups=[BOX])
    assert (result.ap[0], result.truth_boxes[0], result.detections[0]) == (0.5, 1, 2)
    # Half of a detection inside is enough, whatever its IoU; less is not.
    assert one_image([], [(0.9, (3, 0, 5, 1))], groups=[BOX]).ap[0] == 1.0
    assert one_image([], [(0.9, (3, 0, 5.1, 1))], groups=[BOX]).ap[0] == 0.0


def test_group_of_box_is_tried_after_the_ordinary_boxes() -> None:
    # Both lie in the group; the first finds the ordinary box, the second, its duplicate, goes to the group.
    result = one_image([BOX], [(0.9, BOX), (0.8, BOX)], groups=[(0, 0, 10, 10)])
    assert (result.ap[0], result.truth_boxes[0], result.detections[0]) == (1.0, 2, 2)
    # Inside before the match: the group takes it, and the ordinary box is still there for the next one.
    for weight, counted in ((1, 2), (0, 1)):
        result = one_image([BOX], [(0.95, (5, 5, 6, 6)), (0.9, BOX)], groups=[(0, 0, 10, 10)], weight=weight)
        assert (result.ap[0], result.detections[0]) == (1.0, counted)
    # The duplicate alone does not come back to be false where the group weighs nothing.
    result = one_image([BOX], [(0.9, BOX), (0.8, BOX)], groups=[(0, 0, 10, 10)], weight=0)
    assert (result.ap[0], result.truth_boxes[0], result.detections[0]) == (1.0, 1, 1)


def test_of_two_group_of_boxes_on_one_spot_the_first_takes_all() -> None:
    result = one_image([], [(0.9, BOX), (0.8, BOX)], groups=[BOX, BOX])
    assert (result.ap[0], result.detections[0]) == (0.5, 1)


def test_group_of_weight_counts_in_truth_and_precision() -> None:
    # Truth 1 + 1/2. FALSE: 0 of 1; group: tp 1/2, precision 1/3, recall 1/3; TRUE: tp 3/2, precision 3/5.
    # The envelope is 3/5 all along.
    found: list[tuple[float, Box]] = [(0.9, (20, 20, 21, 21)), (0.8, FAR), (0.7, BOX)]
    assert one_image([BOX], found, groups=[FAR], weight=0.5).ap[0] == pytest.approx(0.6)


def test_group_of_match_with_score_0_is_ignored() -> None:
    result = one_image([], [(0.0, BOX)], groups=[BOX])
    assert (result.ap[0], result.detections[0]) == (0.0, 0)
    assert one_image([BOX], [(0.0, BOX)]).ap[0] == 1.0  # an ordinary match counts


def test_class_of_group_of_boxes_alone_has_no_ap_where_they_weigh_nothing() -> None:
    result = one_image([], [(0.9, BOX)], groups=[BOX], weight=0)
    assert np.isnan(result.ap[0])
    assert np.isnan(result.mean_ap)


def three_images(*labels: tuple[int, int, bool]) -> EvaluationResult:
    """A cat in image a; b and c are without boxes; a dog nowhere. A cat found everywhere, a dog in a."""
    both = Vocabulary(("cat", "dog"))
    truth = truth_of(both, tuple("abc"), [0], [BOX], [0], image_labels=labels)
    found = found_of(both, tuple("cba"), [2, 1, 0, 2], [BOX] * 4, [0, 0, 0, 1], [0.7, 0.8, 0.9, 0.9])
    return evaluate(found, truth)


def test_unverified_classes_are_ignored() -> None:
    result = three_images()
    assert result.ap[0] == 1.0
    assert result.detections.tolist() == [1, 0]


def test_verified_images_count_whether_the_label_is_positive_or_negative() -> None:
    # Cat is verified absent in b, present (without a box) in c: FALSE, FALSE, TRUE: precision 1/3.
    result = three_images((1, 0, False), (2, 0, True))
    assert result.ap[0] == pytest.approx(1 / 3)
    assert result.detections.tolist() == [3, 0]


def test_class_without_truth_has_no_ap_and_no_part_in_the_mean() -> None:
    result = three_images((0, 1, False))
    assert np.isnan(result.ap[1])
    assert result.detections.tolist() == [1, 1]
    assert result.mean_ap == 1.0


def test_class_without_detections_has_ap_0_and_images_may_lack_them() -> None:
    truth = truth_of(CAT, ("a", "b"), [0, 1], [BOX, BOX], [0, 0])
    assert evaluate(found_of(CAT, ("b",), [0], [BOX], [0], [0.5]), truth).ap[0] == 0.5
    assert evaluate(found_of(CAT, (), [], [], [], []), truth).ap[0] == 0.0


def test_hierarchy_expands_the_truth_but_not_the_detections() -> None:
    vocabulary = Vocabulary(("tiger", "animal", "shark"))
    tree = Hierarchy(3, [(0, 1), (2, 1)])
    no_animal_in_b = ((1, 1, False),)  # so no tiger and no shark
    truth = truth_of(vocabulary, ("a", "b"), [0, 0], [BOX, FAR], [0, 1], image_labels=no_animal_in_b)
    found = found_of(vocabulary, ("a", "b"), [0, 1, 1], [BOX] * 3, [0, 0, 2], [0.5, 0.9, 0.9])
    result = evaluate(found, truth, hierarchy=tree)
    # tiger: FALSE in b, then TRUE. animal: two boxes (tiger's and its own), nothing found. shark: no truth.
    np.testing.assert_array_equal(result.ap, [0.5, 0.0, np.nan])
    assert result.truth_boxes.tolist() == [1, 2, 0]
    assert result.detections.tolist() == [2, 0, 1]


def test_equal_scores_stand_by_image_id_then_box() -> None:
    # TRUE in a before FALSE in b, and FALSE in a before TRUE in b, whichever image the files name first
    for ids in (("a", "b"), ("b", "a")):
        truth = truth_of(CAT, ids, [0, 1], [BOX, BOX], [0, 0])
        for in_a, in_b, expected in ((BOX, FAR, 0.5), (FAR, BOX, 0.25)):
            found = found_of(CAT, ("b", "a"), [0, 1], [in_b, in_a], [0, 0], [0.5, 0.5])
            assert evaluate(found, truth).ap[0] == expected
    # BOX is smaller than FAR: its x1 is
    for rows in ([(0.5, FAR), (0.5, BOX)], [(0.5, BOX), (0.5, FAR)]):
        assert one_image([BOX], rows).ap[0] == 1.0
        assert one_image([FAR], rows).ap[0] == 0.5


def test_of_equal_overlaps_the_first_row_of_the_truth_is_taken() -> None:
    # The first detection lies half in each of two boxes, by IoU 1/3 each; the second is one of them.
    left, right, middle = (0, 0, 4, 4), (4, 0, 8, 4), (2, 0, 6, 4)
    for rows, expected in (([left, right], 0.5), ([right, left], 1.0)):
        truth = truth_of(CAT, ("a",), [0, 0], rows, [0, 0])
        found = found_of(CAT, ("a",), [0, 0], [middle, left], [0, 0], [0.9, 0.8])
        assert evaluate(found, truth, iou=1 / 3).ap[0] == expected


def test_beyond_ten_thousand_detections_of_a_class_in_an_image() -> None:
    far, count = (8, 8, 9, 9), 10_001
    boxes = np.array([far] * count + [(0, 0, 4, 4), (1, 1, 1, 1)], float)
    score = np.linspace(1, 0.5, count + 2)
    label = np.zeros(count + 2, int)
    truth = truth_of(CAT, ("a",), [0, 0], [BOX, FAR], [0, 0])
    result = evaluate(found_of(CAT, ("a",), label, boxes, label, score), truth)
    assert (result.detections[0], result.ap[0], result.columns["ignored"][0]) == (10_000, 0.5, 3)
    score[-2] = 0.9  # the box on BOX comes into the 10,000
    result = evaluate(found_of(CAT, ("a",), label, boxes, label, score), truth)
    assert (result.detections[0], result.columns["true_positives"][0]) == (10_000, 2)


def test_detections_on_images_that_the_truth_does_not_know() -> None:
    truth = truth_of(CAT, ("a",), [0], [BOX], [0])
    found = found_of(CAT, ("z", "a"), [0, 1], [BOX, BOX], [0, 0], [0.9, 0.5])
    with pytest.warns(InputWarning, match=r"1 of 2 detections are on 1 images .*'z'.*; they are ignored"):
        assert evaluate(found, truth).ap[0] == 1.0
    with pytest.warns(InputWarning, match="they are false positives"):
        assert evaluate(found, truth, protocol="open-images-v2").ap[0] == 0.5
    with pytest.raises(InputError, match="not in the truth"):
        evaluate(found, truth, protocol="voc")


def test_version_2_counts_what_nobody_looked_for() -> None:
    both = Vocabulary(("cat", "dog"))
    truth = truth_of(both, ("a", "b"), [0, 1], [BOX, BOX], [0, 1], [False, True], ((1, 0, False),))
    found = found_of(both, ("a", "b"), [0, 0, 1, 1], [BOX, BOX, BOX, BOX], [0, 1, 0, 1], [0.5, 0.9, 0.4, 0.5])
    result = evaluate(found, truth, protocol="open-images-v2")
    assert result.detections.tolist() == [2, 1]  # the dog in the group-of box is ignored, that in a is false
    assert np.isnan(result.ap[1])
    result = evaluate(found, truth, protocol="open-images-v2", group_of_weight=1)
    assert result.ap.tolist() == [1.0, 0.5]
    result = evaluate(found, truth, protocol="open-images-v2", group_of_weight=1, verified_only=True)
    assert result.ap.tolist() == [1.0, 1.0]


def test_what_is_dropped_is_reported() -> None:
    truth = truth_of(Vocabulary(("cat", "dog")), ("a",), [0], [BOX], [0])
    found = found_of(truth.vocabulary, ("a",), [0, 0], [BOX, (1, 1, 1, 1)], [1, 0], [0.5, 0.5])
    with pytest.warns(InputWarning) as caught:
        evaluate(found, truth)
    said = sorted(str(warning.message) for warning in caught)
    assert said[0].startswith("1 of 2 detections have no area")
    assert said[1].startswith("the truth has no image labels: 1 of 2 detections are ignored")


def test_bad_arguments() -> None:
    truth = truth_of(CAT, ("a",), [0], [BOX], [0])
    found = found_of(CAT, ("a",), [0], [BOX], [0], [0.5])
    with pytest.raises(ConfigError, match="unknown protocol 'cocoa'"):
        evaluate(found, truth, protocol="cocoa")
    with pytest.raises(ConfigError, match="protocol coco takes no iou"):
        evaluate(found, truth, protocol="coco", iou=0.5)
    with pytest.raises(ConfigError, match="read_coco_truth"):
        evaluate(found, truth, protocol="lvis")
    with pytest.raises(ConfigError, match="takes no verified_only"):
        evaluate(found, truth, protocol="voc", verified_only=True)
    for iou in (0.0, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="outside"):
            evaluate(found, truth, iou=iou)
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="group_of_weight"):
            evaluate(found, truth, group_of_weight=weight)
    with pytest.raises(InputError, match="vocabularies"):
        evaluate(found_of(Vocabulary(("dog",)), ("a",), [0], [BOX], [0], [0.5]), truth)


@pytest.mark.parametrize("protocol", ["open-images-challenge", "open-images-v2", "voc"])
def test_threads_have_no_influence(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    images, n, d = 30, 300, 4_000
    ids, three = tuple(map(str, range(images))), Vocabulary(tuple("abc"))
    corner = rng.random((n, 2))
    boxes, image, label = np.hstack([corner, corner + 0.3]), rng.integers(0, images, n), rng.integers(0, 3, n)
    truth = truth_of(three, ids, image, boxes, label, rng.random(n) < 0.2)
    source = rng.integers(0, n, d)
    moved = boxes[source] + rng.normal(0, 0.05, (d, 4))
    found = found_of(three, ids, image[source], moved, label[source], rng.integers(0, 30, d) / 30)
    monkeypatch.setattr(threads_module, "WORTH_A_THREAD", 10)
    results = []
    for threads in (1, 2, 7):
        monkeypatch.setattr("numba.config.NUMBA_NUM_THREADS", threads)
        results.append(evaluate(found, truth, protocol=protocol))
    assert 0 < results[0].mean_ap < 1
    for other in results[1:]:
        np.testing.assert_array_equal(results[0].ap, other.ap)
        for name, column in results[0].columns.items():
            np.testing.assert_array_equal(column, other.columns[name])
