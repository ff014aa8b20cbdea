"""Kinds of errors: a literal telling apart on random tables, hotcoco's, and cases worked out by hand."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from evaluation.small_tables import found_of, tables, truth_of
from hypothesis import given
from hypothesis import strategies as st
from oracles.error_kinds import tell_errors

from wildbox.annotations import Annotations, expand
from wildbox.detections import Detections
from wildbox.errors import ConfigError, InputError, InputWarning
from wildbox.evaluation import evaluate, protocol_named
from wildbox.evaluation.coco import coco_truth
from wildbox.evaluation.error_kinds import KINDS, ErrorKinds, error_kinds
from wildbox.vocabulary import Hierarchy, Vocabulary

VOC = protocol_named("voc")
SEEDS = (0, 1, 2, 3, 4, 5)
BOXES = [[0, 0, 4, 4], [0, 0, 4, 4], [6, 6, 7, 7], [0, 0, 4, 4]]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        yield


@given(tables(), st.sampled_from([0.0, 0.4]), st.sampled_from([0.1, 0.125, 0.25]))
def test_equals_the_literal_telling(
    pair: tuple[Detections, Annotations], min_score: float, background: float
) -> None:
    found, truth = pair
    plain = truth_of(truth.vocabulary, truth.image_ids, truth.image, truth.boxes, truth.label)
    kinds = error_kinds(found, plain, protocol=VOC, min_score=min_score, background=background)
    errors, confused, missed = tell_errors(found, plain, min_score=min_score, iou=0.5, background=background)
    expected = Counter(errors) + Counter(("missed", label) for label in missed)
    counted = {(KINDS[k], c): kinds.counts[c, k] for c, k in zip(*np.nonzero(kinds.counts), strict=True)}
    assert counted == dict(expected)
    assert {(a, b): n for a, b, n in kinds.confused.tolist()} == dict(Counter(confused))


@pytest.mark.parametrize("seed", SEEDS)
def test_counts_are_those_of_hotcoco(seed: int) -> None:
    # on sets where COCO's second choice of a box plays no part
    hotcoco = pytest.importorskip("hotcoco")
    rng = np.random.default_rng(seed)
    n, d, images = 60, 300, 12
    corner, source = rng.random((n, 2)) * 60, rng.integers(0, n, d)
    box, image = np.hstack([corner, corner + rng.random((n, 2)) * 30 + 10]), rng.integers(0, images, n)
    label = rng.integers(0, 4, n)
    moved = box[source] + rng.normal(0, 3, (d, 4)) * (rng.random((d, 1)) < 0.9)
    found_label = np.where(rng.random(d) < 0.7, label[source], rng.integers(0, 4, d))
    far = rng.random(d) < 0.2
    moved[far] = np.hstack([rng.random((far.sum(), 2)) * 60, np.zeros((far.sum(), 2))])
    moved[far, 2:] = moved[far, :2] + 8
    moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
    vocabulary, ids = Vocabulary(tuple("abcd")), tuple(f"{i:02d}" for i in range(images))
    truth = truth_of(vocabulary, ids, image, box, label)
    found = found_of(vocabulary, ids, image[source], moved, found_label, rng.permutation(d) / d)
    table = coco_truth(truth)
    sides = np.hstack([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]])
    rows = np.column_stack([found.image + 1, sides, found.score, found.label + 1])
    run = hotcoco.COCOeval(table.dataset, table.dataset.load_res(rows), "bbox")
    run.evaluate()
    run.accumulate()
    theirs = run.tide_errors()["counts"]
    ours = dict(zip(KINDS, error_kinds(found, truth, protocol=VOC).counts.sum(axis=0).tolist(), strict=True))
    assert ours == {
        "poor_box": theirs["Loc"],
        "wrong_class": theirs["Cls"],
        "duplicate": theirs["Dupe"],
        "background": theirs["Bkg"],
        "wrong_class_and_poor_box": theirs["Both"],
        "missed": theirs["Miss"],
    }


def test_without_the_errors_of_a_kind() -> None:
    # One image: A at 0.9 taken for B, C found at 0.8 and once more at 0.7, D never; nothing at (20, 20).
    vocabulary = Vocabulary(tuple("abcd"))
    at = {name: [i * 10.0, 0, i * 10 + 8, 8] for i, name in enumerate("abcd")}
    truth = truth_of(vocabulary, ("x",), [0] * 4, list(at.values()), range(4))
    boxes = [at["a"], at["c"], at["c"], [20, 20, 21, 21], at["b"]]
    found = found_of(
        vocabulary,
        ("x",),
        [0] * 5,
        np.array(boxes),
        [1, 2, 2, 1, 1],
        [0.9, 0.8, 0.7, 0.95, 0.5],
    )
    kinds = error_kinds(found, truth, protocol=VOC)
    assert kinds.mean_ap == evaluate(found, truth, protocol="voc").mean_ap == (0 + 1 / 3 + 1 + 0) / 4
    without = dict(zip(KINDS, kinds.without.tolist(), strict=True))
    assert without["wrong_class"] == without["background"] == pytest.approx((0 + 1 / 2 + 1 + 0) / 4)
    assert without["duplicate"] == without["poor_box"] == kinds.mean_ap
    assert without["missed"] == pytest.approx((0 + 1 / 3 + 1) / 3)  # d has no truth any more, a is told of b
    assert kinds.confused.tolist() == [[1, 0, 1]]
    assert kinds.counts[:, KINDS.index("missed")].tolist() == [0, 0, 0, 1]
    strict = error_kinds(found, truth, protocol=VOC, min_score=np.array([0, 0.6, np.nan, 0]))
    assert strict.counts[:, KINDS.index("missed")].tolist() == [0, 1, 1, 1]


def test_an_object_of_several_labels_is_no_wrong_class() -> None:
    # A tiger is an animal, too: found twice as either, nothing is taken for something else; a bear's box is no tiger's.
    vocabulary, tree = Vocabulary(("tiger", "bear", "animal")), Hierarchy(3, [(0, 2), (1, 2)])
    tiger, bear = [0, 0, 4, 4], [6, 0, 9, 4]
    truth = expand(truth_of(vocabulary, ("x",), [0, 0], [tiger, bear], [0, 1]), tree)
    boxes, label = [tiger] * 4 + [bear], [0, 0, 2, 2, 0]
    found = found_of(vocabulary, ("x",), [0] * 5, boxes, label, [0.9, 0.8, 0.7, 0.6, 0.5])
    kinds = error_kinds(found, truth, protocol=VOC)
    assert kinds.counts[:, KINDS.index("duplicate")].tolist() == [1, 0, 1]
    assert kinds.confused.tolist() == [[0, 1, 1]]


def test_what_the_protocol_ignores_is_no_error() -> None:
    vocabulary = Vocabulary(("a", "b"))
    truth = truth_of(vocabulary, ("x",), [0, 0], [[0, 0, 4, 4], [0, 0, 9, 9]], [0, 0], [False, True])
    found = found_of(vocabulary, ("x",), [0] * 4, BOXES, [0, 0, 0, 1], [0.9, 0.8, 0.7, 0.6])
    kinds = error_kinds(found, truth, protocol=protocol_named("open-images-challenge"))
    assert kinds.counts.sum() == 0  # two lie in the group, b is not verified
    kinds = error_kinds(found, truth, protocol=protocol_named("open-images-v2"))
    assert kinds.confused.tolist() == [[1, 0, 1]]


def test_group_of_boxes_are_no_object_that_is_taken_for_another() -> None:
    # A group of b where a's are found, and one that a detection of a meets by half: background, and nothing missed.
    vocabulary = Vocabulary(("a", "b"))
    truth = truth_of(vocabulary, ("x",), [0, 0], [[0, 0, 4, 4], [6, 0, 9, 4]], [1, 0], [True, True])
    found = found_of(vocabulary, ("x",), [0, 0], [[0.0, 0, 4, 4], [7.6, 0, 9.6, 8]], [0, 0], [0.9, 0.8])
    kinds = error_kinds(found, truth, protocol=protocol_named("open-images-v2"))
    assert kinds.counts.tolist() == [[0, 0, 0, 2, 0, 0], [0, 0, 0, 0, 0, 0]]


def test_files(tmp_path: Path) -> None:
    vocabulary = Vocabulary(("/t", "/f"), ("torch", "flashlight"))
    kinds = ErrorKinds(vocabulary, np.arange(12).reshape(2, 6), 0.5, np.zeros(6), np.array([[0, 1, 3]]))
    kinds.write(tmp_path / "kinds.csv")
    assert (tmp_path / "kinds.csv").read_text().splitlines() == [
        f"class_id,class_name,{','.join(KINDS)}",
        "/t,torch,0,1,2,3,4,5",
        "/f,flashlight,6,7,8,9,10,11",
    ]
    kinds.write_confused(tmp_path / "confused.csv")
    assert (tmp_path / "confused.csv").read_text().splitlines() == [
        "detected,truth,detected_name,truth_name,errors",
        "/t,/f,torch,flashlight,3",
    ]
    kinds.write_confused(tmp_path / "rates.csv", [[0, 0.5], [0.25, 0]])
    assert (tmp_path / "rates.csv").read_text().splitlines()[1] == "/t,/f,torch,flashlight,3,0.25,0.5"
    # concurring one way is enough; what would be right by chance is how often a flashlight is a torch, too
    assert kinds.interchangeable(np.array([[0, 0.5], [0, 0]])) == (1.0, 0.0)
    assert kinds.interchangeable(np.array([[0, 0], [0.25, 0]])) == (1.0, 0.25)
    with pytest.raises(InputError, match="rates of shape"):
        kinds.interchangeable(np.zeros((3, 3)))
    none = ErrorKinds(vocabulary, kinds.counts, 0.5, np.zeros(6), np.zeros((0, 3), int))
    assert np.isnan(none.interchangeable(np.zeros((2, 2)))[0])


def test_background_lies_below_the_least_iou() -> None:
    cat = Vocabulary(("cat",))
    nothing = found_of(cat, (), [], np.zeros((0, 4)), [], []), truth_of(cat, (), [], np.zeros((0, 4)), [])
    for background in (0.0, 0.5, float("nan")):
        with pytest.raises(ConfigError, match="background"):
            error_kinds(*nothing, protocol=VOC, background=background)
    assert error_kinds(*nothing, protocol=VOC).counts.sum() == 0
