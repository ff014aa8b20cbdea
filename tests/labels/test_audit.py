"""The whole audit: against plain Python, in parts, in any order, as files, and on real data."""

from __future__ import annotations

import csv
import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from labels.crowded_tables import CLASSES, TREE, crowded, table, tables
from oracles.concurrency import (
    label_set_counts,
    labels_of_objects,
    repeated_rows,
    unexplained_counts,
    verified_absent,
)

from wildbox.annotations import Annotations, expand
from wildbox.errors import ConfigError, InputError, InputWarning
from wildbox.formats.coco import read_coco
from wildbox.formats.open_images import read_classes, read_hierarchy, read_open_images
from wildbox.labels.audit import LabelAudit, audit
from wildbox.labels.concurrency import ConcurrentRates
from wildbox.labels.files import write_audit
from wildbox.labels.suspects import suspects
from wildbox.vocabulary import Hierarchy, Vocabulary

UNIT = [0.0, 0.0, 1.0, 1.0]


def same(a: LabelAudit, b: LabelAudit) -> bool:
    return (
        a.summary() == pytest.approx(b.summary(), nan_ok=True)
        and a.pairs == b.pairs
        and bool((a.rates.values == b.rates.values).all())
        and bool((a.unexplained == b.unexplained).all())
        and a.counts.images.tolist() == b.counts.images.tolist()
        and a.label_sets.sets == b.label_sets.sets
        and a.contradictions.boxes.tolist() == b.contradictions.boxes.tolist()
        and a.contradictions.examples == b.contradictions.examples
        and suspects(a) == suspects(b)
    )


def check(truth: Annotations) -> None:
    found = audit(truth, hierarchy=TREE)
    counts = unexplained_counts(truth, TREE)
    assert found.unexplained.tolist() == [[counts[i, j] for j in range(CLASSES)] for i in range(CLASSES)]
    assert found.duplicates == repeated_rows(truth)
    assert {one.labels: one.boxes for one in found.label_sets.sets} == label_set_counts(truth)
    absent = verified_absent(truth)
    assert found.contradictions.boxes.tolist() == [absent[i] for i in range(CLASSES)]
    assert found.summary()["multi_label_boxes"] == sum(len(labels) > 1 for labels in labels_of_objects(truth))


@pytest.mark.parametrize("seed", range(8))
def test_audit_is_that_of_the_oracle(seed: int) -> None:
    check(crowded(seed))


@settings(max_examples=100, deadline=None)
@given(tables())
def test_audit_of_arbitrary_boxes(truth: Annotations) -> None:
    check(truth)


@pytest.mark.parametrize("seed", range(4))
def test_parts_add_up(seed: int) -> None:
    truth = crowded(seed)
    first, second = truth.select(range(0, 14, 2)), truth.select(range(1, 14, 2))
    assert same(audit(first, hierarchy=TREE) + audit(second, hierarchy=TREE), audit(truth, hierarchy=TREE))


def test_other_settings_do_not_add_up() -> None:
    truth = crowded(0)
    with pytest.raises(InputError, match="do not add up"):
        audit(truth) + audit(truth, iou=0.8)


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_rows_and_images_does_not_matter(seed: int) -> None:
    truth = crowded(seed)
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(truth))
    shuffled = truth.select(rng.permutation(len(truth.image_ids)))
    mixed = replace(
        truth,
        image=truth.image[rows],
        boxes=truth.boxes[rows],
        label=truth.label[rows],
        is_group_of=truth.is_group_of[rows],
    )
    for other in (shuffled, mixed):
        assert same(audit(other, hierarchy=TREE), audit(truth, hierarchy=TREE))


def test_group_of_boxes_are_left_out_on_demand() -> None:
    truth = crowded(3)
    assert truth.is_group_of.any()
    assert truth.keep(~truth.is_group_of).boxes.shape[0] == (~truth.is_group_of).sum()
    found = audit(truth, hierarchy=TREE, include_group_of=False)
    assert found.settings != audit(truth).settings
    without = replace(audit(truth.keep(~truth.is_group_of), hierarchy=TREE), settings=found.settings)
    assert same(found, without)


def test_implied_labels() -> None:
    truth = table([(0, UNIT, 1), (0, UNIT, 2), (1, UNIT, 1)], images=2)  # ancestors of 1: 2, 3 and 4
    found = audit(truth, hierarchy=TREE)
    told = [(one.label, one.ancestor, one.boxes, one.with_ancestor) for one in found.implied]
    assert told == [(1, 2, 2, 1), (1, 3, 2, 0), (1, 4, 2, 0), (2, 3, 1, 0)]
    assert found.summary()["expanded"] == 1 / 7
    assert audit(expand(truth, TREE), hierarchy=TREE).summary()["expanded"] == 1
    assert np.isnan(audit(truth).summary()["expanded"])


