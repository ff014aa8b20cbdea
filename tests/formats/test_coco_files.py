from __future__ import annotations

import json
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from formats.drawn_tables import IDS, NUMERALS, assert_same, table, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from wildbox.annotations import Annotations
from wildbox.errors import InputError, InputWarning, VocabularyError
from wildbox.formats.coco import read_coco, write_coco
from wildbox.labels import audit


def content(**box: object) -> dict[str, Any]:
    """A file with two boxes; `box` replaces values of the second, and None removes them."""
    second = {"id": 2, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4]} | box
    return {
        "images": [
            {"id": 9, "width": 20, "height": 10, "file_name": "a/9.png"},
            {"id": 7, "width": 8, "height": 8, "file_name": "7.png", "neg_category_ids": [3]},
        ],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 5, "bbox": [0, 0.5, 20, 9.5], "iscrowd": 1},
            {key: value for key, value in second.items() if value is not None},
        ],
        "categories": [{"id": 5, "name": "cat"}, {"id": 3, "name": "dog"}],
    }


def coco_file(folder: Path, value: object) -> Path:
    path = folder / "instances.json"
    path.write_text(json.dumps(value))
    return path


def test_boxes_in_pixels(tmp_path: Path) -> None:
    truth = read_coco(coco_file(tmp_path, content()))
    assert truth.vocabulary.ids == ("5", "3")
    assert truth.vocabulary.names == ("cat", "dog")
    assert truth.image_ids == ("9", "7")
    assert truth.file_names == ("a/9.png", "7.png")
    assert truth.sizes.tolist() == [[20, 10], [8, 8]]
    assert truth.boxes.tolist() == [[0, 0.5, 20, 10], [1, 2, 4, 6]]
    assert truth.label.tolist() == [0, 1]
    assert truth.is_group_of.tolist() == [True, False]
    labels = truth.image_labels
    assert (labels.image.tolist(), labels.label.tolist(), labels.is_positive.tolist()) == ([1], [1], [False])


def test_corners_are_sums_of_decimals(tmp_path: Path) -> None:
    """So that of two boxes whose IoU is exactly 0.9 neither is the other's object."""
    boxes = [[191.16, 258, 89.5, 72], [191.16, 258, 80.55, 72], [0.1, 1 / 3, 0.2, 1 / 7]]
    entries = [{"image_id": 7, "category_id": 5 - 2 * (i == 1), "bbox": box} for i, box in enumerate(boxes)]
    images = [{"id": 7, "width": 400, "height": 400}]
    truth = read_coco(coco_file(tmp_path, content() | {"images": images, "annotations": entries}))
    assert truth.boxes[:, 2].tolist() == [280.66, 271.71, 0.3]
    assert truth.boxes[2, 3] == 1 / 3 + 1 / 7  # no decimals of a few places
    assert not audit(truth).concurrency.confusion.any()


def test_lvis_tells_files_by_their_address(tmp_path: Path) -> None:
    told = content()
    for number, entry in enumerate(told["images"]):
        entry.pop("file_name", None)
        entry["coco_url"] = f"http://images.cocodataset.org/train2017/00000000000{number}.jpg"
    expected = ("train2017/000000000000.jpg", "train2017/000000000001.jpg")
    assert read_coco(coco_file(tmp_path, told)).file_names == expected


def test_what_lvis_adds(tmp_path: Path) -> None:
    value = content()
    value["images"][0]["not_exhaustive_category_ids"] = [5]
    for category, frequency in zip(value["categories"], "fr", strict=True):
        category["frequency"] = frequency
    truth = read_coco(coco_file(tmp_path, value))
    labels = truth.image_labels
    rows = zip(labels.image, labels.label, labels.is_positive, labels.is_exhaustive, strict=True)
    assert list(rows) == [(0, 0, True, False), (1, 1, False, True)]
    assert truth.vocabulary.groups == ("f", "r")
    del value["categories"][0]["frequency"]
    assert read_coco(coco_file(tmp_path, value)).vocabulary.groups == ()


