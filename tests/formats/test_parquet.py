"""Our Parquet folders: what was written comes back, whole or shard by shard; what is damaged is an error."""

from __future__ import annotations

import json
import resource
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from formats.drawn_tables import assert_same
from formats.drawn_tables import tables as drawn_tables
from hypothesis import given, settings
from hypothesis import strategies as st
from labels.crowded_tables import TREE, crowded, tables

from wildbox.annotations import Annotations, concatenate
from wildbox.detections import Detections
from wildbox.errors import ConfigError, InputError
from wildbox.formats.parquet import open_parquet, read_parquet, write_parquet
from wildbox.formats.storage import write_detections
from wildbox.vocabulary import Vocabulary


def equal(a: object, b: object) -> bool:
    """Field by field, arrays to the last bit."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if hasattr(a, "__dataclass_fields__") and not isinstance(a, Vocabulary):
        return all(equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))  # type: ignore[arg-type]
    return a == b


@pytest.mark.parametrize("shards", [1, 3, 99])
def test_what_was_written_comes_back(tmp_path: Path, shards: int) -> None:
    truth = crowded(1)
    labels = truth.image_labels
    order = np.argsort(labels.image, kind="stable")  # parts stand image by image
    labels = type(labels)(labels.image[order], labels.label[order], labels.is_positive[order])
    truth = replace(truth, image_labels=labels, file_names=tuple(f"{i}é.png" for i in truth.image_ids))
    told: list[tuple[int, int]] = []
    write_parquet(truth, tmp_path, shards=shards, hierarchy=TREE, progress=lambda *at: told.append(at))
    found = open_parquet(tmp_path)
    assert equal(read_parquet(tmp_path), truth)
    assert found.hierarchy is not None
    assert found.hierarchy.edges == TREE.edges
    assert len(found) == len(told) <= shards
    assert sum(len(shard) for shard in found) == len(truth)
    assert not list(tmp_path.glob(".*"))


@settings(max_examples=30, deadline=None)
@given(tables(), st.integers(1, 4))
def test_arbitrary_boxes_come_back(
    tmp_path_factory: pytest.TempPathFactory, truth: Annotations, n: int
) -> None:
    folder = tmp_path_factory.mktemp("parquet")
    write_parquet(truth, folder, shards=n)
    assert equal(read_parquet(folder), truth)


@settings(max_examples=30, deadline=None)
@given(drawn_tables(lvis=True), st.integers(1, 4))
def test_image_labels_and_groups_come_back(
    tmp_path_factory: pytest.TempPathFactory, truth: Annotations, n: int
) -> None:
    folder = tmp_path_factory.mktemp("parquet")
    write_parquet(truth, folder, shards=n)
    assert_same(read_parquet(folder), truth)


def test_nothing_at_all_comes_back(tmp_path: Path) -> None:
    truth = Annotations(Vocabulary(()), (), np.zeros(0), np.zeros((0, 4)), np.zeros(0))
    write_parquet(truth, tmp_path)
    assert equal(read_parquet(tmp_path), truth)


def test_a_folder_is_not_written_over(tmp_path: Path) -> None:
    write_parquet(crowded(0), tmp_path)
    with pytest.raises(InputError, match="holds a dataset already"):
        write_parquet(crowded(0), tmp_path)
    with pytest.raises(ConfigError, match="shards is 0"):
        write_parquet(crowded(0), tmp_path / "new", shards=0)


def test_what_is_damaged_is_an_error(tmp_path: Path) -> None:
    write_parquet(crowded(0), tmp_path, shards=2)
    boxes = tmp_path / "boxes-00001.parquet"
    whole = boxes.read_bytes()
    for content in (b"", whole[:-20], b"x" * 100):
        boxes.write_bytes(content)
        with pytest.raises(InputError, match=r"boxes-00001\.parquet: cannot be read"):
            read_parquet(tmp_path)
    pl.DataFrame({"image": [1]}).write_parquet(boxes)
    with pytest.raises(InputError, match=r"boxes-00001\.parquet: missing column is_group_of, label"):
        read_parquet(tmp_path)
    boxes.write_bytes((tmp_path / "boxes-00000.parquet").read_bytes())
    with pytest.raises(InputError, match=r"rows, expected \d+ as dataset\.json says"):
        read_parquet(tmp_path)
    boxes.unlink()
    with pytest.raises(InputError, match=r"boxes-00001\.parquet: cannot be read"):
        read_parquet(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 1}, "version is 1, expected 2"),
        ({"classes": [["a"]]}, "not an index of ours"),
        ({"hierarchy": [[0, 99]]}, "not an index of ours"),
        ({"shards": [{"images": 1}]}, "not an index of ours"),
    ],
)
def test_another_index_is_an_error(tmp_path: Path, change: dict[str, object], message: str) -> None:
    write_parquet(crowded(0), tmp_path)
    index = tmp_path / "dataset.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | change))
    with pytest.raises(InputError, match=message):
        open_parquet(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        open_parquet(tmp_path / "elsewhere")


def test_an_image_in_two_tables_is_an_error() -> None:
    with pytest.raises(InputError, match="an image id stands twice"):
        concatenate([crowded(0), crowded(0)])
    with pytest.raises(InputError, match="other classes"):
        concatenate([crowded(0), replace(crowded(1), vocabulary=Vocabulary(tuple("uvwxyz")))])
    with pytest.raises(InputError, match="no table"):
        concatenate([])


def test_an_image_twice_in_a_shard_is_an_error(tmp_path: Path) -> None:
    write_parquet(crowded(1), tmp_path)
    file = tmp_path / "images-00000.parquet"
    images = pl.read_parquet(file)
    images.with_columns(pl.lit(images["id"][0]).alias("id")).write_parquet(file)
    with pytest.raises(InputError, match=r"images-00000\.parquet: an image id stands twice"):
        read_parquet(tmp_path)


def test_an_index_without_shards_is_an_error(tmp_path: Path) -> None:
    write_parquet(crowded(1), tmp_path)
    index = tmp_path / "dataset.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"shards": []}))
    with pytest.raises(InputError, match="no table"):
        read_parquet(tmp_path)


@pytest.mark.parametrize("name", ["found.parquet", "found.csv", "found.json", "set/images-00000.parquet"])
def test_a_disk_that_takes_no_more_is_told_with_the_file(tmp_path: Path, name: str) -> None:
    a, zero, box = Vocabulary(("a",)), np.zeros(1, np.int64), np.array([[0.0, 0.0, 1.0, 1.0]])
    truth = Annotations(a, ("b",), image=zero, boxes=box, label=zero)
    found = Detections(a, ("b",), image=zero, boxes=box, label=zero, score=np.ones(1))

    def write() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
        try:
            if name.startswith("set"):
                write_parquet(truth, tmp_path / "set")
            else:
                write_detections(found, tmp_path / name)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    with pytest.raises(OSError, match="File too large") as told:
        write()
    assert told.value.filename == str(tmp_path / name)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