def test_a_third_label_explains_two_parents() -> None:
    truth = table([(0, UNIT, 1), (0, UNIT, 2), (0, UNIT, 4)], images=1)  # 2 and 4 are both parents of 1
    summary = audit(truth, hierarchy=TREE).summary()
    assert summary["overlapping_pairs"] == 3
    assert summary["overlapping_pairs_of_kin"] == 2
    assert summary["overlapping_pairs_unexplained"] == 0
    assert audit(truth).summary()["overlapping_pairs_unexplained"] == 3


def test_nothing_to_audit(tmp_path: Path) -> None:
    write_audit(audit(table([], images=2), hierarchy=TREE), tmp_path / "new" / "folder")
    summary = json.loads((tmp_path / "new" / "folder" / "summary.json").read_text())
    assert (summary["images"], summary["boxes"], summary["gini"]) == (2, 0, None)


def test_settings_are_checked() -> None:
    with pytest.raises(InputError, match="hierarchy of 2 classes"):
        audit(crowded(0), hierarchy=Hierarchy(2, []))
    with pytest.raises(ConfigError, match="min_ratio"):
        audit(crowded(0), min_ratio=-1)


def test_files(tmp_path: Path) -> None:
    named = Vocabulary(tuple("zyxwvu"), ("Bench", "Bench", "Mouse", "Cat", "Dog, big", "Ox"), tuple("rcfrcf"))
    truth = replace(crowded(1), vocabulary=named)
    found = audit(truth, hierarchy=TREE)
    write_audit(found, tmp_path)
    expected = {"classes.csv", "confusion_pairs.csv", "concurrent_rates.csv", "label_sets.csv"}
    expected |= {"implied_labels.csv", "suspects.csv", "summary.json"}
    assert {path.name for path in tmp_path.iterdir()} == expected
    with (tmp_path / "classes.csv").open(newline="") as stream:
        classes = list(csv.DictReader(stream))
    assert [row["class_id"] for row in classes] == list(named.ids)
    assert [int(row["boxes"]) for row in classes] == found.counts.boxes.tolist()
    assert [row["published_group"] for row in classes] == list("rcfrcf")
    assert [row["group"] for row in classes] == found.counts.groups().tolist()
    with (tmp_path / "confusion_pairs.csv").open(newline="") as stream:
        pairs = list(csv.DictReader(stream))
    keys = [(-float(row["ratio"]), row["source"], row["confusion"]) for row in pairs]
    assert keys == sorted(keys)
    assert len(pairs) == len(found.pairs) > 0
    for row in pairs:
        a, b = named.index(row["source"]), named.index(row["confusion"])
        assert row["related"] == ("true" if TREE.related(a, b) else "false")
        assert int(row["confusion_boxes"]) / int(row["source_boxes"]) == float(row["ratio"])
    again = ConcurrentRates.read(tmp_path / "concurrent_rates.csv", named)
    assert (again.values == found.rates.values).all()


def unordered(found: LabelAudit, a: str, b: str) -> int:
    names = found.vocabulary.names
    return int(found.unexplained[names.index(a), names.index(b)])


@pytest.mark.parametrize("tree", ["hierarchy-500.json", "hierarchy-600.json"])
def test_open_images_sample(shared_data: Path, tree: str) -> None:
    """Its labels are the names of the 601 classes; the list of 500 names two of them otherwise, twice alike."""
    folder = shared_data / "open-images-sample"
    classes = read_classes(folder / "classes-601.csv")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        truth = read_open_images(folder / "boxes.csv", classes=Vocabulary(classes.names))
    found = audit(truth, hierarchy=read_hierarchy(folder / tree, classes))
    summary = found.summary()
    assert (summary["images"], summary["boxes"], summary["classes_with_boxes"]) == (3520, 36191, 497)
    assert summary["duplicates"] == 230
    assert summary["overlapping_pairs"] == 25346
    assert summary["overlapping_pairs_unexplained"] == 2564
    assert unordered(found, "Woman", "Girl") == 155
    assert unordered(found, "Wheel", "Tire") == 97
    assert unordered(found, "Bicycle wheel", "Wheel") == 45
    assert unordered(found, "Bagel", "Doughnut") == 27


def coco_audit(path: Path) -> LabelAudit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        return audit(read_coco(path))


def test_chestx_det(shared_data: Path) -> None:
    found = coco_audit(shared_data / "chestx-det" / "instances.json")
    summary = found.summary()
    assert (summary["images"], summary["boxes"], summary["classes"]) == (3025, 7905, 13)
    assert summary["overlapping_pairs"] == 636
    assert unordered(found, "Consolidation", "Effusion") == 352


def test_muscima(shared_data: Path) -> None:
    summary = coco_audit(shared_data / "muscima-pp" / "annotations.json").summary()
    assert (summary["images"], summary["boxes"], summary["classes"]) == (140, 102914, 115)
    assert summary["overlapping_pairs"] == 5043
