"""Rows of detections as files hold them: CSV, Parquet, challenge submission, COCO results. Letters: D detections.

Every reader gives a frame of the same columns, `ROW`, and knows how to name the place of a row in its file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from wildbox.errors import InputError
from wildbox.formats.csv_rows import NUMBER, TEXT
from wildbox.formats.files import read_json
from wildbox.formats.labelled_rows import CORNERS
from wildbox.formats.table import read_table

IDS = {"ImageID": TEXT, "LabelName": TEXT}
ROW = IDS | dict.fromkeys(("Score", *CORNERS), NUMBER)
SUBMISSION = ("ImageId", "PredictionString")
FIELDS = ("class", "score", "xmin", "ymin", "xmax", "ymax")
"""What a challenge submission repeats for each detection."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Detections of a file, not checked yet."""

    frame: pl.DataFrame
    """Columns `ROW`; ids are texts, or codes of an Enum."""
    path: Path
    place: Callable[[int], tuple[str, int | None]] = lambda row: (f"row {row + 1}: ", None)
    """Row -> what an error says of its place: a text, and a line of the file where there are lines."""

    def refuse(self, bad: pl.Expr, expected: str, *, value: str) -> None:
        """Raise for the first row where `bad` holds: "`value` is ..., expected ..."."""
        found = self.frame.select(
            bad.fill_null(True).arg_max().alias("row"), bad.fill_null(True).any().alias("any")
        )
        if found["any"].item():
            row = int(found["row"].item())
            given = self.frame[value][row]
            told, (place, line) = "empty" if given is None else repr(given), self.place(row)
            raise InputError(f"{place}{value} is {told}, expected {expected}", path=self.path, line=line)


def read_rows(path: Path, *, classes: Sequence[str], images: Sequence[str] | None) -> Rows:
    """Rows of a .csv, .parquet or .json file.

    Args:
        classes, images: ids that are likely, so that they are read as codes at once.
    """
    if path.suffix == ".parquet":
        return _read_parquet(path)
    if path.suffix == ".json":
        return result_rows(read_results(path), path)
    header = _header(path)
    if header[:2] == list(SUBMISSION):
        return _read_submission(path)
    return _read_csv(path, header, classes=classes, images=images)


