"""CSV files of any size: read in chunks, on all cores, and strictly.

Polars reads a chunk where every line is a row with as many fields as the header. It overlooks much otherwise, so
another chunk (blank lines, line breaks within quotes, whatever is wrong) is read by Python's csv module, which
also knows the line of each row: a table read so has a column `line`, 1-based, the header being line 1.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeVar, cast

import numpy as np
import polars as pl

from wildbox.errors import InputError
from wildbox.formats.files import BYTE_ORDER_MARK, NO_TEXT, open_file, read_text, tell, whole_file
from wildbox.formats.regular_lines import regular_lines

TEXT: pl.DataType = pl.String()
NUMBER: pl.DataType = pl.Float64()
CHUNK = 2**24
"""Bytes: large enough to keep the threads busy, small enough that memory does not count."""
LOOK_AHEAD = 2**14
"""Bytes in which the end of a line is looked for before a chunk is read."""
POLARS_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""Of some damaged files polars panics, which is no Exception."""
MOST_THREADS = 8
"""That work on a file's parts."""
NUMERAL = re.compile(r" *[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity|nan)", re.ASCII | re.IGNORECASE)

Columns = Mapping[str, pl.DataType]
T = TypeVar("T")


@dataclass(frozen=True)
class Check:
    """What no row may be; told as "`columns[0]` is ... and `columns[1]` ..., expected `expected`"."""

    bad: pl.Expr
    columns: tuple[str, ...]
    expected: str

    def applies(self, columns: Iterable[str]) -> bool:
        """Whether the table has what is asked for; optional columns may be missing."""
        return set(self.bad.meta.root_names()) <= set(columns)

    def refuse(self, table: pl.DataFrame, *, path: str | Path) -> None:
        """Raise for the first row that is bad; the table has `line`."""
        first = table.filter(self.bad).head(1)
        if len(first):
            raise InputError(self.told(first), path=path, line=first["line"].item())

    def told(self, row: pl.DataFrame) -> str:
        """What is wrong with a row, a table of one."""
        values = [row[name].item() for name in self.columns]
        told = ["empty" if value is None else repr(value) for value in values]
        given = " and ".join(f"{name} {value}" for name, value in zip(self.columns, told, strict=True))
        return f"{given.replace(' ', ' is ', 1)}, expected {self.expected}"


@dataclass(frozen=True)
class _Layout:
    """What a CSV file has and what of it is wanted."""

    path: str | Path
    fields: list[str]
    wanted: dict[str, pl.DataType]
    checks: list[Check]


def each_chunk(
    path: str | Path,
    columns: Columns,
    work: Callable[[pl.DataFrame], T],
    *,
    optional: Sequence[str] = (),
    checks: Iterable[Check] = (),
) -> Iterator[T]:
    """What `work` makes of the rows of a CSV file, a table of some thousands at a time, in the file's order.

    At least one table, which is empty where there are no rows.

    Args:
        columns: name -> `TEXT` or `NUMBER`; the file may have others. An empty field is null.
        work: runs in threads; its table has the wanted columns, and perhaps `line`.
        optional: those of `columns` that the file may lack; the tables then lack them too.
        checks: what no row may be. Lines without any value are left out before.
    Raises:
        InputError: with file and line: no such file, an empty file, a missing column, a row with another number
            of fields than the header, a number that is none, broken quotes, what `checks` refuse; without a
            line: a compressed file that is damaged.
    Warns:
        InputWarning: the last line has no line break, so the file may be cut short.
    """
    line, last = 2, b"\n"
    with open_file(path) as stream:
        layout = _layout(stream, columns, optional=optional, checks=checks, path=path)

        def attempt(data: bytes) -> tuple[T, int] | None:
            table = _read_quickly(data, layout)
            return None if table is None else (work(table), len(table))

        for data, found in _in_order(attempt, _chunks(stream)):
            if found is None:
                found = work(_read_carefully(data, layout, line)), data.count(b"\n")
            result, lines = found
            line, last = line + lines, data[-1:] or last
            yield result
    tell({"the last line has no line break; the file may be cut short": int(last != b"\n")}, path=path)


