"""Readers on files that something happened to: an error that names the file, or all of its rows; nothing else."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from formats.drawn_tables import table
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wildbox.annotations import Annotations
from wildbox.errors import InputError, InputWarning
from wildbox.evaluation.coco import read_coco_truth
from wildbox.formats import csv_rows
from wildbox.formats.annotated import open_annotations
from wildbox.formats.coco import read_coco
from wildbox.formats.open_images import read_classes, read_hierarchy, read_open_images
from wildbox.formats.parquet import INDEX, read_parquet, write_parquet
from wildbox.formats.storage import read_detections
from wildbox.vocabulary import Vocabulary

HEADER = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsGroupOf"
BOXES = "\n".join(
    [
        HEADER,
        *(f"{i // 3:04x},xclick,/m/{i % 5},1,0.{i:02},0.9{i:02},0.1,0.75,0,{i % 2}" for i in range(40)),
        "",
    ]
).encode()
LABELS = b"ImageID,Source,LabelName,Confidence\n0001,verification,/m/1,0\n0002,machine,/m/2,0.75\n"
CLASSES = b"LabelName,DisplayName\n/m/0,Cat\n/m/1,Dog\n/m/2,Pet\n/m/3,Sofa\n/m/4,Lamp\n"
HIERARCHY = json.dumps(
    {"LabelName": "/m/root", "Subcategory": [{"LabelName": "/m/2", "Subcategory": [{"LabelName": "/m/0"}]}]}
).encode()
COCO = json.dumps(
    {
        "images": [
            {"id": i, "width": 640, "height": 480, "file_name": f"{i}.jpg", "neg_category_ids": [2]}
            for i in range(4)
        ],
        "annotations": [
            {"id": i, "image_id": i % 4, "category_id": 1 + i % 2, "bbox": [1, 2.5, 30, 40]} for i in range(9)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    },
    indent=1,
).encode()

PIECES = (
    *(
        b"",
        b"\n",
        b"\r",
        b"\r\n",
        b",",
        b";",
        b"\t",
        b'"',
        b'""',
        b"'",
        b"\0",
        b"\xff",
        b"\xe9",
        b"\xef\xbb\xbf",
    ),
    *(
        b"-1",
        b"1e999",
        b"nan",
        b"inf",
        b"9" * 30,
        b"0.",
        b"e",
        b"{",
        b"]",
        b":",
        b"null",
        b"true",
        b"/m/1",
        b" ",
    ),
)
"""What is put somewhere into a file, or in the place of some of it."""

damages = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 12), st.sampled_from(PIECES)),
    min_size=1,
    max_size=3,
)
"""Where (as a share of the file), how many bytes go, and what comes."""


def damaged(content: bytes, damage: list[tuple[float, int, bytes]]) -> bytes:
    for where, gone, come in damage:
        at = int(where * len(content))
        content = content[:at] + come + content[at + gone :]
    return content


def attempt(read: Callable[[Path], object], content: bytes, *, name: str) -> tuple[object, list[str]]:
    """What a reader makes of a file, and its warnings; `None` for an error, which has to name the file."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as told:
        path = Path(folder) / name
        path.write_bytes(content)
        warnings.simplefilter("always")
        try:
            found = read(path)
        except InputError as error:
            refused: str | None = str(error)
        else:
            refused = None
    if refused is not None:
        assert str(path) in refused
        return None, []
    assert all(issubclass(warning.category, InputWarning) for warning in told)
    return found, [str(warning.message) for warning in told]


def rows_with_a_value(content: bytes) -> int:
    """Rows below the header, as Python's reader counts them."""
    rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    return sum(any(map(str.strip, row)) for row in rows[1:])


def count(told: list[str], text: str) -> int:
    """The number in the one warning with a text, 0 where there is none."""
    return sum(int(message.split(": ")[1].split()[0].replace(",", "")) for message in told if text in message)