@pytest.mark.parametrize(
    ("box", "told"),
    [
        ({"bbox": None}, ": missing key 'bbox'; it has 'id', 'image_id', 'category_id'"),
        ({"image_id": None}, ": missing key 'image_id'"),
        ({"category_id": None}, ": missing key 'category_id'"),
        ({"image_id": 8}, ".image_id is '8', which is none of the 2 in the file"),
        ({"category_id": 4}, ".category_id is '4', which is none of the 2 in the file"),
        ({"category_id": [3]}, ".category_id is [3], expected a whole number or a text"),
        ({"bbox": [1, 2, 3]}, ".bbox is [1, 2, 3], expected four finite numbers"),
        ({"bbox": "1 2 3 4"}, ".bbox is '1 2 3 4', expected four finite numbers"),
        ({"bbox": [1, 2, "3", 4]}, ".bbox is [1, 2, '3', 4], expected four finite numbers"),
        ({"bbox": [1, 2, float("nan"), 4]}, ".bbox is [1, 2, nan, 4], expected four finite numbers"),
        ({"bbox": [1, 2, float("inf"), 4]}, ".bbox is [1, 2, inf, 4], expected four finite numbers"),
        (
            {"bbox": [1, 2, -3, 4]},
            ".bbox is [1.0, 2.0, -3.0, 4.0], expected a width and a height of at least 0",
        ),
        (
            {"bbox": [9, 2, 3, 4]},
            ".bbox: the box [9.0, 2.0, 12.0, 6.0] (x1, y1, x2, y2) lies outside its image",
        ),
        ({"iscrowd": 2}, ".iscrowd is 2, expected 0 or 1"),
    ],
)
def test_a_bad_box_names_its_entry(tmp_path: Path, box: dict[str, object], told: str) -> None:
    path = coco_file(tmp_path, content(**box))
    with pytest.raises(InputError) as caught:
        read_coco(path)
    assert str(caught.value).startswith(f"{path}: annotations[1]{told}")


@pytest.mark.parametrize(
    ("replaced", "told"),
    [
        ({"categories": {}}, "categories: expected a list of objects"),
        ({"annotations": [3]}, "annotations: expected a list of objects"),
        ({"images": []}, "images: the list is empty"),
        ({"images": [{"width": 3, "height": 3}]}, "images[0]: missing key 'id'; it has 'width', 'height'"),
        ({"images": [{"id": 1, "height": 3}]}, "images[0]: missing key 'width'"),
        ({"images": [{"id": 1, "width": 0, "height": 3}]}, "images[0].width is 0, expected a positive"),
        ({"images": [{"id": 1, "width": 3, "height": "3"}]}, "images[0].height is '3', expected"),
        ({"images": [{"id": 1}, {"id": "1"}]}, "images[1].id '1' is that of images[0] already"),
        (
            {"images": [{"id": 1, "width": 3, "height": 3, "neg_category_ids": [4]}], "annotations": []},
            "images[0].neg_category_ids names 4, which is none of the categories",
        ),
    ],
)
def test_a_bad_list_names_its_entry(tmp_path: Path, replaced: dict[str, object], told: str) -> None:
    path = coco_file(tmp_path, content() | replaced)
    with pytest.raises(InputError) as caught:
        read_coco(path)
    assert str(caught.value).startswith(f"{path}: {told}")


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected an object with images, annotations and categories"):
        read_coco(coco_file(tmp_path, []))
    with pytest.raises(InputError, match="missing key 'categories'; the file has 'images'"):
        read_coco(coco_file(tmp_path, {"images": []}))
    with pytest.raises(VocabularyError, match=r"categories\[1\].id '5' is that of categories\[0\]"):
        read_coco(coco_file(tmp_path, content() | {"categories": [{"id": 5}, {"id": 5}]}))
    (tmp_path / "instances.json").write_text('{"images": [],\n "annotations": [1,]}')
    with pytest.raises(InputError, match=r"instances.json:2: malformed JSON"):
        read_coco(tmp_path / "instances.json")


