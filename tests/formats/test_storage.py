from __future__ import annotations

import bz2
import gzip
import json
import lzma
import tempfile
import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from formats.drawn_tables import tables
from hypothesis import given, settings
from hypothesis import strategies as st

from wildbox.annotations import Annotations
from wildbox.detections import Detections
from wildbox.errors import InputError, InputWarning
from wildbox.formats import csv_rows, detection_table
from wildbox.formats.storage import (
    read_coco_results,
    read_detections,
    write_detections,
    write_submission,
)
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
    with pytest.warns(InputWarning, match="no rows: nothing was found"):
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
    told = "2 boxes are turned around or have no area, the first in "
    rows = ["a,cat,1,0,1,0,1", "b,cat,1,1,0,0,1", "b,cat,1,0,0,0,1"]
    for gap, line in (("\n", 3), ("\n\n", 4)):
        text = gap.join(rows)
        path = found_file(tmp_path, text + "\n")
        with pytest.warns(InputWarning, match=f"{told}line {line}$"):
            found = read_detections(path, vocabulary=PETS)
    for ending, place in ((".parquet", "row 2"), (".json", r"\[1\]"), ("-submitted.csv", "line 3")):
        other = tmp_path / f"found{ending}"
        write_submission(found, other) if "-" in ending else write_detections(found, other)
        with pytest.warns(InputWarning, match=f"{told}{place}$"):
            assert len(read_detections(other, vocabulary=PETS)) == 3
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "1.csv").write_text(f"{HEADER}{rows[0]}\n")
    (tmp_path / "shards" / "2.csv").write_text(HEADER + "\n".join(rows[1:]) + "\n")
    with pytest.warns(InputWarning, match=rf"shards: {told}.*2\.csv, line 2$"):
        read_detections(tmp_path / "shards", vocabulary=PETS)


def test_a_file_without_a_byte_or_without_columns(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(InputError, match="the file is empty"):
        read_detections(tmp_path / "empty.csv", vocabulary=PETS)
    (tmp_path / "few.csv").write_text("ImageID,LabelName,Score\na,cat,1\n")
    with pytest.raises(InputError, match="missing column"):
        read_detections(tmp_path / "few.csv", vocabulary=PETS)
    (tmp_path / "twice.csv").write_text(HEADER.replace("\n", ",Score\n") + "a,cat,1,0,1,0,1,0.5\n")
    with pytest.raises(InputError, match="'Score' stands twice"):
        read_detections(tmp_path / "twice.csv", vocabulary=PETS)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "model.csv").write_bytes(b"\x7fELF\r\xff,\x00\n\xff")
    with pytest.raises(InputError, match=r"model\.csv:1: not UTF-8 text"):
        read_detections(tmp_path / "model.csv", vocabulary=PETS)
    for pack in (bz2.compress, lzma.compress):
        for name in ("model.csv", "model.json"):
            (tmp_path / name).write_bytes(pack(HEADER.encode()))
            with pytest.raises(InputError, match="not UTF-8 text, nor a file of gzip or Zstandard"):
                read_detections(tmp_path / name, vocabulary=PETS)
    (tmp_path / "model.csv").write_bytes(b"Image\rID,LabelName\n")
    with pytest.raises(InputError, match=r"model\.csv:1: not a row of a CSV table"):
        read_detections(tmp_path / "model.csv", vocabulary=PETS)


def test_lines_are_counted_past_blank_ones(tmp_path: Path) -> None:
    path = found_file(tmp_path, "a,cat,1,0,1,0,1\n,,,,,,\n\na,cat,2,0,1,0,1\n")
    with pytest.raises(InputError, match=r"csv:5: Score is 2.0"):
        read_detections(path, vocabulary=PETS)


def test_more_images_are_added_where_that_is_wanted(tmp_path: Path) -> None:
    path = found_file(tmp_path, "z,cat,1,0,1,0,1\na,dog,1,0,1,0,1\ny,dog,1,0,1,0,1\nz,cat,1,0,1,0,1\n")
    found = read_detections(path, vocabulary=PETS, image_ids=["b", "a"], more_images=True)
    assert found.image_ids == ("b", "a", "z", "y")
    assert found.image.tolist() == [1, 2, 2, 3]
    with pytest.raises(InputError, match=r"csv:2: ImageID is 'z', expected one of 2 images"):
        read_detections(path, vocabulary=PETS, image_ids=["b", "a"])


