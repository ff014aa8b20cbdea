from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from formats.drawn_tables import tables
from hypothesis import given, settings
from hypothesis import strategies as st

from wildbox.annotations import Annotations
from wildbox.detections import Detections
from wildbox.errors import InputError, InputWarning
from wildbox.formats.storage import read_detections, write_detections
from wildbox.vocabulary import Vocabulary

HEADER = "ImageID,LabelName,Score,XMin,XMax,YMin,YMax\n"
PETS = Vocabulary(("cat", "dog"))


def found_file(folder: Path, rows: str) -> Path:
    path = folder / "found.csv"
    path.write_text(HEADER + rows)
    return path


def test_rows_become_detections(tmp_path: Path) -> None:
    path = found_file(tmp_path, "b,dog,0.5,1,3,2,400\na,cat,1,0,1,0,1\n")
    found = read_detections(path, vocabulary=PETS)
    assert found.image_ids == ("b", "a")
    assert found.label.tolist() == [1, 0]
    assert found.boxes.tolist() == [[1, 2, 3, 400], [0, 0, 1, 1]]
    assert found.score.tolist() == [0.5, 1]
    assert read_detections(path, vocabulary=PETS, image_ids=["c", "a", "b"]).image.tolist() == [1, 2]


def test_nothing_found(tmp_path: Path) -> None:
    found = read_detections(found_file(tmp_path, ""), vocabulary=PETS, image_ids=["a"])
    assert (len(found), found.image_ids) == (0, ("a",))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (",cat,1,0,1,0,1", "ImageID is empty, expected the id of an image"),
        ("b,cat,1,0,1,0,1", "ImageID is 'b', expected one of 1 images"),
        ("a,,1,0,1,0,1", "LabelName is empty, expected the id of a class"),
        ("a,cow,1,0,1,0,1", "LabelName is 'cow', expected one of 2 classes, such as cat, dog"),
        ("a,cat,1.5,0,1,0,1", "Score is 1.5, expected a score in [0, 1]"),
        ("a,cat,nan,0,1,0,1", "Score is nan, expected a score in [0, 1]"),
        ("a,cat,,0,1,0,1", "Score is empty, expected a score in [0, 1]"),
        ("a,cat,1,0,inf,0,1", "XMax is inf, expected a finite number"),
        ("a,cat,1,0,1,0,", "YMax is empty, expected a finite number"),
        ("a,cat,1,0,1,low,1", "YMin is 'low', expected a number"),
    ],
)
def test_a_bad_row_names_file_line_and_value(tmp_path: Path, row: str, told: str) -> None:
    path = found_file(tmp_path, f"a,cat,1,0,1,0,1\n{row}\n")
    with pytest.raises(InputError) as caught:
        read_detections(path, vocabulary=PETS, image_ids=["a"])
    assert str(caught.value) == f"{path}:3: {told}"


def test_boxes_without_area_are_counted(tmp_path: Path) -> None:
    path = found_file(tmp_path, "a,cat,1,1,0,0,1\na,cat,1,0,0,0,1\na,cat,1,0,1,0,1\n")
    with pytest.warns(InputWarning, match="2 boxes are turned around or have no area"):
        assert len(read_detections(path, vocabulary=PETS)) == 3


@given(truth=tables(), score=st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_written_is_read_again(truth: Annotations, score: float) -> None:
    found = Detections(
        truth.vocabulary,
        truth.image_ids,
        truth.image,
        truth.boxes[:, [2, 1, 0, 3]] * 1e3,
        truth.label,
        np.linspace(0, score, len(truth)),
    )
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        write_detections(found, Path(folder, "found.csv"))
        read = read_detections(
            Path(folder, "found.csv"), vocabulary=found.vocabulary, image_ids=found.image_ids
        )
    assert read.image_ids == found.image_ids
    for name in ("image", "boxes", "label", "score"):
        np.testing.assert_array_equal(getattr(read, name), getattr(found, name))