def _header(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig") as stream:
            return stream.readline().strip().split(",")
    except (OSError, UnicodeDecodeError):
        return []  # the reader of tables says what is wrong


def _read_csv(
    path: Path, header: Sequence[str], *, classes: Sequence[str], images: Sequence[str] | None
) -> Rows:
    types: dict[str, pl.DataType] = ROW | {"LabelName": pl.Enum(classes)}
    if images is not None:
        types["ImageID"] = pl.Enum(images)
    try:
        frame = pl.read_csv(path, columns=list(ROW), schema_overrides=types)
        if len(set(header)) == len(header) and not any(frame.null_count().row(0)):
            return Rows(frame.select(*ROW), path, lambda row: ("", row + 2))
    except (pl.exceptions.PolarsError, OSError):
        pass  # an unknown id, or a defect of the file: read it again with care
    table = read_table(path, ROW)
    lines = table["line"]
    return Rows(table.select(*ROW), path, lambda row: ("", int(lines[row])))


def _read_parquet(path: Path) -> Rows:
    try:
        schema = pl.read_parquet_schema(path)
        missing = [name for name in ROW if name not in schema]
        if missing:
            raise InputError(
                f"missing column {missing[0]}; the file has {', '.join(map(repr, schema))}", path=path
            )
        frame = pl.read_parquet(path, columns=list(ROW)).select(*ROW)
        for name in ROW:
            if name not in IDS and not frame.schema[name].is_numeric():
                raise InputError(f"column {name} holds {frame.schema[name]}, expected numbers", path=path)
        return Rows(frame.with_columns(pl.col(name).cast(ROW[name]) for name in ROW if name not in IDS), path)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", path=path) from error
    except pl.exceptions.PolarsError as error:
        raise InputError(f"not a Parquet file: {str(error).splitlines()[0]}", path=path) from error


def _read_submission(path: Path) -> Rows:
    table = read_table(path, dict.fromkeys(SUBMISSION, TEXT))
    tokens = table.select(
        "line", "ImageId", token=pl.col("PredictionString").fill_null("").str.strip_chars().str.split(" ")
    ).explode("token")
    tokens = tokens.filter(pl.col("token") != "")
    counts = tokens.group_by("line", maintain_order=True).len()
    uneven = counts.filter(pl.col("len") % len(FIELDS) != 0)
    if len(uneven):
        line, count = uneven.row(0)
        raise InputError(f"{count} fields, expected {' '.join(FIELDS)} repeated", path=path, line=line)
    first = tokens.gather_every(len(FIELDS))
    values = {name: tokens["token"].gather_every(len(FIELDS), i) for i, name in enumerate(FIELDS)}
    lines = first["line"]
    numbers = {}
    for name, column in zip(("Score", *CORNERS), FIELDS[1:], strict=True):
        numbers[name] = values[column].cast(NUMBER, strict=False)
        if numbers[name].null_count():
            row = int(numbers[name].is_null().arg_max() or 0)
            message = f"{column} is {values[column][row]!r}, expected a number"
            raise InputError(message, path=path, line=int(lines[row]))
    frame = pl.DataFrame({"ImageID": first["ImageId"], "LabelName": values["class"], **numbers})
    return Rows(frame.select(*ROW), path, lambda row: ("", int(lines[row])))


def result_rows(entries: pl.DataFrame, path: Path) -> Rows:
    """What `read_results` reads, as rows."""
    x, y, width, height = (entries[name] for name in ("x", "y", "width", "height"))
    frame = pl.DataFrame(
        {
            "ImageID": entries["image_id"].cast(TEXT),
            "LabelName": entries["category_id"].cast(TEXT),
            "Score": entries["score"],
            "XMin": x,
            "YMin": y,
            "XMax": x + width,
            "YMax": y + height,
        }
    )
    return Rows(frame, path, lambda row: (f"[{row}]: ", None))


def read_results(path: Path) -> pl.DataFrame:
    """Entries of a COCO results file: image_id, category_id (numbers, or texts), x, y, width, height, score.

    Raises:
        InputError: malformed JSON, or with its entry: a missing key, a value of the wrong kind.
    """
    ids, sides = ["image_id", "category_id"], ["x", "y", "width", "height"]
    schema = dict.fromkeys([*ids, "score"], NUMBER) | {"bbox": pl.List(NUMBER)}
    try:
        frame = pl.read_json(path, schema=schema)
        whole = pl.all_horizontal((pl.col(ids).abs() < 2**53) & (pl.col(ids) == pl.col(ids).round()))
        four = pl.col("bbox").list.len() == 4
        if not any(frame.null_count().row(0)) and frame.select((whole & four).all()).item():
            boxes = frame["bbox"].list.to_struct(fields=sides).struct.unnest()
            if not any(boxes.null_count().row(0)):
                return frame.drop("bbox").with_columns(pl.col(ids).cast(pl.Int64)).hstack(boxes)
    except (pl.exceptions.PolarsError, OSError):
        pass  # ids as texts, or a defect of the file: read it again with care
    return _entries(path)


def _entries(path: Path) -> pl.DataFrame:
    content = read_json(path)
    if not isinstance(content, list):
        raise InputError("expected a list of detections", path=path)
    rows = [_entry(entry, f"[{i}]", path) for i, entry in enumerate(content)]
    columns = ("image_id", "category_id", "x", "y", "width", "height", "score")
    types = (TEXT, TEXT, *[NUMBER] * 5)
    return pl.DataFrame(rows, schema=dict(zip(columns, types, strict=True)), orient="row")


def _entry(entry: Any, place: str, path: Path) -> tuple[Any, ...]:
    keys = ("image_id", "category_id", "bbox", "score")
    missing = [key for key in keys if not isinstance(entry, dict) or key not in entry]
    if missing:
        raise InputError(f"{place}: missing key {missing[0]!r}", path=path)
    image, label, box, score = (entry[key] for key in keys)
    for key, value in (("image_id", image), ("category_id", label)):
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise InputError(f"{place}.{key} is {value!r}, expected a whole number or a text", path=path)
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise InputError(f"{place}.bbox is {box!r}, expected four numbers: x, y, width, height", path=path)
    if not _is_number(score):
        raise InputError(f"{place}.score is {score!r}, expected a number", path=path)
    return str(image), str(label), *map(float, box), float(score)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def coded(
    rows: Rows, classes: Sequence[str], images: Sequence[str], *, more: bool
) -> tuple[pl.DataFrame, list[str]]:
    """The frame with `image` and `label`, indices, in place of the ids; and the images.

    Args:
        more: an image outside `images` is added to them, in the order of rows, rather than refused.
    Raises:
        InputError: an unknown id.
    """
    if len(set(images)) != len(images):
        raise InputError("an image id stands twice in image_ids")
    images = list(images)
    column = _codes(rows.frame["ImageID"], images)
    if more and column.null_count():
        images += (
            rows.frame["ImageID"].filter(column.is_null()).cast(TEXT).unique(maintain_order=True).to_list()
        )
        column = _codes(rows.frame["ImageID"].cast(TEXT), images)
    frame = rows.frame.with_columns(image=column, label=_codes(rows.frame["LabelName"], classes))
    checked = Rows(frame, rows.path, rows.place)
    checked.refuse(pl.col("image").is_null(), f"one of {len(images):,} images", value="ImageID")
    expected = f"one of {len(classes):,} classes, such as {', '.join(classes[:3])}"
    checked.refuse(pl.col("label").is_null(), expected, value="LabelName")
    return frame.drop("ImageID", "LabelName"), images


def _codes(column: pl.Series, ids: Sequence[str]) -> pl.Series:
    kind = pl.Enum(ids)
    codes = column if column.dtype == kind else column.cast(TEXT).cast(kind, strict=False)
    return codes.to_physical().cast(pl.UInt32)


def corners(frame: pl.DataFrame) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """(D, 4)"""
    return frame.select(*CORNERS).to_numpy(order="c")