def test_pixels_where_relative_coordinates_are_due(tmp_path: Path) -> None:
    path = found_file(tmp_path, "a,cat,1,-0.1,1.2,0,1\na,cat,1,0,1,0,400\n")
    assert len(read_detections(path, vocabulary=PETS)) == 2
    with pytest.raises(InputError, match=r"csv:3: YMax is 400.0, expected a relative coordinate"):
        read_detections(path, vocabulary=PETS, relative=True)
    path = found_file(tmp_path, "a,cat,1,0,1,0,1\na,cat,1,0,0.5,0,0.5\n")
    with pytest.warns(InputWarning, match="those of the truth are pixels"):
        read_detections(path, vocabulary=PETS, relative=False)


def test_dialects_of_csv(tmp_path: Path) -> None:
    text = '\ufeffScore,"LabelName",YMin,YMax,More,XMin,XMax,ImageID\r\n.5,"dog",0,1,"x, y",0,1e0,"a"\r\n'
    (tmp_path / "found.csv.gz").write_bytes(gzip.compress(text.encode()))
    found = read_detections(tmp_path / "found.csv.gz", vocabulary=PETS)
    assert (found.image_ids, found.label.tolist(), found.boxes.tolist()) == (("a",), [1], [[0, 0, 1, 1]])


def test_names_of_classes_where_none_is_an_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "CHUNK", 16)
    named = Vocabulary(("/m/1", "/m/2", "/m/3"), ("cat", "dog", "dog"))
    blank = "\n" * 40
    found = read_detections(
        found_file(tmp_path, f"a,cat,1,0,1,0,1\n{blank}b,cat,1,0,1,0,1\n"), vocabulary=named
    )
    assert (found.image_ids, found.label.tolist()) == (("a", "b"), [0, 0])
    with pytest.raises(
        InputError, match=r"csv:3: LabelName is 'dog', the name of several classes: /m/2, /m/3"
    ):
        read_detections(found_file(tmp_path, "a,cat,1,0,1,0,1\na,dog,1,0,1,0,1\n"), vocabulary=named)
    with pytest.raises(
        InputError, match=r"csv:2: LabelName is 'cat', expected one of 3 classes, such as /m/1"
    ):
        read_detections(found_file(tmp_path, "a,cat,1,0,1,0,1\na,/m/2,1,0,1,0,1\n"), vocabulary=named)


def test_more_or_fewer_fields_than_the_header(tmp_path: Path) -> None:
    for row, fields in (("a,cat,1,0,1,0", 6), ("a,cat,1,0,1,0,1,1", 8)):
        with pytest.raises(InputError, match=rf"csv:3: {fields} fields, expected 7"):
            read_detections(found_file(tmp_path, f"a,cat,1,0,1,0,1\n{row}\n"), vocabulary=PETS)


def test_a_class_that_only_later_rows_name_wrongly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "CHUNK", 64)
    monkeypatch.setattr(detection_table, "ROWS", 4)
    path = found_file(tmp_path, "a,cat,1,0,1,0,1\n" * 9 + "b,dog,1,0,1,0,1\nb,cow,1,0,1,0,1\n")
    with pytest.raises(InputError, match=r"csv:12: LabelName is 'cow', expected one of 2 classes"):
        read_detections(path, vocabulary=PETS)
    pl.read_csv(path).write_parquet(tmp_path / "found.parquet")
    with pytest.raises(InputError, match=r"row 11: LabelName is 'cow', expected one of 2 classes"):
        read_detections(tmp_path / "found.parquet", vocabulary=PETS)
    three = Vocabulary(("cow", "cat", "dog"))
    for name in ("found.csv", "found.parquet"):
        found = read_detections(tmp_path / name, vocabulary=three)
        assert (found.image.tolist(), found.label.tolist()) == ([0] * 9 + [1, 1], [1] * 9 + [2, 0])


def test_ids_that_are_no_texts_in_parquet(tmp_path: Path) -> None:
    columns = {"Score": [1.0], "XMin": [0.0], "XMax": [1.0], "YMin": [0.0], "YMax": [1.0]}
    names = pl.Series(["cat"], dtype=pl.Categorical)
    pl.DataFrame({"ImageID": [7], "LabelName": names, **columns}).write_parquet(tmp_path / "found.parquet")
    assert read_detections(tmp_path / "found.parquet", vocabulary=PETS).image_ids == ("7",)


