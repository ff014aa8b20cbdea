"""A whole CSV file as one table, for files that fit: every row with its line.

The column `line` is the 1-based line of each row, the header being line 1; it assumes that no field holds a line
break. `csv_rows` reads larger files, and more strictly.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from wildbox.errors import InputError
from wildbox.formats.csv_rows import NUMBER, TEXT
from wildbox.formats.files import open_file, read_text


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
        with open_file(path) as stream:
            header = next(csv.reader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")), [])
    except UnicodeDecodeError:
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