@pytest.mark.parametrize("unread", [float("nan"), float("inf"), "x" * 10, [[1.5, 2]], {"a": [None]}])
def test_what_is_not_read_decides_nothing(tmp_path: Path, unread: object) -> None:
    truth = read_coco(coco_file(tmp_path, content(area=unread, segmentation=unread)))
    assert_same(truth, read_coco(coco_file(tmp_path, content())))


def test_ids_are_numbers_or_texts_and_a_crowd_may_be_a_truth_value(tmp_path: Path) -> None:
    expected = read_coco(coco_file(tmp_path, content(iscrowd=1)))
    assert_same(read_coco(coco_file(tmp_path, content(image_id="7", iscrowd=True))), expected)


@pytest.mark.parametrize("digits", [30, 400, 5000])
def test_numbers_that_are_too_large(tmp_path: Path, digits: int) -> None:
    for value in (content(bbox=["huge", 2, 3, 4]), content(iscrowd="huge"), content(image_id="huge")):
        text = json.dumps(value).replace('"huge"', "9" * digits)
        (tmp_path / "instances.json").write_text(text)
        with pytest.raises(InputError, match=r"instances\.json: "):
            read_coco(tmp_path / "instances.json")


def test_what_real_data_has_is_counted(tmp_path: Path) -> None:
    value = content(bbox=[-1, 2, 3, 7])
    value["annotations"] += [value["annotations"][0], {"image_id": 7, "category_id": 5, "bbox": [8, 0, 0, 1]}]
    value["annotations"] += [{"image_id": 7, "category_id": 5, "bbox": [0, 0, 8.004, 1]}]
    with pytest.warns(InputWarning) as caught:
        truth = read_coco(coco_file(tmp_path, value))
    assert [str(warning.message).partition(": ")[2] for warning in caught] == [
        "1 boxes stick out of their image; they are clipped",
        "1 boxes have no area; they are kept",
        "1 boxes repeat an earlier box of the same class; they are kept",
    ]
    full = [0, 0.5, 20, 10]
    assert truth.boxes.tolist() == [full, full, [0, 2, 2, 8], [8, 0, 8, 1], [0, 0, 8, 1]]


@given(
    truth=st.tuples(st.sampled_from([IDS, NUMERALS]), st.sampled_from([1.0, 641.0])).flatmap(
        lambda kind: tables(ids=kind[0], scale=kind[1], lvis=True)
    ),
    named=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_written_is_read_again(truth: Annotations, named: bool) -> None:
    if named:
        truth = replace(truth, file_names=tuple(f"{id_}.png" for id_ in truth.image_ids))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        write_coco(truth, Path(folder, "instances.json"))
        read = read_coco(Path(folder, "instances.json"))
    np.testing.assert_allclose(read.boxes, truth.boxes, rtol=1e-15)  # no float may add up to x2
    assert_same(replace(read, boxes=truth.boxes), truth)


def test_numerals_are_written_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    write_coco(replace(table(["10", "2"], ["01", "3"], [(0, 1, [0, 0, 1, 0.5])])), path)
    written = json.loads(path.read_text())
    assert [image["id"] for image in written["images"]] == [10, 2]
    assert [category["id"] for category in written["categories"]] == ["01", "3"]
    assert written["annotations"] == [
        {"id": 1, "image_id": 10, "category_id": "3", "bbox": [0, 0, 1, 0.5], "area": 0.5, "iscrowd": 0}
    ]


@pytest.mark.filterwarnings("ignore::wildbox.errors.InputWarning")
@pytest.mark.parametrize(
    ("name", "images", "boxes", "classes"),
    [
        ("muscima-pp/annotations.json", 140, 102_914, 115),
        ("coco-sample/instances.json", 148, 1_096, 79),
        ("chestx-det/instances.json", 3_025, 7_905, 13),
        ("lvis-sample/instances.json", 100, 977, 190),
    ],
)
def test_real_files(
    shared_data: Path, tmp_path: Path, name: str, images: int, boxes: int, classes: int
) -> None:
    truth = read_coco(shared_data / name)
    assert (len(truth.image_ids), len(truth), len(set(truth.label.tolist()))) == (images, boxes, classes)
    write_coco(truth, tmp_path / "again.json")
    assert_same(read_coco(tmp_path / "again.json"), truth)