def reading_threads() -> int:
    """Threads that work on a file's parts: twice as many as polars has, since each waits for those at times.

    Not a constant, since asking polars starts its threads: a process that is forked after that, as many a data loader's
    are, would wait for them forever.
    """
    return min(2 * pl.thread_pool_size(), MOST_THREADS)


def _in_order(work: Callable[[bytes], T], chunks: Iterable[bytes]) -> Iterator[tuple[bytes, T]]:
    """Each chunk with what `work` makes of it in a thread; few are held at a time."""
    waiting: deque[tuple[bytes, Future[T]]] = deque()
    threads = reading_threads()
    with ThreadPoolExecutor(threads) as pool:
        for chunk in chunks:
            waiting.append((chunk, pool.submit(work, chunk)))
            if len(waiting) > threads:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def _layout(
    stream: BinaryIO, columns: Columns, *, optional: Sequence[str], checks: Iterable[Check], path: str | Path
) -> _Layout:
    line = stream.readline().removeprefix(BYTE_ORDER_MARK)
    if not line.strip():
        if not stream.read().strip():
            raise InputError("the file is empty", path=path)
        raise InputError("the first line is empty; expected the names of the columns", path=path, line=1)
    try:
        fields = next(csv.reader([line.decode()], strict=True))
    except UnicodeDecodeError as error:
        raise InputError(NO_TEXT, path=path, line=1) from error
    except csv.Error as error:
        raise InputError(f"not a row of a CSV table: {error}", path=path, line=1) from error
    _check_header(fields, [name for name in columns if name not in optional], path=path, line=1)
    wanted = {name: dtype for name, dtype in columns.items() if name in fields}
    return _Layout(path, fields, wanted, [check for check in checks if check.applies(wanted)])


def _check_header(header: Sequence[str], needed: Iterable[str], *, path: str | Path, line: int) -> None:
    if twice := [name for name in header if header.count(name) > 1]:
        raise InputError(f"column {twice[0]!r} stands twice", path=path, line=line)
    if missing := [name for name in needed if name not in header]:
        message = f"missing column {', '.join(missing)}; the file has {', '.join(map(repr, header))}"
        raise InputError(message, path=path, line=line)


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    """Some rows, up to a line break that is not within quotes; at least once."""
    data = _lines(stream)
    while True:
        # a line may be of any length; but a quote that holds so much is not closed: reading carefully says where
        while b'"' in data and data.count(b'"') % 2 and len(data) <= 2 * CHUNK and (more := _lines(stream)):
            data += more
        yield data
        if not (data := _lines(stream)):
            return


def _lines(stream: BinaryIO) -> bytes:
    """Whole lines, about a chunk of them; at the end of the file nothing.

    Read in one piece where the file is as it lies on the disk: to put pieces together takes as long as to read them.
    """
    if isinstance(stream, io.BufferedReader):
        ahead = os.pread(stream.fileno(), LOOK_AHEAD, stream.tell() + CHUNK)
        rest = ahead.find(b"\n") + 1
        data = stream.read(CHUNK + rest)
        return data if rest or not data else data + stream.readline()
    data = stream.read(CHUNK)
    return data + stream.readline() if data else data


def find_line(path: str | Path, column: str, value: str) -> int | None:
    """Line of the first row with a value that is known to be in a column of text."""
    return first_line(path, {column: TEXT}, pl.col(column) == value, within=value)


def first_line(path: str | Path, columns: Columns, condition: pl.Expr, *, within: str = "") -> int | None:
    """Line of the first row of which a condition on some columns holds.

    Args:
        within: what the line is known to have in it: where it is not, nothing is read.
    """
    line = 2
    with open_file(path) as stream:
        layout = _layout(stream, columns, optional=(), checks=(), path=path)
        for data in _chunks(stream):
            if within.encode() in data or b'"' in data:
                found = _read_numbered(data, layout, line).filter(condition)
                if len(found):
                    return int(found["line"][0])
            line += data.count(b"\n")
    return None