@settings(max_examples=400, deadline=None)
@given(damages)
@pytest.mark.parametrize("chunk", [64, 2**23])
def test_boxes_are_all_read_or_refused(chunk: int, damage: list[tuple[float, int, bytes]]) -> None:
    content = damaged(BOXES, damage)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(csv_rows, "CHUNK", chunk)
        found, told = attempt(read_open_images, content, name="boxes.csv")
    if found is not None:
        assert isinstance(found, Annotations)
        assert len(found) + count(told, "nothing but an ImageID") == rows_with_a_value(content)
        assert any("cut short" in message for message in told) == (not content.endswith(b"\n"))


@settings(max_examples=200, deadline=None)
@given(damages)
def test_image_labels_are_all_read_or_refused(damage: list[tuple[float, int, bytes]]) -> None:
    content = damaged(LABELS, damage)
    with tempfile.TemporaryDirectory() as folder:
        boxes = Path(folder) / "boxes.csv"
        boxes.write_bytes(BOXES)
        found, told = attempt(
            lambda path: read_open_images(boxes, image_labels=path), content, name="labels.csv"
        )
    if found is not None:
        assert isinstance(found, Annotations)
        left_out = count(told, "are a machine's") + count(told, "are of classes")
        assert len(found.image_labels) + left_out == rows_with_a_value(content)


@settings(max_examples=200, deadline=None)
@given(damages)
def test_classes_and_hierarchies_are_read_or_refused(damage: list[tuple[float, int, bytes]]) -> None:
    content = damaged(CLASSES, damage)
    found, _ = attempt(read_classes, content, name="classes.csv")
    if found is not None:
        assert isinstance(found, Vocabulary)
        text = content.decode("utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if any(map(str.strip, row))]
        assert len(found) == len(rows) - (rows[0][0] == "LabelName")
    whole = Vocabulary(tuple(f"/m/{i}" for i in range(5)))
    attempt(lambda path: read_hierarchy(path, whole), damaged(HIERARCHY, damage), name="hierarchy.json")


@settings(max_examples=300, deadline=None)
@given(damages)
def test_coco_files_are_all_read_or_refused(damage: list[tuple[float, int, bytes]]) -> None:
    content = damaged(COCO, damage)
    found, _ = attempt(read_coco, content, name="instances.json")
    if found is not None:
        assert isinstance(found, Annotations)
        raw = json.loads(
            content.decode("utf-8-sig", errors="replace")
        )  # keys that nobody reads may be anything
        assert len(found) == len(raw["annotations"])
        assert len(found.image_ids) == len(raw["images"])
    attempt(read_coco_truth, content, name="instances.json")


@pytest.mark.parametrize("length", range(0, 400, 7))
def test_a_compressed_file_that_is_cut_short_is_refused(length: int) -> None:
    packed = gzip.compress(BOXES, mtime=0)
    found, _ = attempt(read_open_images, packed[: min(length, len(packed) - 1)], name="boxes.csv.gz")
    assert found is None


@settings(max_examples=100, deadline=None)
@given(damages, st.integers(0, 3))
@example([(0.75, 0, b"1e999")], 0)
def test_a_damaged_dataset_is_read_whole_or_refused(
    damage: list[tuple[float, int, bytes]], which: int
) -> None:
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "set"
        write_parquet(table(["x", "y"], ["a"], [(b, 0, [0, 0, 1, 1]) for b in (0, 1, 1)]), folder)
        names = (INDEX, "images-00000.parquet", "boxes-00000.parquet", "labels-00000.parquet")
        file = folder / names[which]
        file.write_bytes(damaged(file.read_bytes(), damage))
        try:
            found = read_parquet(folder)
        except InputError:
            return
    assert len(found) == 3
    assert len(found.image_ids) == 2


@pytest.mark.parametrize(
    "header", [b"ImageId,PredictionString\ra,\r", b"ImageId," + b"x" * 200_000 + b"\na,\n"]
)
def test_a_header_that_csv_does_not_read(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "found.csv").write_bytes(header)
    with pytest.raises(InputError, match=r"found\.csv:1: "):
        read_detections(tmp_path / "found.csv", vocabulary=Vocabulary(("a",)))


def test_what_is_no_annotation_is_refused(tmp_path: Path) -> None:
    for name, content in (("a.csv", b"\x89PNG\r\n\x1a\n"), ("a.json", b"\x89PNG"), ("b.json", b"[1]")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            open_annotations(tmp_path / name)