def test_a_challenge_submission(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    path.write_text("ImageId,PredictionString\nb,dog 0.5 1 2 3 4 cat 1 0 0  1 0.25 \na,\nc,cat .25 0 0 1 1\n")
    found = read_detections(path, vocabulary=PETS, image_ids=["a", "b", "c"])
    assert found.image.tolist() == [1, 1, 2]
    assert found.label.tolist() == [1, 0, 0]
    assert found.score.tolist() == [0.5, 1, 0.25]
    assert found.boxes.tolist() == [[1, 2, 3, 4], [0, 0, 1, 0.25], [0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cat 0.5 0 0 1", "5 fields, expected class score xmin ymin xmax ymax repeated"),
        ("cat 0.5 0 0 1 high", "ymax is 'high', expected a number"),
        ("cow 0.5 0 0 1 1", "LabelName is 'cow', expected one of 2 classes, such as cat, dog"),
        ("cat 1.5 0 0 1 1", "Score is 1.5, expected a score in [0, 1]"),
    ],
)
def test_a_bad_submission_names_the_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "submission.csv"
    path.write_text(f"ImageId,PredictionString\na,cat 1 0 0 1 1\nb,{text}\n")
    with pytest.raises(InputError) as caught:
        read_detections(path, vocabulary=PETS)
    assert str(caught.value) == f"{path}:3: {told}"


def test_a_submission_names_the_line_of_an_image_or_of_a_class_among_many(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    path.write_text("ImageId,PredictionString\na,cat 1 0 0 1 1\nb,dog 1 0 0 1 1 7 1 0 0 1 1\n")
    with pytest.raises(InputError, match=r"csv:3: ImageID is 'b', expected one of 1 images"):
        read_detections(path, vocabulary=Vocabulary(("cat", "dog", "7")), image_ids=["a"])
    with pytest.raises(InputError, match=r"csv:3: LabelName is '7', expected one of 2 classes"):
        read_detections(path, vocabulary=PETS)


def results_file(folder: Path, *entries: object) -> Path:
    path = folder / "results.json"
    good = {"image_id": 7, "category_id": 2, "bbox": [0.1, 1, 0.2, 2], "score": 0.3}
    path.write_text(json.dumps([good, *entries]))
    return path


def test_coco_results(tmp_path: Path) -> None:
    numbers = Vocabulary(("1", "2"))
    path = results_file(
        tmp_path, {"image_id": 5, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1, "area": 1}
    )
    found = read_detections(path, vocabulary=numbers)
    assert found.image_ids == ("7", "5")
    assert found.label.tolist() == [1, 0]
    assert found.boxes.tolist() == [[0.1, 1, 0.1 + 0.2, 3], [0, 0, 1, 1]]
    rows = read_coco_results(path, vocabulary=numbers, image_ids=["5", "7"])
    assert rows.tolist() == [[7, 0.1, 1, 0.2, 2, 0.3, 2], [5, 0, 0, 1, 1, 1, 1]]
    with pytest.raises(InputError, match=r"json: \[1\]: image_id is '5', expected one of 1 images"):
        read_detections(path, vocabulary=numbers, image_ids=["7"])
    with pytest.raises(InputError, match=r"json: \[1\]: category_id is '1', expected one of 1 classes"):
        read_detections(path, vocabulary=Vocabulary(("2",)))
    path.write_text(json.dumps([{"image_id": "a", "category_id": "dog", "bbox": [0, 0, 1, 1], "score": 1}]))
    assert read_detections(path, vocabulary=PETS).image_ids == ("a",)
    (tmp_path / "results.json.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert read_detections(tmp_path / "results.json.gz", vocabulary=PETS).label.tolist() == [1]
    path.write_text("[]")
    with pytest.warns(InputWarning, match="no rows"):
        assert len(read_detections(path, vocabulary=PETS)) == 0


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"image_id": 7, "category_id": 2, "bbox": [0, 1, 2, 3]}, "[1]: missing key 'score'"),
        (
            {"image_id": 7, "category_id": 2, "bbox": [0, 1, 2], "score": 1},
            "[1].bbox is [0, 1, 2], expected four",
        ),
        (
            {"image_id": 7, "category_id": 2, "bbox": [0, 1, 2, None], "score": 1},
            "[1].bbox is [0, 1, 2, None]",
        ),
        (
            {"image_id": 7.5, "category_id": 2, "bbox": [0, 1, 2, 3], "score": 1},
            "[1].image_id is 7.5, expected",
        ),
        (
            {"image_id": 7, "category_id": 2, "bbox": [0, 1, 2, 10**400], "score": 1},
            "[1].bbox is [0, 1, 2, 1000",
        ),
        (
            {"image_id": 7, "category_id": 2, "bbox": [0, 1, 2, 3], "score": "1"},
            "[1].score is '1', expected a number",
        ),
        (
            {"image_id": 7, "category_id": 9, "bbox": [0, 1, 2, 3], "score": 1},
            "[1]: category_id is '9', expected one",
        ),
        (
            {"image_id": 7, "category_id": 2, "bbox": [0, 1, 2, 3], "score": 7},
            "[1]: Score is 7.0, expected a score",
        ),
        (3, "[1]: missing key 'image_id'"),
    ],
)
def test_a_bad_result_names_the_entry(tmp_path: Path, entry: object, told: str) -> None:
    path = results_file(tmp_path, entry)
    with pytest.raises(InputError) as caught:
        read_detections(path, vocabulary=Vocabulary(("1", "2")))
    assert str(caught.value).startswith(f"{path}: {told}")


