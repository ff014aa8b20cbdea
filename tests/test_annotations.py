"""Tables of truth: some of their images."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import MISSING, fields, replace

import numpy as np
import pytest
from formats.drawn_tables import tables
from hypothesis import given
from hypothesis import strategies as st

from wildbox.annotations import Annotations, ImageLabels, concatenate, expand, order_by_image
from wildbox.detections import Detections
from wildbox.errors import InputError
from wildbox.vocabulary import Hierarchy, Vocabulary


def rows(table: Annotations) -> list[tuple[str, int, tuple[float, ...]]]:
    found = zip(table.image.tolist(), table.label.tolist(), table.boxes.tolist(), strict=True)
    return [(table.image_ids[image], label, tuple(box)) for image, label, box in found]


def labels(table: Annotations) -> list[tuple[str, int, bool]]:
    of = table.image_labels
    found = zip(of.image.tolist(), of.label.tolist(), of.is_positive.tolist(), strict=True)
    return [(table.image_ids[image], label, positive) for image, label, positive in found]


@given(tables(), st.data())
def test_some_images_in_any_order(table: Annotations, data: st.DataObject) -> None:
    """Rows of an image keep their order; consecutive images, whose arrays are views, are no exception."""
    count = len(table.image_ids)
    order = data.draw(st.permutations(range(count)))
    first, last = sorted((data.draw(st.integers(0, count)), data.draw(st.integers(0, count))))
    for keep in (order[: data.draw(st.integers(0, count))], range(first, last), list(range(-count, 0))):
        some = table.select(keep)
        ids = [table.image_ids[i] for i in keep]
        assert list(some.image_ids) == ids
        assert rows(some) == [row for id_ in ids for row in rows(table) if row[0] == id_]
        assert labels(some) == [row for id_ in ids for row in labels(table) if row[0] == id_]
        np.testing.assert_array_equal(some.sizes, table.sizes[np.array(list(keep), int)])
        assert some.offsets[-1] == len(some)


@given(tables())
def test_an_image_that_stands_twice_or_is_not_there(table: Annotations) -> None:
    if table.image_ids:
        with pytest.raises(InputError, match="stands twice"):
            table.select([0, -len(table.image_ids)])
    for index in (len(table.image_ids), -len(table.image_ids) - 1):
        with pytest.raises(IndexError):
            table.select([index])


@given(st.lists(st.integers(-1, 4), max_size=12), st.integers(0, 4))
def test_rows_by_image_stay_in_order(drawn: list[int], images: int) -> None:
    """Also where an index is outside the images: what is wrong with it is said by others."""
    image = np.array(drawn, np.int64)
    order = order_by_image(image, images)
    expected = sorted(range(len(drawn)), key=drawn.__getitem__)
    assert (list(range(len(drawn))) if order is None else order.tolist()) == expected


def test_images_to_select_are_no_truth_values() -> None:
    """They would be taken for the images 0 and 1."""
    box = np.array([[0.0, 0.0, 1.0, 1.0]])
    truth = Annotations(Vocabulary(("a",)), ("x", "y"), image=np.array([0]), boxes=box, label=np.array([0]))
    found = Detections(truth.vocabulary, truth.image_ids, truth.image, truth.boxes, truth.label, np.ones(1))
    for one in (truth, found):
        assert one.select(np.flatnonzero([False, True])).image_ids == ("y",)
        with pytest.raises(InputError, match="indices, not truth values"):
            one.select(np.array([False, True]))


def test_image_labels_expand_as_boxes_do_or_downwards() -> None:
    """A positive one is one of all ancestors, a negative one of all descendants."""
    labels = ImageLabels(np.array([0, 0]), np.array([0, 2]), np.array([True, False]))
    names = Vocabulary(("tiger", "carnivore", "plant", "tree", "animal"))
    nothing = np.zeros(0, int)
    truth = Annotations(names, ("x",), nothing, np.zeros((0, 4)), nothing, image_labels=labels)
    found = expand(truth, Hierarchy(5, [(0, 1), (1, 4), (3, 2)])).image_labels
    told = sorted(zip(found.label.tolist(), found.is_positive.tolist(), strict=True))
    assert told == [(0, True), (1, True), (2, False), (3, False), (4, True)]


def test_files_keep_their_names_beside_a_table_without() -> None:
    named, plain = (
        Annotations(
            Vocabulary(("a",)), (id_,), np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0, np.int64)
        )
        for id_ in "xy"
    )
    named = replace(named, file_names=("part/x.png",))
    assert concatenate([named, plain]).file_names == ("part/x.png", "y.jpg")
    assert concatenate([plain]).file_names == ()


@pytest.mark.parametrize("table", [ImageLabels, Annotations, Detections])
def test_what_type_checkers_are_told_of_a_table_is_its_fields(table: type) -> None:
    """They are told more types than the fields have; names and order are those that run."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(table)))
    (told,) = (
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    )
    each = fields(table)
    assert [argument.arg for argument in told.args.args] == ["self", *(one.name for one in each)]
    required = [one for one in each if one.default is MISSING and one.default_factory is MISSING]
    assert len(told.args.args) - len(told.args.defaults) == 1 + len(required)
