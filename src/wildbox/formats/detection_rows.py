"""Rows of detections as files hold them: CSV, Parquet, challenge submission, COCO results. Letters: D detections.

Every reader gives `LabelledRows` whose values are score (D,) and boxes (D, 4), and which know the place of a row.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import polars as pl

from wildbox.boxes import first_empty
from wildbox.errors import InputError
from wildbox.formats.csv_rows import (
    NUMBER,
    POLARS_ERRORS,
    TEXT,
    Check,
    Columns,
    each_chunk,
    find_line,
    first_line,
)
from wildbox.formats.detection_table import IDS, NUMBERS, DetectionTable, checks
from wildbox.formats.files import is_json, open_file, read_json
from wildbox.formats.labelled_rows import (
    CORNERS,
    Arrays,
    LabelledRows,
    Part,
    corners,
    join_parts,
    part_of,
    read_labelled_rows,
)

SUBMISSION = dict.fromkeys(("ImageId", "PredictionString"), TEXT)
FIELDS = ("class", "score", "xmin", "ymin", "xmax", "ymax")
"""What a challenge submission repeats for each detection."""
ENTRY = ("image_id", "category_id", "x", "y", "width", "height", "score")
"""Columns of COCO results."""


def read_rows(path: Path, *, classes: Sequence[str] = (), relative: bool | None = None) -> LabelledRows:
    """Rows of a .csv, .parquet or .json file, by its ending; of a submission by its header.

    Args:
        classes: the classes that there should be, so that reading is faster where there are no others.
        relative: whether coordinates have to be relative to the image.
    """
    table = read_table(path)
    if table is not None:
        return table.whole(classes=classes, relative=bool(relative))
    refused = checks(relative=bool(relative))
    if _is_submission(path):
        return _read_submission(path, refused)
    likely = pl.Enum(classes) if classes else None
    return read_labelled_rows(path, NUMBERS, _values, checks=refused, likely=likely)


def read_table(path: Path) -> DetectionTable | None:
    """What a .parquet or .json file holds; of another file nothing."""
    if is_json(path):
        return results_table(read_results(path), path)
    if path.suffix == ".parquet":
        return DetectionTable(_collected(path, IDS | NUMBERS), path, ("row {}: ", 1))
    return None


def place_of_empty(rows: LabelledRows) -> str:
    """Where in its file the first box without area stands, of rows that have one."""
    path, row = Path(rows.path), rows.first_row + first_empty(rows.values[1])
    if path.suffix == ".parquet":
        return f"row {row + 1}"
    if is_json(path):
        return f"[{row}]"
    if _is_submission(path):
        run = int(np.searchsorted(np.cumsum(rows.lengths), row, side="right"))
        return f"line {rows.place('ImageID', rows.runs[run])[1]}"
    x1, y1, x2, y2 = map(pl.col, CORNERS)
    return f"line {first_line(path, dict.fromkeys(CORNERS, NUMBER), (x2 <= x1) | (y2 <= y1))}"


def ids_in(path: Path, column: str) -> list[str]:
    """What occurs in ImageID, or in LabelName, of a file that `read_rows` reads."""
    if path.suffix == ".parquet":
        found = [_collected(path, {column: TEXT})[column].unique()]
    elif is_json(path) or _is_submission(path):
        rows = read_rows(path)
        found = [rows.runs.unique() if column == "ImageID" else pl.Series(rows.classes, dtype=TEXT)]
    else:
        found = list(each_chunk(path, {column: TEXT}, lambda table: table[column].unique()))
    return pl.concat(found).unique().drop_nulls().to_list()


def _values(table: pl.DataFrame) -> Arrays:
    return table["Score"].to_numpy(), corners(table)


def _is_submission(path: Path) -> bool:
    with open_file(path) as stream:
        line = stream.readline().decode("utf-8-sig", errors="replace")
    return [name.strip('"') for name in line.strip().split(",")[:2]] == list(SUBMISSION)


def _collected(path: Path, wanted: Columns) -> pl.DataFrame:
    """Columns of a Parquet file."""
    try:
        schema = pl.read_parquet_schema(path)
        missing = [name for name in wanted if name not in schema]
        if missing:
            raise InputError(
                f"missing column {missing[0]}; the file has {', '.join(map(repr, schema))}", path=path
            )
        for name in wanted:
            if wanted[name] == NUMBER and not schema[name].is_numeric():
                raise InputError(f"column {name} holds {schema[name]}, expected numbers", path=path)
        columns = [pl.col(name).cast(dtype) for name, dtype in wanted.items()]
        return pl.scan_parquet(path).select(columns).collect(engine="streaming")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", path=path) from error
    except POLARS_ERRORS as error:
        raise InputError(f"not a Parquet file: {str(error).splitlines()[0]}", path=path) from error


def _words() -> pl.Expr:
    """Words of a PredictionString."""
    words = pl.col("PredictionString").fill_null("").str.split(" ")
    return words.list.eval(pl.element().filter(pl.element() != ""))


def _read_submission(path: Path, checks: Sequence[Check]) -> LabelledRows:
    named = Check(pl.col("ImageId").is_null(), ("ImageId",), "the id of an image")
    parts = each_chunk(path, SUBMISSION, lambda table: _submission_part(table, checks, path), checks=(named,))
    return join_parts(parts, path, lambda column, value: ("", _submission_line(path, column, value)))


def _submission_part(table: pl.DataFrame, checks: Sequence[Check], path: Path) -> Part:
    def refuse(row: int, message: str) -> NoReturn:
        line = find_line(path, "PredictionString", table["PredictionString"][row])
        raise InputError(message, path=path, line=line)

    words = table.select("ImageId", words=_words()).with_row_index("row")
    counts = words["words"].list.len()
    uneven = counts % len(FIELDS) > 0
    if uneven.any():
        row = int(uneven.arg_max() or 0)
        refuse(row, f"{counts[row]} fields, expected {' '.join(FIELDS)} repeated")
    words = words.filter(counts > 0).explode("words")
    first = words.gather_every(len(FIELDS))
    columns = [first["row"], first["ImageId"].alias("ImageID"), first["words"].alias("LabelName")]
    for i, name in enumerate(NUMBERS, start=1):
        given = words["words"].gather_every(len(FIELDS), i)
        number = given.cast(NUMBER, strict=False).alias(name)
        if number.null_count():
            k = int(number.is_null().arg_max() or 0)
            refuse(first["row"][k], f"{FIELDS[i]} is {given[k]!r}, expected a number")
        columns.append(number)
    rows = pl.DataFrame(columns)
    for check in checks:
        bad = rows.filter(check.bad).head(1)
        if len(bad):
            refuse(bad["row"].item(), check.told(bad))
    return part_of(rows, _values)


def _submission_line(path: Path, column: str, value: str) -> int | None:
    """The first line with an image, or with a class."""
    if column == "ImageID":
        return find_line(path, "ImageId", value)
    holds = _words().list.gather_every(len(FIELDS)).list.contains(value)
    for table in each_chunk(path, SUBMISSION, lambda table: table.filter(holds)):
        if len(table):
            return find_line(path, "PredictionString", table["PredictionString"][0])
    return None


def results_table(entries: pl.DataFrame, path: Path) -> DetectionTable:
    """What `read_results` reads, as other files have it."""
    x, y, width, height = (pl.col(name) for name in ENTRY[2:6])
    ids = (
        pl.col("image_id").cast(TEXT).alias("ImageID"),
        pl.col("category_id").cast(TEXT).alias("LabelName"),
    )
    box = {"XMin": x, "YMin": y, "XMax": x + width, "YMax": y + height}
    table = entries.select(*ids, pl.col("score").alias("Score"), **box)
    return DetectionTable(table, path, ("[{}]: ", 0))


def read_results(path: Path) -> pl.DataFrame:
    """Entries of a COCO results file: columns `ENTRY`, ids being numbers or texts.

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
    except (*POLARS_ERRORS, OSError):
        pass  # ids as texts, or a defect of the file: read it again with care
    return _entries(path)


def _entries(path: Path) -> pl.DataFrame:
    content = read_json(path)
    if not isinstance(content, list):
        raise InputError("expected a list of detections", path=path)
    rows = [_entry(entry, f"[{i}]", path) for i, entry in enumerate(content)]
    types = (TEXT, TEXT, *[NUMBER] * 5)
    return pl.DataFrame(rows, schema=dict(zip(ENTRY, types, strict=True)), orient="row")


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
    if isinstance(value, float):
        return not math.isnan(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
