"""Detections in several files: shards by image or not, compressed, missing."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from wildbox.detections import Detections
from wildbox.errors import InputError
from wildbox.formats.detection_parts import read_detection_parts
from wildbox.formats.storage import read_detections, write_detections
from wildbox.vocabulary import Vocabulary

HEADER = "ImageID,LabelName,Score,XMin,XMax,YMin,YMax\n"
PETS = Vocabulary(("cat", "dog"))


def drawn_rows(rng: np.random.Generator, images: int, count: int) -> Detections:
    """Detections on some images in a random order of rows."""
    image = rng.integers(0, images, count)
    columns = (rng.random((count, 4)), rng.integers(0, 2, count), rng.random(count))
    return Detections(PETS, tuple(f"i{k}" for k in range(images)), image, *columns)


def frame_of(found: Detections) -> pl.DataFrame:
    with tempfile.TemporaryDirectory() as folder:
        write_detections(found, Path(folder, "all.parquet"))
        return pl.read_parquet(Path(folder, "all.parquet"))


@pytest.mark.filterwarnings("ignore::wildbox.errors.InputWarning")
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_shards(tmp_path: Path, ending: str) -> None:
    rng = np.random.default_rng(0)
    found = drawn_rows(rng, 20, 300)
    rows = (
        frame_of(found)
        .with_row_index("row")
        .sample(fraction=1, shuffle=True, seed=1)
        .sort(pl.col("row") // 100)
    )
    rows = rows.drop("row")  # three shards; most images are in one, rows shuffled; some are in two
    for k in range(3):
        shard = rows.slice(100 * k, 100)
        path = tmp_path / f"found-{k}.{ending}"
        shard.write_parquet(path) if ending == "parquet" else shard.write_csv(path)
    whole = found.boxes[np.lexsort((*found.boxes.T, found.image))]
    for path in (tmp_path, tmp_path / f"found-*.{ending}"):
        read = read_detections(path, vocabulary=PETS, image_ids=found.image_ids)
        np.testing.assert_array_equal(read.boxes[np.lexsort((*read.boxes.T, read.image))], whole)
        groups = read_detection_parts(path, vocabulary=PETS, image_ids=found.image_ids)
        parts = [piece() for (piece,) in groups]  # a shard is not divided where images stand in two
        assert len(parts) == 3
        names = [id_ for part in parts for id_ in part.image_ids]
        assert sorted(names) == sorted(found.image_ids)  # each image once
        boxes = np.concatenate([part.boxes for part in parts])
        image = [found.image_ids.index(part.image_ids[i]) for part in parts for i in part.image]
        np.testing.assert_array_equal(boxes[np.lexsort((*boxes.T, image))], whole)


@pytest.mark.parametrize("ending", ["csv.gz", "csv.zst"])  # read by what they begin with, whatever the name
def test_a_folder_holds_compressed_files_too(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"a.{ending}").write_bytes(gzip.compress(f"{HEADER}a,cat,1,0,1,0,1\n".encode()))
    (tmp_path / "b.csv").write_text(f"{HEADER}b,cat,1,0,1,0,1\n")
    (tmp_path / "notes.csv.bak").write_text("none of them")
    assert read_detections(tmp_path, vocabulary=PETS).image_ids == ("a", "b")
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(InputError, match="two files are named 'a'"):
        read_detections(tmp_path, vocabulary=PETS)


def test_endings_in_capitals(tmp_path: Path) -> None:
    entry = {"image_id": "a", "category_id": "cat", "bbox": [0, 0, 1, 1], "score": 1}
    for name in ("A.JSON", "B.JSON.GZ"):
        (tmp_path / name).write_text(json.dumps([entry]))
    (tmp_path / "C.CSV").write_text(f"{HEADER}a,cat,1,0,1,0,1\n")
    assert len(read_detections(tmp_path, vocabulary=PETS)) == 3


def test_a_folder_as_predict_leaves_it(tmp_path: Path) -> None:
    """How its detections were made is none of them; which rule's are wanted is to be said."""
    for rule in ("softmax", "own"):
        (tmp_path / rule).mkdir()
        (tmp_path / rule / "part-00000.csv").write_text(f"{HEADER}a,cat,1,0,1,0,1\n")
    (tmp_path / "prediction.json").write_text("{}")
    with pytest.raises(InputError, match=r"in the folder, but in its folders own, softmax: name one of them"):
        read_detections(tmp_path, vocabulary=PETS)
    with pytest.raises(InputError, match=r"own: a folder matches the pattern; expected files alone"):
        read_detections(tmp_path / "o*", vocabulary=PETS)
    assert len(read_detections(tmp_path / "own", vocabulary=PETS)) == 1


def test_missing_shards(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no \.csv, \.parquet or \.json in the folder"):
        read_detections(tmp_path, vocabulary=PETS)
    with pytest.raises(InputError, match="no such files"):
        read_detections(tmp_path / "found-*.parquet", vocabulary=PETS)
    with pytest.raises(InputError, match="cannot be read"):
        read_detections(tmp_path / "found.csv", vocabulary=PETS)
