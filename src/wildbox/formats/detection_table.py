"""Rows of detections that a table holds, made all at once or in pieces. Letters: D detections."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from math import ceil
from pathlib import Path

import numba
import numpy as np
import polars as pl

from wildbox.annotations import Ints
from wildbox.boxes import Floats
from wildbox.errors import InputError
from wildbox.formats.csv_rows import NUMBER, TEXT, Check
from wildbox.formats.labelled_rows import (
    CORNERS,
    LABELLED,
    NAMED,
    LabelledRows,
)
from wildbox.formats.texts import Codes, all_differ, coded, runs
from wildbox.threads import at_once

Chunk = tuple[Codes, tuple[Floats, ...]]
"""Of some rows which of the different texts each LabelName is, and `NUMBERS`."""
NUMBERS = dict.fromkeys(("Score", *CORNERS), NUMBER)
IDS = {"ImageID": TEXT, "LabelName": TEXT}
FAR = 2.0
"""A relative coordinate beyond -1 and 2 is none: the box would stick out by more than its image's side."""
ROWS = 2**18
"""Rows that a thread works on at once, at most: they stay in the processor's cache from one step to the next."""
SHARED = 8
"""Pieces are a multiple of it in number, so that no thread waits long for another's last."""


class DetectionTable:
    """A table with `IDS` and `NUMBERS` that holds a whole file.

    What needs no classes is done when it is made, and no ids are kept: each is 16 bytes a row.

    Args:
        place: what an error says of a row, whose number stands for {}; and the number of the first row.
    Raises:
        InputError: a row without one of `IDS`.
    """

    def __init__(self, table: pl.DataFrame, path: Path, place: tuple[str, int]) -> None:
        self.path, self.place = path, place
        if any(table[name].null_count() for name in IDS):
            self._refuse(table, (NAMED, LABELLED))
        self._runs, self._labels = runs(table["ImageID"]), coded(table["LabelName"])
        if (self._runs[1] == "").any() or "" in self._labels[1]:
            self._refuse(table, (NAMED, LABELLED))
        self._table = table.select(*NUMBERS)
        self._cuts, self._chunks = self._places_to_cut(), self._memory()

    def __len__(self) -> int:
        return len(self._table)

    def whole(self, *, classes: Sequence[str], relative: bool) -> LabelledRows:
        """All rows; see `pieces`."""
        return self._rows(0, len(self), self._class_of(classes), relative=relative)

    def pieces(self, *, classes: Sequence[str], relative: bool) -> list[Callable[[], LabelledRows]]:
        """What makes some `ROWS` rows each, all those of an image in one piece.

        A single one, the whole, where there are few rows, or where those of an image do not stand together.

        Args:
            classes: those that the rows have then, unless there are others.
            relative: whether coordinates have to be relative to the image.
        Raises (when rows are made):
            InputError: what `checks` refuse.
        """
        class_of = self._class_of(classes)
        return [partial(self._rows, *ends, class_of, relative=relative) for ends in pairwise(self._cuts)]

    def _places_to_cut(self) -> list[int]:
        """Where pieces begin, and the last one ends; as many as threads of any number share evenly."""
        rows, (starts, images) = len(self), self._runs
        if rows <= ROWS or not all_differ(images):
            return [0, rows]
        goals = np.linspace(0, rows, SHARED * ceil(rows / (SHARED * ROWS)), endpoint=False)
        return [*np.unique(starts[np.searchsorted(starts, goals, side="right") - 1]).tolist(), rows]

    def _class_of(self, classes: Sequence[str]) -> tuple[tuple[str, ...], Ints]:
        """The classes, and which of them each of the different texts is."""
        texts = self._labels[1]
        known = tuple(classes) if set(classes) >= set(texts) else texts
        index = {name: i for i, name in enumerate(known)}
        return known, np.array([index[text] for text in texts], np.int64)

    def _memory(self) -> list[tuple[int, int, Chunk]]:
        """The memory that holds the table, as it is: first and last row of each piece of it, codes and numbers."""
        codes, numbers = self._labels[0], self._table.get_columns()
        ends = [np.cumsum(column.chunk_lengths()) for column in numbers]
        return [
            (start, end, (codes[start:end], tuple(some[start:end].to_numpy() for some in numbers)))
            for start, end in pairwise(np.unique(np.concatenate([[0], *ends])).tolist())
        ]

    def _rows(
        self, first: int, last: int, class_of: tuple[tuple[str, ...], Ints], *, relative: bool
    ) -> LabelledRows:
        """Rows from `first` to `last`, both of them where a run begins or ends."""
        size = last - first
        label, score, boxes = np.empty(size, np.int64), np.empty(size), np.empty((size, 4))
        classes, index = class_of

        def put(start: int, end: int, chunk: Chunk) -> int:
            here = slice(max(start, first) - first, min(end, last) - first)
            codes, numbers = chunk
            rows = slice(here.start + first - start, here.stop + first - start)
            some = (codes[rows], tuple(column[rows] for column in numbers))  # a null is NaN here
            return int(_put(some, index, limits(relative=relative), label[here], score[here], boxes[here]))

        inside = [chunk for chunk in self._chunks if chunk[0] < last and chunk[1] > first]
        empty = at_once([partial(put, *chunk) for chunk in inside])
        if min(empty, default=0) < 0:
            self._refuse(self._table, checks(relative=relative))
        starts, images = self._runs
        of_these = slice(*np.searchsorted(starts, (first, last)).tolist())
        lengths, values = np.diff(starts[of_these], append=last), (score, boxes)
        known = (self.path, images[of_these], lengths, classes, label, values, 0, 0, self._found)
        return LabelledRows(*known, first_row=first, empty=sum(empty))

    def _refuse(self, table: pl.DataFrame, checks: Sequence[Check]) -> None:
        """Raise for the first row that the first of the checks, of those that the table has columns for, refuses."""
        table = table.with_row_index("row", self.place[1])
        for check in [check for check in checks if check.applies(table.columns)]:
            bad = table.filter(check.bad).head(1)
            if len(bad):
                raise InputError(self.place[0].format(bad["row"].item()) + check.told(bad), path=self.path)

    def _found(self, column: str, value: str) -> tuple[str, None]:
        """The place of the first row with a value."""
        (starts, images), (codes, texts) = self._runs, self._labels
        is_image = column == "ImageID"
        row = starts[(images == value).arg_max()] if is_image else np.argmax(codes == texts.index(value))
        return self.place[0].format(self.place[1] + int(row)), None