def test_coco_results_by_name_are_read_to_the_last_bit_too(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text('[{"image_id": 7, "category_id": "cat", "bbox": [0, 0.1, 2, 3], "score": 0.5}]')
    rows = read_coco_results(file, vocabulary=Vocabulary(("3", "5"), ("dog", "cat")), image_ids=["7"])
    assert rows.tolist() == [[7, 0, 0.1, 2, 3, 0.5, 5]]


def test_malformed_json_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('[{"image_id": 1,\n')
    with pytest.raises(InputError, match=r"results.json:2: malformed JSON"):
        read_detections(tmp_path / "results.json", vocabulary=PETS)
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(InputError, match="expected a list of detections"):
        read_detections(tmp_path / "results.json", vocabulary=PETS)


def test_bad_parquet(tmp_path: Path) -> None:
    path = tmp_path / "found.parquet"
    with pytest.raises(InputError, match="cannot be read"):
        read_detections(path, vocabulary=PETS)
    path.write_text("no")
    with pytest.raises(InputError, match="not a Parquet file"):
        read_detections(path, vocabulary=PETS)
    good = {
        "ImageID": ["a"],
        "LabelName": ["cat"],
        "Score": [1],
        "XMin": [0],
        "XMax": [1],
        "YMin": [0],
        "YMax": [1.5],
    }
    for change, told in (
        ({"Score": ["high"]}, "column Score holds String, expected numbers"),
        ({"Score": [2]}, "row 1: Score is 2.0, expected a score in"),
        ({"XMin": [None]}, "XMin holds Null, expected numbers"),
        ({"LabelName": ["cow"]}, "row 1: LabelName is 'cow'"),
    ):
        pl.DataFrame(good | change).write_parquet(path)
        with pytest.raises(InputError, match=told):
            read_detections(path, vocabulary=PETS)
    pl.DataFrame(good).drop("YMax").write_parquet(path)
    with pytest.raises(InputError, match="missing column YMax"):
        read_detections(path, vocabulary=PETS)


@given(truth=tables(), score=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_written_is_read_again(truth: Annotations, score: float) -> None:
    found = Detections(
        truth.vocabulary,
        truth.image_ids,
        truth.image,
        truth.boxes[:, [2, 1, 0, 3]] * 1e3,
        truth.label,
        np.linspace(0, score, len(truth)),
    )
    known = {"vocabulary": found.vocabulary, "image_ids": found.image_ids}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        for name in ("found.csv", "found.parquet", "found.json", "FOUND.JSON", "submission.csv"):
            write = write_submission if name == "submission.csv" else write_detections
            if name == "submission.csv" and any(id_.split() != [id_] for id_ in found.vocabulary.ids):
                with pytest.raises(InputError, match="with a space"):
                    write(found, Path(folder, name))
                continue
            write(found, Path(folder, name))
            read = read_detections(Path(folder, name), **known)  # type: ignore[arg-type]
            assert read.image_ids == found.image_ids
            for column in ("image", "label", "score", *(["boxes"] if name.lower() != "found.json" else [])):
                np.testing.assert_array_equal(getattr(read, column), getattr(found, column))
            np.testing.assert_allclose(read.boxes, found.boxes, rtol=1e-12, atol=1e-12)  # x2 - x1 in JSON
