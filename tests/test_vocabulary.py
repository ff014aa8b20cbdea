"""When ids of two vocabularies are not the same classes, and who asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from wildbox.annotations import Annotations
from wildbox.detections import Detections, concatenate_detections
from wildbox.detectors.weights import _compare_classes
from wildbox.ensembling import weighted_boxes_fusion
from wildbox.errors import InputError, VocabularyError
from wildbox.evaluation import EvaluationResult, evaluate, gains
from wildbox.evaluation.coco import evaluate_coco
from wildbox.labels import ConcurrentRates, audit
from wildbox.labels.files import write_audit
from wildbox.labels.groups import read_groups
from wildbox.training.source import Source, with_vocabulary_of
from wildbox.vocabulary import Vocabulary

HERE = Vocabulary(("1", "2", "3"), ("cat", "dog", "cow"))
SWAPPED = Vocabulary(("1", "2", "3"), ("dog", "cat", "cow"))
TOLD = "class '1' is '(cat|dog)' and '(cat|dog)'"


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("cat", "dog", "cow"), ""),
        (("Cat", "DOG ", "cow"), ""),  # as others write it
        (("cat", "hound", "cow"), ""),
        ((), ""),  # ids alone
        (("1", "dog", "cow"), ""),
        (("dog", "cat", "cow"), "class '1' is 'cat' and 'dog'"),
        (("cat", "cow", "ox"), "class '2' is 'dog' and 'cow'"),
        (("tiger", "lion", "Ox"), "class '1' is 'cat' and 'tiger'"),  # nothing in common
    ],
)
def test_names_of_numbers_contradict(names: tuple[str, ...], told: str) -> None:
    other = Vocabulary(HERE.ids, names)
    assert HERE.contradiction(other) == told
    assert bool(other.contradiction(HERE)) == bool(told)


@pytest.mark.parametrize(
    ("names", "others", "told"),
    [
        ("Cat,Dog,Cow", "Katze,Hund,Kuh", ""),  # ids that are no numbers are of all the world
        ("Bat (animal),Bat,Cat", "Bat,Baseball bat,Cat", ""),
        ("traffic light,stop sign,cat", "traffic_light,stop_sign,dog", ""),
        ("Cat,Dog,Cow", "Dog,Cat,Cow", "class '/m/a' is 'Cat' and 'Dog'"),
        ("Cat,Dog,Cow", "Ox,Cat,Dog", "class '/m/b' is 'Dog' and 'Cat'"),
    ],
)
def test_names_of_texts_contradict(names: str, others: str, told: str) -> None:
    one, other = (Vocabulary(("/m/a", "/m/b", "/m/c"), tuple(some.split(","))) for some in (names, others))
    assert one.contradiction(other) == told
    assert bool(other.contradiction(one)) == bool(told)


def test_a_single_class_may_be_renamed() -> None:
    assert Vocabulary(("1",), ("person",)).contradiction(Vocabulary(("1",), ("pedestrian",))) == ""


def test_only_shared_ids_speak_and_a_name_may_stand_twice() -> None:
    assert HERE.contradiction(Vocabulary(("7", "3"), ("cat", "cow"))) == ""
    assert HERE.contradiction(Vocabulary(("7", "8"), ("tiger", "lion"))) == ""
    mice = Vocabulary(("a", "b", "c"), ("Mouse", "Mouse", "Cat"))
    assert mice.contradiction(mice) == ""
    assert mice.contradiction(Vocabulary(("a", "b", "c"), ("Mouse", "Computer mouse", "Cat"))) == ""


def test_no_number_is_told_across_other_classes(tmp_path: Path) -> None:
    one, box, ones = np.zeros(1, np.int64), np.array([[0.0, 0, 1, 1]]), np.ones(3, np.int64)
    truth, odd = (
        Annotations(v, ("x",), np.zeros(2, np.int64), np.tile(box, (2, 1)), np.arange(2))
        for v in (HERE, SWAPPED)
    )
    found, more = (Detections(v, ("x",), one, box, one, np.ones(1)) for v in (SWAPPED, HERE))
    log, other = (EvaluationResult(v, np.full(3, 0.5), ones, ones) for v in (HERE, SWAPPED))
    rates = audit(truth).rates
    rates.write(tmp_path / "rates.csv")
    write_audit(audit(truth), tmp_path / "audit")
    training, validation = (Source(table, tmp_path, None, relative=False) for table in (truth, odd))
    for tried in (
        lambda: evaluate(found, truth),
        lambda: evaluate(found, truth, protocol="voc"),
        lambda: evaluate_coco(found, truth),
        lambda: concatenate_detections([found, more]),
        lambda: weighted_boxes_fusion([found, more]),
        lambda: gains(log, other),
        lambda: ConcurrentRates.read(tmp_path / "rates.csv", SWAPPED),
        lambda: read_groups(tmp_path / "audit", SWAPPED),
        lambda: with_vocabulary_of(validation, training),
    ):
        with pytest.raises(InputError, match=TOLD):
            tried()
    assert np.array_equal(ConcurrentRates.read(tmp_path / "rates.csv", HERE).values, rates.values)
    assert np.array_equal(
        ConcurrentRates.read(tmp_path / "rates.csv", Vocabulary(HERE.ids)).values, rates.values
    )


def test_a_class_head_is_of_names_too() -> None:
    saved = {"class_ids": list(HERE.ids), "class_names": list(HERE.names)}
    assert _compare_classes(saved, HERE) == (True, "")
    assert _compare_classes(saved, SWAPPED) == (
        False,
        "the class head is new: class '1' is 'cat' and 'dog' now",
    )


def test_one_text_is_not_several_ids() -> None:
    ids: Any = "cat"
    with pytest.raises(VocabularyError, match="expected several texts, got one, 'cat'"):
        Vocabulary(ids)


@pytest.mark.parametrize("column", [np.array, pl.Series, list, iter])
def test_columns_of_any_kind_are_ids_and_names(column: Any) -> None:
    made = Vocabulary(column(["1", "2"]), column(["cat", "dog"]), groups=column(["f", "r"]))
    assert made == Vocabulary(("1", "2"), ("cat", "dog"))
    assert made.groups == ("f", "r")
    assert {type(text) for text in (*made.ids, *made.names, *made.groups)} == {str}
    assert Vocabulary(column(["1", "2"]), column([])).names == ("1", "2")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (([0, 1],), "class id 0: expected a text"),
        ((["a", None],), "class id None: expected a text"),
        ((np.array([3, 4]),), r"class id .*3.*: expected a text"),
        ((["a", "b"], ["cat", 7]), "class name 7: expected a text"),
        ((["a", "b"], "cat"), "class names: expected several texts, got one, 'cat'"),
        ((["a", "b"], (), [1, 2]), "class group 1: expected a text"),
        (
            ({0: "cat", 1: "dog"},),
            "class ids: .* got a mapping; give its keys, as texts, for the ids and its",
        ),
        ((["a", "b"], {0: "cat", 1: "dog"}), "class names: .* got a mapping"),
    ],
)
def test_classes_are_texts(given: tuple[Any, ...], told: str) -> None:
    with pytest.raises(VocabularyError, match=told):
        Vocabulary(*given)


def test_names_may_be_none() -> None:
    assert Vocabulary(("a", "b"), None).names == ("a", "b")  # type: ignore[arg-type]