def _read_numbered(data: bytes, layout: _Layout, first: int) -> pl.DataFrame:
    """The wanted columns and `line`, of rows that begin at line `first`."""
    table = _read_quickly(data, layout)
    return _read_carefully(data, layout, first) if table is None else table.with_row_index("line", first)


def _read_quickly(data: bytes, layout: _Layout) -> pl.DataFrame | None:
    """The wanted columns, or nothing where a chunk has to be read carefully."""
    if not data:
        return None
    lines, is_ascii = regular_lines(np.frombuffer(data, np.uint8), len(layout.fields))
    if lines < 0:
        return None
    try:
        if not is_ascii:
            data.decode()
        schema = dict.fromkeys(layout.fields, TEXT) | layout.wanted
        table = pl.scan_csv(data, has_header=False, schema=schema).select(*layout.wanted).collect()
    except (*POLARS_ERRORS, UnicodeDecodeError):
        return None
    bad = [check.bad for check in layout.checks]
    if len(table) != lines or (bad and table.select(pl.any_horizontal(bad).any()).item()):
        return None
    return table


def _read_carefully(data: bytes, layout: _Layout, first: int) -> pl.DataFrame:
    """The wanted columns after `line`, of rows that begin at line `first`; what is wrong is raised here."""
    schema = {"line": pl.Int64()} | layout.wanted
    table = pl.DataFrame(list(_rows(data, layout, first)), schema, orient="row")
    for check in layout.checks:
        check.refuse(table, path=layout.path)
    return table


def _rows(data: bytes, layout: _Layout, first: int) -> Iterator[tuple[int | str | float | None, ...]]:
    """Line and wanted values of each row that has any value."""
    path = layout.path
    wanted = [(layout.fields.index(name), name, dtype == NUMBER) for name, dtype in layout.wanted.items()]
    if (end := data.find(b"\0")) >= 0:
        raise InputError("a null character, expected text", path=path, line=first + data.count(b"\n", 0, end))
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = first + data.count(b"\n", 0, error.start)
        raise InputError(NO_TEXT, path=path, line=line) from error
    for line, row in filled_rows(text, path=path, first=first):
        if len(row) != len(layout.fields):
            raise InputError(f"{len(row)} fields, expected {len(layout.fields)}", path=path, line=line)
        for i, name, is_number in wanted:
            if is_number and row[i] and not NUMERAL.fullmatch(row[i]):
                raise InputError(f"{name} is {row[i]!r}, expected a number", path=path, line=line)
        yield (
            line,
            *((float(row[i]) if is_number else row[i]) if row[i] else None for i, _, is_number in wanted),
        )


def filled_rows(text: str, *, path: str | Path, first: int = 1) -> Iterator[tuple[int, list[str]]]:
    """Line and fields of each row that has any value, by Python's csv module; the text begins at line `first`."""
    rows = csv.reader(io.StringIO(text, newline="\n"), strict=True)
    while True:
        line = first + rows.line_num
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"not a row of a CSV table: {error}", path=path, line=line) from error
        if any(map(str.strip, row)):
            yield line, row


def named_rows(path: str | Path, needed: Sequence[str]) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The header of a CSV file that fits into memory, and of each row its line and its fields by name.

    Raises:
        InputError: with file and line: a column that is missing or stands twice, a row with another number of fields
            than the header. Rows without any value are left out.
    """
    rows = filled_rows(read_text(path), path=path)
    first, header = next(rows, (1, []))
    _check_header(header, needed, path=path, line=first)
    found = []
    for line, row in rows:
        if len(row) != len(header):
            raise InputError(f"{len(row)} fields, expected {len(header)}", path=path, line=line)
        found.append((line, dict(zip(header, row, strict=True))))
    return header, found


class _Through(io.RawIOBase):
    """What is written to it goes to another stream, of which polars cannot take the descriptor."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._stream.write(data)


def write_table(table: pl.DataFrame, path: str | Path) -> None:
    """Write a table as CSV; `OSError` where the disk is full, of which older polars say nothing at a file's end."""
    with whole_file(path) as temporary, temporary.open("wb") as stream:
        table.write_csv(cast("IO[bytes]", _Through(stream)))
