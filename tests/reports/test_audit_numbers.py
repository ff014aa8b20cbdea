"""What an audit's page derives from its tables, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from wildbox.annotations import Annotations
from wildbox.labels.audit import LabelAudit, audit
from wildbox.reports import audit as page
from wildbox.reports.summary import summary_points
from wildbox.vocabulary import Hierarchy, Vocabulary

NAMES = list("abcdef")
OBJECTS = [(0, 1), (0, 1, 4), (0,), (0,), *[(1,)] * 18, *[(2, 3)] * 8, *[(2,)] * 2, *[(4,)] * 5]
"""a is b on 2 of 4 boxes, b is a on 2 of 20; d is above c, which has it on 8 of 10, and e, which never has; no f."""


@pytest.fixture(scope="module")
def found() -> LabelAudit:
    image, label = np.array([(i, c) for i, labels in enumerate(OBJECTS) for c in labels]).T
    boxes = np.tile([0.0, 0.0, 1.0, 1.0], (len(image), 1))
    images = tuple(f"i{n}" for n in range(len(OBJECTS)))
    truth = Annotations(Vocabulary(tuple(NAMES)), images, image, boxes, label)
    return audit(truth, hierarchy=Hierarchy(6, [(2, 3), (4, 3)]))


def test_head_of_the_classes(found: LabelAudit) -> None:
    """b and c have the most images, 30 of 48 boxes."""
    told = dict(summary_points(found, [], NAMES))["Imbalance"]
    assert told.startswith("b has 5 times the boxes of a (20 against 4;")
    assert told.endswith("with the most images holds 62.5% of the boxes.")
    assert page._imbalance(found, NAMES).more == ("1 class without boxes", ["f"])


def test_cards_of_pairs(found: LabelAudit) -> None:
    pairs = sorted(found.pairs, key=lambda pair: page._alikeness(found, pair))
    groups = {group.title: group for group in page._pair_groups(found, pairs, NAMES)}
    assert next(iter(groups)) == "a / b"
    assert len({frozenset(title) for title in groups}) == len(groups)
    told = "2 overlaps, 2 unexplained. 50.0% of a are also b, 10.0% the other way."
    assert groups["a / b"].text == told
    assert [example.image_id for example in groups["a / b"].examples] == ["i0", "i1"]
    assert groups["d / c"].text == "8 overlaps, 0 unexplained. 100.0% of d are also c, 80.0% the other way."


def test_implied_labels(found: LabelAudit) -> None:
    (table,) = page._implied(found, NAMES).tables
    assert [[*row] for row in table.rows] == [["e", "d", 6, 0, 6, 0.0], ["c", "d", 10, 8, 2, 0.8]]


def test_rates_are_sorted_and_have_their_own_boxes(found: LabelAudit) -> None:
    table = page._rates_table(found, NAMES, found.hierarchy.is_ancestor)  # type: ignore[union-attr]
    rows = [[*row[:5], row[-1]] for row in table.rows]
    assert [row for row in rows if row[-1] == "false"][:2] == [
        ["d", "c", 1.0, 8, 8, "false"],
        ["a", "b", 0.5, 4, 2, "false"],
    ]
    assert [row[:4] for row in rows if row[-1] == "true"] == [["c", "d", 1.0, 10], ["e", "d", 1.0, 6]]
    lower, upper = np.array([row[5:7] for row in table.rows if row[:2] == ["a", "b"]], float)[0]
    assert lower == pytest.approx(0.15, abs=0.001)
    assert upper == pytest.approx(0.85, abs=0.001)


def test_what_the_hierarchy_explains_is_not_drawn(found: LabelAudit) -> None:
    section = page._rates(found, NAMES)
    told = "Drawn are the 3 classes with the strongest rates that the hierarchy does not explain, of 5 that have any;"
    assert told in section.text
    assert section.more == ("2 classes left out of the drawing", ["c", "d"])
