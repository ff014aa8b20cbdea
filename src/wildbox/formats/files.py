"""CSV and JSON files with the place of what is wrong in them, and files that appear whole or not at all.

A table that was read has a column `line`: the 1-based line of each row, the header being line 1; it assumes
that no field holds a line break.
"""

from __future__ import annotations

import csv
import json
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from wildbox.errors import InputError, InputWarning

TEXT: pl.DataType = pl.String()
NUMBER: pl.DataType = pl.Float64()
CORNERS = ("XMin", "YMin", "XMax", "YMax")
"""Columns of a box, in the order of the tables."""


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends well; folders are made.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "new" / "a.txt"
    >>> with whole_file(target) as temporary:
    ...     _ = temporary.write_text("all of it")
    >>> target.read_text()
    'all of it'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_text(path: str | Path) -> str:
    """Text of a UTF-8 file (a byte order mark is dropped); `InputError` where there is none."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError("not UTF-8 text", path=path, line=line) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path=path) from error
    if not text.strip():
        raise InputError("the file is empty", path=path)
    return text


def read_json(path: str | Path) -> object:
    """Value of a JSON file; `InputError` with the line where it is malformed."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        message = f"malformed JSON at column {error.colno}: {error.msg}"
        raise InputError(message, path=path, line=error.lineno) from error
    except RecursionError as error:
        raise InputError("JSON nested too deeply", path=path) from error


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file: a header, then rows."""
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def write_json(value: object, path: str | Path) -> None:
    """Write a value as JSON."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")


def read_table(
    path: str | Path, columns: Mapping[str, pl.DataType], *, optional: Sequence[str] = ()
) -> pl.DataFrame:
    """Some columns of a CSV file, with `line` before them. Lines without any value are left out.

    Args:
        columns: name -> `TEXT` or `NUMBER`; the file may have others.
        optional: those of `columns` that the file may lack; the table then lacks them too.
    Raises:
        InputError: no such file, an empty file, a missing column, a number that is none.
    """
    found = _header(path)
    missing = [name for name in columns if name not in found and name not in optional]
    if missing:
        raise InputError(
            f"missing column {', '.join(missing)}; the file has {', '.join(map(repr, found))}",
            path=path,
            line=1,
        )
    wanted = {name: dtype for name, dtype in columns.items() if name in found}
    try:
        table = pl.read_csv(path, columns=list(wanted), schema_overrides=wanted)
    except (pl.exceptions.ComputeError, pl.exceptions.SchemaError) as error:
        _explain(path, wanted, columns=len(found))
        raise InputError(f"not a CSV table: {str(error).splitlines()[0]}", path=path) from error
    table = table.select(*wanted).with_columns(pl.col(TEXT).replace("", None))
    return table.with_row_index("line", offset=2).filter(~pl.all_horizontal(pl.col(*wanted).is_null()))


def _header(path: str | Path) -> list[str]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            header = next(csv.reader(stream), [])
    except (OSError, UnicodeDecodeError):
        header = []
    if not any(header):
        read_text(path)
        raise InputError("the first line is empty; expected the names of the columns", path=path, line=1)
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"column {twice!r} stands twice", path=path, line=1)
    return header


def _explain(path: str | Path, wanted: Mapping[str, pl.DataType], *, columns: int) -> None:
    """Find, slowly, the line that the fast reader refused, and raise the error that names it."""
    for line, row in enumerate(csv.reader(read_text(path).splitlines()), start=1):
        if line == 1:
            numbers = [(i, name) for i, name in enumerate(row) if wanted.get(name) == NUMBER]
            continue
        if len(row) > columns:
            raise InputError(f"{len(row)} fields, expected {columns}", path=path, line=line)
        for i, name in numbers:
            if i < len(row) and row[i] and not _is_number(row[i]):
                raise InputError(f"{name} is {row[i]!r}, expected a number", path=path, line=line)


def _is_number(text: str) -> bool:
    try:
        return not math.isnan(float(text)) and "_" not in text
    except ValueError:
        return False


def refuse(table: pl.DataFrame, bad: pl.Expr, expected: str, *, value: str, path: str | Path) -> None:
    """Raise for the first row where `bad` holds: "`value` is ..., expected ...".

    Args:
        value: the column whose value the error tells.
    """
    first = table.filter(bad).head(1)
    if len(first):
        given = first[value].item()
        told = "empty" if given is None else repr(given)
        raise InputError(f"{value} is {told}, expected {expected}", path=path, line=first["line"].item())


def coded(
    rows: pl.DataFrame, classes: Sequence[str], images: Sequence[str], *, path: str | Path
) -> pl.DataFrame:
    """ImageID and LabelName replaced by `image` and `label`, their indices; an error where one is unknown."""
    if len(set(images)) != len(images):
        raise InputError("an image id stands twice in image_ids")
    found = rows.with_columns(
        image=pl.col("ImageID").cast(pl.Enum(images), strict=False).to_physical(),
        label=pl.col("LabelName").cast(pl.Enum(classes), strict=False).to_physical(),
    )
    refuse(found, pl.col("image").is_null(), f"one of {len(images):,} images", value="ImageID", path=path)
    expected = f"one of {len(classes):,} classes, such as {', '.join(classes[:3])}"
    refuse(found, pl.col("label").is_null(), expected, value="LabelName", path=path)
    return found.drop("ImageID", "LabelName")


def integers(column: pl.Series) -> NDArray[np.int64]:
    """A column of indices as numpy has it."""
    return column.cast(pl.Int64).to_numpy()


def texts(ids: Sequence[str], index: NDArray[np.int64]) -> pl.Series:
    """The id of each index."""
    return pl.Series(np.array(ids, object)[index], dtype=TEXT)


def tell(counts: Mapping[str, int], *, path: str | Path, stacklevel: int = 3) -> None:
    """One `InputWarning` for each text whose count is not 0; "{n}" in the text stands for the count."""
    for text, count in counts.items():
        if count:
            message = text.replace("{n}", f"{count:,}")
            warnings.warn(f"{path}: {message}", InputWarning, stacklevel=stacklevel)
