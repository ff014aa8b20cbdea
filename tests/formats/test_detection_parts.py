"""A file of detections in pieces: together they are the file, and no image stands in two."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from evaluation.small_tables import truth_of

from wildbox.detections import Detections, concatenate_detections
from wildbox.errors import InputError, InputWarning
from wildbox.evaluation import evaluate, protocol_named
from wildbox.evaluation.files import evaluate_files
from wildbox.formats import detection_table
from wildbox.formats.detection_parts import open_beside, read_detection_parts
from wildbox.formats.storage import read_detections, write_detections
from wildbox.vocabulary import Vocabulary

PETS = Vocabulary(("/m/1", "/m/2"), names=("cat", "dog"))
COLUMNS = ("image", "label", "score", "boxes")


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection_table, "ROWS", 8)


def drawn(seed: int, rows: int = 40) -> Detections:
    rng = np.random.default_rng(seed)
    image, label = np.sort(rng.integers(0, 9, rows)), rng.integers(0, 2, rows)
    boxes = np.sort(rng.random((rows, 2, 2)), axis=1).reshape(rows, 4)
    return Detections(PETS, tuple("abcdefghi"), image, boxes, label, rng.random(rows))


def pieces_of(path: Path, vocabulary: Vocabulary = PETS) -> list[Detections]:
    groups = read_detection_parts(path, vocabulary=vocabulary, image_ids=tuple("abcdefghi"))
    return [piece() for pieces in groups for piece in pieces]


def assert_same(found: Detections, given: Detections) -> None:
    for name in COLUMNS:
        assert np.array_equal(getattr(found, name), getattr(given, name))


@pytest.mark.parametrize("row_group", [1, 3, 7, 40])
def test_pieces_are_the_file_whatever_its_row_groups(tmp_path: Path, row_group: int) -> None:
    given = drawn(row_group)
    write_detections(given, tmp_path / "whole.parquet")
    table = pl.read_parquet(tmp_path / "whole.parquet")
    table.write_parquet(tmp_path / "d.parquet", row_group_size=row_group)
    assert_same(read_detections(tmp_path / "d.parquet", vocabulary=PETS, image_ids=given.image_ids), given)
    pieces = pieces_of(tmp_path / "d.parquet")
    assert len(pieces) > 2
    assert_same(concatenate_detections(pieces), given)
    ids = [id_ for piece in pieces for id_ in piece.image_ids]
    assert len(ids) == len(set(ids))


def test_rows_of_an_image_that_do_not_stand_together_are_one_piece(tmp_path: Path) -> None:
    given = drawn(0)
    write_detections(given, tmp_path / "whole.parquet")
    pl.read_parquet(tmp_path / "whole.parquet").sort("Score").write_parquet(tmp_path / "d.parquet")
    (piece,) = pieces_of(tmp_path / "d.parquet")
    assert np.array_equal(np.sort(piece.score), np.sort(given.score))


def test_an_image_with_many_rows_is_one_piece(tmp_path: Path) -> None:
    given = drawn(1)
    image = np.repeat([0, 1, 2], [1, 38, 1])
    given = Detections(PETS, given.image_ids, image, given.boxes, given.label, given.score)
    write_detections(given, tmp_path / "d.parquet")
    assert [len(piece) for piece in pieces_of(tmp_path / "d.parquet")] in ([39, 1], [1, 38, 1], [1, 39])


def test_names_and_unknown_classes(tmp_path: Path) -> None:
    """Whether LabelName holds ids or names is told by all rows; an error names the first wrong row of all pieces."""
    given = drawn(2)
    write_detections(given, tmp_path / "ids.parquet")
    table = pl.read_parquet(tmp_path / "ids.parquet")
    named = table.with_columns(pl.col("LabelName").replace({"/m/1": "cat", "/m/2": "dog"}))
    named.write_parquet(tmp_path / "names.parquet")
    assert_same(concatenate_detections(pieces_of(tmp_path / "names.parquet")), given)
    pl.concat([table[:33], named[33:]]).write_parquet(tmp_path / "both.parquet")
    row = rf"row 34: LabelName is '{named['LabelName'][33]}', expected one of 2 classes, such as /m/1"
    with pytest.raises(InputError, match=row):
        pieces_of(tmp_path / "both.parquet")


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("Score", 1.5, "row 37: Score is 1.5, expected a score in"),
        ("XMax", float("nan"), "row 37: XMax is nan, expected a finite number"),
        ("XMax", None, "row 37: XMax is empty, expected a finite number"),
        ("LabelName", None, "row 37: LabelName is empty, expected the id of a class"),
        ("ImageID", None, "row 37: ImageID is empty, expected the id of an image"),
        ("ImageID", "", "row 37: ImageID is '', expected the id of an image"),
        ("LabelName", "", "row 37: LabelName is '', expected the id of a class"),
        ("ImageID", "z", "row 37: ImageID is 'z', expected one of 9 images"),
    ],
)
def test_a_bad_row_of_a_later_piece(tmp_path: Path, column: str, value: object, told: str) -> None:
    write_detections(drawn(3), tmp_path / "d.parquet")
    table = pl.read_parquet(tmp_path / "d.parquet").with_row_index("row")
    bad = pl.when(pl.col("row") == 36).then(pl.lit(value, table[column].dtype)).otherwise(pl.col(column))
    table.with_columns(bad.alias(column)).drop("row").write_parquet(tmp_path / "d.parquet")
    with pytest.raises(InputError, match=told):
        pieces_of(tmp_path / "d.parquet")


def test_one_warning_for_all_pieces(tmp_path: Path) -> None:
    """Of empty boxes with the first row, of images that the truth does not know; and the numbers are those of all."""
    given = drawn(4)
    boxes = given.boxes.copy()
    boxes[[13, 30], 2] = boxes[[13, 30], 0]
    given = Detections(PETS, given.image_ids, given.image, boxes, given.label, given.score)
    write_detections(given, tmp_path / "d.parquet")
    truth = truth_of(PETS, tuple("gcb"), [0, 1, 2], given.boxes[[35, 14, 5]], [0, 1, 0])
    rules = protocol_named("open-images-v2")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = evaluate_files(tmp_path / "d.parquet", truth, protocol=rules)
    told = [str(warning.message) for warning in caught if warning.category is InputWarning]
    assert len(told) == 3
    assert "2 boxes are turned around or have no area, the first in row 14" in told[0]
    strangers = np.isin(np.array(given.image_ids)[given.image], list("gcb"), invert=True)
    assert told[1].startswith(
        f"{strangers.sum()} of 40 detections are on 6 images that the truth does not know"
    )
    assert told[2].startswith("2 of 40 detections have no area")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        whole = evaluate(given, truth, protocol="open-images-v2")
    np.testing.assert_array_equal(result.ap, whole.ap)
    for name, column in whole.columns.items():
        np.testing.assert_array_equal(result.columns[name], column)


def test_what_is_opened_beside_something_else_is_read_once(tmp_path: Path) -> None:
    found = drawn(0)
    for ending in ("csv", "parquet", "json"):
        file = tmp_path / f"found.{ending}"
        write_detections(found, file)
        opened, other = open_beside(file, lambda: "truth")
        if ending != "csv":
            file.unlink()
        groups = read_detection_parts(opened, vocabulary=PETS)
        assert other == "truth"
        scores = np.concatenate([piece().score for pieces in groups for piece in pieces])
        np.testing.assert_allclose(scores, found.score)


def test_opening_beside_something_else_tells_what_is_wrong_there_first(tmp_path: Path) -> None:
    def fail() -> None:
        raise InputError("the truth is wrong")

    with pytest.raises(InputError, match="the truth is wrong"):
        open_beside(tmp_path / "none.parquet", fail)
    with pytest.raises(InputError, match=r"none\.parquet: cannot be read"):
        open_beside(tmp_path / "none.parquet", lambda: None)
