"""What is told to be suspicious: planted errors come first, kin and ordinary confusion never."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from labels.crowded_tables import TREE, crowded, table

from wildbox.annotations import Annotations, ImageLabels, expand
from wildbox.labels.audit import LabelAudit, audit
from wildbox.labels.suspects import Suspect, log_odds, surprises, suspects
from wildbox.vocabulary import Hierarchy, Vocabulary

UNIT = [0.0, 0.0, 1.0, 1.0]
A, B, C, D, E, F = range(6)


def by_kind(found: LabelAudit) -> dict[str, list[Suspect]]:
    kinds: dict[str, list[Suspect]] = defaultdict(list)
    for one in suspects(found):
        kinds[one.kind].append(one)
    return kinds


def boxes(*counted: tuple[int, tuple[int, ...]]) -> Annotations:
    """As many images as said, each with one object that carries the labels."""
    objects = [labels for count, labels in counted for _ in range(count)]
    rows = [(image, UNIT, label) for image, labels in enumerate(objects) for label in labels]
    return table(rows, images=len(objects))


def test_a_label_that_is_there_against_the_odds() -> None:
    kinds = by_kind(audit(boxes((600, (A,)), (500, (F,)), (1, (A, F)))))
    (one,) = kinds.pop("unlikely-labels")
    assert (one.labels, one.boxes, len(one.examples)) == ((A, F), 2, 1)
    assert one.score == pytest.approx(np.log2(500.5 / 1.5))  # F, with 501 boxes, is the less surprised
    assert one.why.startswith("f (1 of 601 boxes of a carry it)")
    assert not kinds


def test_a_label_that_is_missing_against_the_odds() -> None:
    kinds = by_kind(audit(boxes((600, (A, F)), (2, (A,)), (3000, (F,)))))
    (one,) = kinds["unlikely-labels"]
    assert (one.labels, one.boxes, one.why) == ((A,), 2, "no f (600 of 602 boxes of a carry it)")
    (always,) = kinds["nearly-always"]
    assert (always.labels, always.boxes) == ((A, F), 600)
    assert always.why == "99.7% of 602 boxes of a are also f"


def test_a_class_of_few_boxes_cannot_accuse() -> None:
    assert not by_kind(audit(boxes((5000, (A,)), (3, (F,)), (1, (A, F)))))


def test_interchangeable_classes() -> None:
    kinds = by_kind(audit(boxes((60, (A, F)), (30, (A,)), (20, (F,)))))
    (one,) = kinds.pop("interchangeable")
    assert (one.labels, one.boxes) == ((A, F), 120)
    assert one.why == "66.7% of 90 boxes of a are also f, 75.0% of 80 the other way"
    assert not kinds


def test_kin_and_what_a_third_label_explains_are_no_suspects() -> None:
    truth = boxes((900, (B,)), (400, (A,)), (600, (F,)))
    assert not by_kind(audit(expand(truth, TREE), hierarchy=TREE))
    assert by_kind(audit(expand(truth, TREE)))


def test_boxes_where_their_class_is_verified_absent() -> None:
    truth = boxes((3, (A,)), (2, (B,)))
    absent = ImageLabels(
        np.array([2, 2, 0, 3]), np.array([A, C, A, B]), np.array([False, False, True, False])
    )
    kinds = by_kind(audit(Annotations(truth.vocabulary, truth.image_ids, truth.image, truth.boxes, truth.label,
                                      image_labels=absent)))  # fmt: skip
    told = [(one.labels, one.score, one.examples[0].image_id) for one in kinds["verified-absent"]]
    assert told == [((A,), 1.0, "i2"), ((B,), 1.0, "i3")]


def test_surprise_is_the_likelihood_ratio_to_the_likeliest_set() -> None:
    """Word for word, for one class: log2 of the best product of probabilities over this set's."""
    found = audit(crowded(1, images=60))
    n, m = found.concurrency.boxes, found.concurrency.matched
    odds = log_odds(found)

    def likelihood(i: int, labels: set[int]) -> float:
        shares = {j: (m[i, j] + 0.5) / (n[i] + 1) for j in range(6) if j != i}
        return float(np.prod([r if j in labels else 1 - r for j, r in shares.items()]))

    every = [{j for j in range(6) if mask >> j & 1} for mask in range(64)]
    sets = [{A}, {A, F}, {B, C, D}]
    for labels, bits in zip(sets, surprises([sorted(labels) for labels in sets], odds), strict=True):
        views = [
            np.log2(max(likelihood(i, s) for s in every if i in s) / likelihood(i, labels)) for i in labels
        ]
        assert bits == pytest.approx(min(views))


def test_kin_in_an_unexpanded_file_is_no_unlikely_set() -> None:
    image, label = [*range(1200), 1200, 1200], [0] * 600 + [1] * 600 + [0, 1]
    images = tuple(f"i{b}" for b in range(1201))
    names, box = Vocabulary(("cat", "animal")), np.array([0.0, 0.0, 1.0, 1.0])
    truth = Annotations(names, images, np.array(image), np.tile(box, (1202, 1)), np.array(label))
    assert suspects(audit(truth))
    assert not suspects(audit(truth, hierarchy=Hierarchy(2, [(0, 1)])))


def test_examples_of_a_pair_carry_both_labels() -> None:
    (one,) = by_kind(audit(boxes((100, (0, 5)), (900, (5,)))))["nearly-always"]
    assert len(one.examples) == 4
    assert {example.image_id for example in one.examples} <= {f"i{n}" for n in range(100)}