def checks(*, relative: bool) -> list[Check]:
    """What no row of detections may be."""
    low, high = limits(relative=relative)
    near = "a relative coordinate, from 0 to 1 across the image, as those of the truth are"

    def outside(name: str, low: float, high: float) -> pl.Expr:
        return ~pl.col(name).is_between(low, high).fill_null(False)  # NaN is above all, too

    expected = near if relative else "a finite number"
    return [
        LABELLED,
        Check(outside("Score", 0, 1), ("Score",), "a score in [0, 1]"),
        *(Check(outside(name, low, high), (name,), expected) for name in CORNERS),
    ]


def limits(*, relative: bool) -> tuple[float, float]:
    """Of a coordinate."""
    return (1 - FAR, FAR) if relative else (-sys.float_info.max, sys.float_info.max)


@numba.njit(cache=True, nogil=True)
def _put(
    chunk: Chunk, class_of: Ints, limits: tuple[float, float], label: Ints, score: Floats, boxes: Floats
) -> int:
    """Put rows where they stay: how many boxes have no area, or -1 where `checks` refuse any score or coordinate."""
    codes, (given, x1, y1, x2, y2) = chunk
    low, high = limits
    right, empty = True, 0  # of NaN nothing is right
    for i in range(len(given)):
        label[i] = class_of[codes[i]]
        score[i], boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3] = given[i], x1[i], y1[i], x2[i], y2[i]
        empty += (x2[i] <= x1[i]) | (y2[i] <= y1[i])
        right &= (given[i] >= 0) & (given[i] <= 1)
        for j in range(4):
            right &= (boxes[i, j] >= low) & (boxes[i, j] <= high)
    return empty if right else -1
