"""Sets of labels and their examples: sums over shards, whatever the order."""

from __future__ import annotations

import numpy as np
import pytest
from labels.crowded_tables import SIX, crowded, table

from wildbox.annotations import Annotations
from wildbox.errors import ConfigError
from wildbox.labels.label_sets import LabelSets, count_label_sets
from wildbox.labels.objects import object_labels
from wildbox.vocabulary import Vocabulary

UNIT = [0.0, 0.0, 1.0, 1.0]


def sets_of(truth: Annotations, *, examples: int = 4) -> LabelSets:
    return count_label_sets(truth, object_labels(truth), examples=examples)


def test_examples_are_boxes_of_the_set() -> None:
    truth = crowded(2, images=40)
    rows = {
        (truth.image_ids[image], *box): i
        for i, (image, box) in enumerate(zip(truth.image.tolist(), truth.boxes.tolist(), strict=True))
    }
    objects = object_labels(truth)
    for one in sets_of(truth).sets:
        assert len({*one.examples}) == len(one.examples)
        for example in one.examples:
            assert tuple(objects.of(rows[example.image_id, *example.box])) == one.labels
    assert any(len(one.examples) == 4 for one in sets_of(truth).sets)
    assert all(not one.examples for one in sets_of(truth, examples=0).sets)


def test_equal_boxes_are_told_apart_by_image_and_shown_once() -> None:
    """Six images with the same box, one of them twice: whole and in parts the same four."""
    images = ("f", "b", "a", "e", "d", "c")
    rows = [(b, UNIT, 0) for b in (0, 0, 1, 2, 3, 4, 5)]
    whole = table(rows, images=6)
    truth = Annotations(SIX, images, whole.image, whole.boxes, whole.label)
    (one,) = sets_of(truth).sets
    assert [example.image_id for example in one.examples] == ["a", "b", "c", "d"]
    both = sets_of(truth.select([0, 4, 5])) + sets_of(truth.select([3, 2, 1]))
    assert both.sets == sets_of(truth).sets


def test_more_sets_than_the_table_starts_with() -> None:
    """Every pair of 120 classes: 7,140 sets, three quarters of them after the hash table has grown."""
    first, second = np.triu_indices(120, k=1)
    pairs = np.column_stack([first, second]).ravel()
    image = np.repeat(np.arange(len(first)), 2)
    truth = Annotations(
        Vocabulary(tuple(map(str, range(120)))),
        tuple(map(str, range(len(first)))),
        image,
        np.tile(UNIT, (len(image), 1)),
        pairs,
    )
    found = sets_of(truth, examples=0)
    assert [one.labels for one in found.sets] == list(zip(first.tolist(), second.tolist(), strict=True))
    assert found.by_size() == [0, len(image)]


def test_settings() -> None:
    with pytest.raises(ConfigError, match="examples is -1"):
        sets_of(crowded(0), examples=-1)
    with pytest.raises(ConfigError, match="do not add up"):
        sets_of(crowded(0), examples=1) + sets_of(crowded(0), examples=2)
