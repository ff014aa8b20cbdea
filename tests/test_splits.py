from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wildbox.annotations import Annotations
from wildbox.errors import ConfigError, InputWarning
from wildbox.formats.open_images import read_open_images
from wildbox.splits import split
from wildbox.vocabulary import Vocabulary

Sides = tuple[list[int], list[int]]


def holding(classes: list[set[int]], *, images: int) -> Annotations:
    """One box for each class and image of `classes`."""
    rows = [(image, label) for label, held in enumerate(classes) for image in sorted(held)]
    return Annotations(
        Vocabulary(tuple(f"c{i}" for i in range(len(classes)))),
        tuple(f"i{i}" for i in range(images)),
        image=np.array([image for image, _ in rows], np.int64),
        boxes=np.tile([0.0, 0, 1, 1], (len(rows), 1)),
        label=np.array([label for _, label in rows], np.int64),
    )


def lost(classes: list[set[int]], sides: Sides) -> int:
    """How many (class, side) the promise names and the split misses."""
    train, val = map(set, sides)
    once = sum(not held & train for held in classes if held)
    return once + sum(not held & val for held in classes if len(held) > 1)


def quietly(annotations: Annotations, *, seed: int, train: int, val: int) -> Sides:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        return split(annotations, seed=seed, train=train, val=val)


IMAGES = 7
CLASSES = st.lists(st.sets(st.integers(0, IMAGES - 1), max_size=5), min_size=1, max_size=5)


@given(classes=CLASSES, seed=st.integers(0, 99), train=st.integers(0, 4), val=st.integers(0, 3))
def test_disjoint_sizes_and_a_warning_where_a_class_is_lost(
    classes: list[set[int]], seed: int, train: int, val: int
) -> None:
    annotations = holding(classes, images=IMAGES)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sides = split(annotations, seed=seed, train=train, val=val)
    assert [len(side) for side in sides] == [train, val]
    assert not set(sides[0]) & set(sides[1])
    assert sides == (sorted(sides[0]), sorted(sides[1]))
    told = sum(int(str(warning.message).partition("none of ")[2].split()[0]) for warning in caught)
    assert told == lost(classes, sides)


@given(classes=CLASSES, seed=st.integers(0, 99))
def test_rows_and_order_of_images_do_not_matter(classes: list[set[int]], seed: int) -> None:
    annotations = holding(classes, images=IMAGES)
    turned = list(range(IMAGES))[::-1]
    again = quietly(annotations.select(turned), seed=seed, train=3, val=2)
    sides = quietly(annotations, seed=seed, train=3, val=2)
    assert again == tuple(sorted(turned.index(i) for i in side) for side in sides)


def test_the_order_of_classes_does_not_matter() -> None:
    classes: list[set[int]] = [{0, 1}, {1, 2}, {3, 4}, {5}]
    a = holding(classes, images=IMAGES)
    flipped = replace(a, vocabulary=Vocabulary(a.vocabulary.ids[::-1]), label=3 - a.label)
    assert split(a, seed=4, train=4, val=3) == split(flipped, seed=4, train=4, val=3)


def test_the_same_lists_on_any_machine() -> None:
    annotations = holding([set(range(0, 40, 3)), {5, 6}], images=40)
    assert split(annotations, seed=0, train=5, val=3) == TOLD
    assert split(annotations, seed=1, train=5, val=3) != TOLD


TOLD: Sides = ([6, 22, 29, 31, 35], [0, 5, 30])


@given(classes=st.lists(st.sets(st.integers(0, 3), max_size=3), min_size=1, max_size=3))
def test_as_little_is_lost_as_in_the_best_split(classes: list[set[int]]) -> None:
    best = min(
        lost(classes, ([i for i in range(4) if way[i] == 1], [i for i in range(4) if way[i] == 2]))
        for way in product((1, 2), repeat=4)
        if way.count(1) == 2
    )
    found = lost(classes, quietly(holding(classes, images=4), seed=0, train=2, val=2))
    assert found == best


def test_a_class_of_two_images_is_on_both_sides() -> None:
    classes: list[set[int]] = [{i, i + 1} for i in range(0, 30, 2)]
    for seed in range(5):
        assert lost(classes, split(holding(classes, images=60), seed=seed, train=20, val=18)) == 0


def test_classes_that_no_split_can_keep() -> None:
    with pytest.warns(InputWarning, match=r"val holds 1 images and none of 1 classes: c\d"):
        split(holding([{0, 1}, {1, 2}, {0, 2}], images=3), seed=0, train=2, val=1)


@pytest.mark.parametrize(("train", "val"), [(-1, 2), (2, -1), (4, 4)])
def test_sizes_out_of_range(train: int, val: int) -> None:
    with pytest.raises(ConfigError, match="cannot be chosen from 7"):
        split(holding([{0}], images=7), seed=0, train=train, val=val)


def test_no_classes_and_no_images() -> None:
    assert split(holding([set()], images=0), seed=0, train=0, val=0) == ([], [])
    train, val = split(holding([set()], images=4), seed=0, train=2, val=2)
    assert sorted(train + val) == [0, 1, 2, 3]


@pytest.mark.filterwarnings("ignore:.*boxes.csv")
def test_the_real_sample(shared_data: Path) -> None:
    truth = read_open_images(shared_data / "open-images-sample" / "boxes.csv")
    classes = [set(truth.image[truth.label == c].tolist()) for c in range(len(truth.vocabulary))]
    assert lost(classes, split(truth, seed=0, train=700, val=300)) == 0


def six_images(ids: str, image: Sequence[int], label: Sequence[int]) -> Annotations:
    """One box for each label."""
    boxes, images = np.tile([0.0, 0.0, 1.0, 1.0], (len(image), 1)), tuple(f"i{b}" for b in range(6))
    return Annotations(Vocabulary(tuple(ids)), images, np.array(image), boxes, np.array(label))


@pytest.mark.filterwarnings("ignore:val holds")
def test_ties_go_by_the_id_of_the_class() -> None:
    image, label, order = [0, 1, 2, 2, 3, 3, 5, 5, 5], [2, 3, 2, 0, 2, 3, 0, 2, 1], [3, 1, 2, 0]
    one = split(six_images("abcd", image, label), seed=0, train=3, val=1)
    turned = np.argsort(order)[label].tolist()
    other = split(six_images("".join("abcd"[i] for i in order), image, turned), seed=0, train=3, val=1)
    assert one == other == ([0, 1, 5], [2])


@pytest.mark.filterwarnings("error")
def test_an_exchange_loses_no_class_of_the_other_side() -> None:
    truth = six_images("abc", [0, 0, 2, 4, 4], [0, 1, 0, 2, 1])
    assert split(truth, seed=0, train=2, val=4) == ([2, 4], [0, 1, 3, 5])


@pytest.mark.parametrize(
    ("classes", "train", "val", "sides"),
    [
        ([{2, 3, 5}, {0, 4, 5}], 1, 4, ([5], [0, 1, 3, 4])),  # for an image of the rest
        ([{1, 2, 5}, {1, 3, 5}], 1, 1, ([1], [5])),  # whose partner must have both classes
        ([{0, 1, 2}, {0, 2, 4}], 3, 1, ([1, 2, 4], [0])),  # one exchange is enough
    ],
)
def test_exchanges(classes: list[set[int]], train: int, val: int, sides: tuple[list[int], list[int]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert split(holding(classes, images=6), seed=0, train=train, val=val) == sides
