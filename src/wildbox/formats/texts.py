"""Which texts of a column are equal, without reading them: by the 16 bytes that polars, as Arrow, has of each.

These hold a text of up to 12 bytes itself, and of a longer one its beginning and where in its chunk it lies. Equal ones
of a chunk are equal texts; different ones can be, too: a text that lies in several places, as each that a CSV file
repeats does. Parquet has a repeated text once for thousands of rows, so there few are left to compare; where many are,
polars reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import nanoarrow
import numba
import numpy as np
import polars as pl
from numpy.typing import NDArray

from wildbox.annotations import Ints
from wildbox.threads import at_once

Views = NDArray[np.uint64]
"""(n, 2)"""
Codes = NDArray[np.int32]
FEW = 1024
"""Texts that are looked at in any case; more only where there are four times as many rows or more."""
MANY = 2**17
"""Texts that are looked at first: where some stand twice, one of these does, as a rule."""


def runs(column: pl.Series) -> tuple[Ints, pl.Series]:
    """Where each run of equal texts begins, and its text; of a column without nulls.

    >>> starts, texts = runs(pl.Series(["a", "a", "b", "a"]))
    >>> starts.tolist(), texts.to_list()
    ([0, 2, 3], ['a', 'b', 'a'])
    """
    tasks = [partial(_starts, views, first) for first, views in _views(column)]
    starts = np.concatenate([np.zeros(0, np.int64), *at_once(tasks)])
    if len(starts) > _most(len(column)):
        starts = starts_of_runs(column)
    texts = column.gather(starts)
    differs = texts.ne_missing(texts.shift())
    return (starts, texts) if differs.all() else (starts[differs.to_numpy()], texts.filter(differs))


def starts_of_runs(column: pl.Series) -> Ints:
    """Where each run of equal texts begins, as polars reads them."""
    lengths = column.rle().struct.field("len").to_numpy().astype(np.int64)
    starts: Ints = np.cumsum(lengths) - lengths
    return starts


def all_differ(texts: pl.Series) -> bool:
    """Whether no text stands twice; where many do, the first ones tell, at less cost.

    >>> all_differ(pl.Series(["a", "b"])), all_differ(pl.Series(["a", "a"]))
    (True, False)
    """
    some = texts[:MANY]
    return some.n_unique() == len(some) and (len(some) == len(texts) or texts.n_unique() == len(texts))


def coded(column: pl.Series) -> tuple[Codes, tuple[str, ...]]:
    """The different texts of a column without nulls, sorted, and which of them each is.

    >>> codes, texts = coded(pl.Series(["b", "a", "b"]))
    >>> codes.tolist(), texts
    ([1, 0, 1], ('a', 'b'))
    """
    codes = np.empty(len(column), np.int32)
    if not len(column):
        return codes, ()
    parts = [(first, views, codes[first : first + len(views)]) for first, views in _views(column)]
    rows = at_once([partial(_code, views, some) for _, views, some in parts])
    if sum(map(len, rows)) > _most(len(column)):
        return _read(column)
    firsts = np.concatenate([first + some for (first, _, _), some in zip(parts, rows, strict=True)])
    places, texts = _read(column.gather(firsts))
    of_parts = np.split(places, np.cumsum(list(map(len, rows)))[:-1])
    at_once([partial(_renumber, *some) for some in zip((part[2] for part in parts), of_parts, strict=True)])
    return codes, texts


def _read(column: pl.Series) -> tuple[Codes, tuple[str, ...]]:
    """As `coded`, each text being read."""
    texts = column.unique().sort()
    return column.cast(pl.Enum(texts)).to_physical().cast(pl.Int32()).to_numpy(), tuple(texts.to_list())


def _views(column: pl.Series) -> Iterator[tuple[int, Views]]:
    """The first row of each chunk, and its views; nothing is copied."""
    first = 0
    for chunk in nanoarrow.c_array_stream(column):
        data = np.frombuffer(chunk.view().buffer(1), np.uint64).reshape(-1, 2)
        yield first, data[chunk.offset : chunk.offset + chunk.length]
        first += chunk.length


@numba.njit(cache=True, nogil=True)
def _starts(views: Views, first: int) -> Ints:
    """Where each run of equal views begins, the first of them being row `first`."""
    starts, count = np.empty(len(views) + 1, np.int64), 0
    for i in range(len(views)):
        starts[count] = first + i  # written over by the next one
        count += i == 0 or (views[i, 0] != views[i - 1, 0]) | (views[i, 1] != views[i - 1, 1])
    return starts[:count].copy()


def _most(rows: int) -> int:
    return max(FEW, rows // 4)


def _code(views: Views, codes: Codes) -> Ints:
    """Of each of the different views the first row; `codes` are filled with which of them each is.

    Where there are too many, each row stands for itself.
    """
    size, most = 4 * FEW, _most(len(views))
    while True:  # in a table of which most stays empty: so a look at one place is enough, as a rule
        rows = np.empty(min(size // 4, most), np.int64)
        known = _fill(views, np.empty((size, 2), np.uint64), np.full(size, -1, np.int32), rows, codes)
        if known >= 0:
            return rows[:known]
        if len(rows) == most:
            codes[:] = np.arange(len(views))
            return np.arange(len(views))
        size *= 8


@numba.njit(cache=True, nogil=True)
def _fill(views: Views, keys: Views, code_at: Codes, rows: Ints, codes: Codes) -> int:
    """Fill rows and codes by a hash table; how many different views there are, or -1 if more than `rows` hold."""
    count, last, one = 0, np.uint64(len(keys) - 1), np.uint64(1)
    for i in range(len(views)):
        a, b = views[i, 0], views[i, 1]
        mixed = (a ^ (b * np.uint64(0xD6E8FEB86659FD93))) * np.uint64(0x9E3779B97F4A7C15)
        place = (mixed >> np.uint64(32)) & last
        while (code_at[place] >= 0) & ((keys[place, 0] != a) | (keys[place, 1] != b)):
            place = (place + one) & last
        if code_at[place] < 0:
            if count == len(rows):
                return -1
            keys[place, 0], keys[place, 1], code_at[place], rows[count] = a, b, count, i
            count += 1
        codes[i] = code_at[place]
    return count


@numba.njit(cache=True, nogil=True)
def _renumber(codes: Codes, places: Codes) -> None:
    for i in range(len(codes)):
        codes[i] = places[codes[i]]
