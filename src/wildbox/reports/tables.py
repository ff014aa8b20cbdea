"""Tables of a report: plain cells, as Markdown, and straight from the CSV files of a study."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from wildbox.errors import InputError
from wildbox.evaluation.result import Gain
from wildbox.formats.csv_rows import named_rows

Cell = str | int | float | None
"""None and NaN: there is no value."""
LIMIT = 5000
"""Rows of a table on a page; more are in the CSV."""


@dataclass(frozen=True)
class Table:
    """A header and rows of raw values of the same length; `note` says in plain words what they are.

    Args:
        name: the table in addresses of the page (#name); default: by its place there.
        choices: columns of text whose values are offered as filters.
        views: title -> what it shows, offered as links: "sort" (a column, "-" before it: largest first),
            "filter" (what one would type), or one of `choices` (the value).
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    name: str = ""
    choices: Sequence[str] = ()
    views: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.header):
                raise InputError(f"table row {number} has {len(row)} cells, expected {len(self.header)}")
        missing = [name for name in self.choices if name not in self.header]
        if missing:
            raise InputError(f"no column {missing[0]!r} to choose by; there are {', '.join(self.header)}")


def is_number(cell: Cell) -> bool:
    """Whether a cell is a number, NaN not counted; numpy's scalars count, truth values do not."""
    if isinstance(cell, str | bool) or cell is None:
        return False
    return not math.isnan(cell)


def show(cell: Cell) -> str:
    """A cell as people read it: three decimals, integers whole, an en dash where there is no value.

    >>> [show(cell) for cell in (0.12345, 12345, "cat", None, float("nan"))]
    ['0.123', '12,345', 'cat', '–', '–']
    """
    if isinstance(cell, str | bool):
        return str(cell)
    if cell is None or math.isnan(cell):
        return "–"
    return f"{int(cell):,}" if hasattr(cell, "__index__") else f"{cell:,.3f}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A Markdown table, columns of numbers flush right; ends with a newline.

    >>> print(markdown_table(["class", "ap"], [["cat", 0.5]]), end="")
    | class | ap |
    | :-- | --: |
    | cat | 0.500 |
    """
    table = Table(header, rows)
    columns = range(len(table.header))
    right = [any(is_number(row[i]) for row in rows) for i in columns]
    lines = [list(table.header), ["--:" if right[i] else ":--" for i in columns]]
    lines += [[show(cell) for cell in row] for row in rows]
    return "".join(f"| {' | '.join(_escaped(cell) for cell in line)} |\n" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\r", " ").replace("\n", " ")


def gains_table(gains: Sequence[Gain], *, note: str = "") -> Table:
    """Class, AP without, AP with, gain, in the given order, and their means as the last row.

    The mean is over the rows in which both values exist; without such a row there is no mean row.
    """
    rows: list[list[Cell]] = [[g.class_name, g.without, g.with_, g.gain] for g in gains]
    both = [(g.without, g.with_) for g in gains if not math.isnan(g.without + g.with_)]
    if both:
        without, with_ = (math.fsum(column) / len(both) for column in zip(*both, strict=True))
        rows.append(["mean", without, with_, with_ - without])
    return Table(("class", "without", "with", "gain"), rows, note)


def gains_markdown(gains: Sequence[Gain], *, title: str = "Gain per class that concurs with another") -> str:
    """The text of `gains.md`: the supplement's Table 1, three decimals, mean row last."""
    table = gains_table(gains)
    if not gains:
        return f"# {title}\n\nNo class concurs with another.\n"
    return f"# {title}\n\nAverage precision (AP) in [0, 1].\n\n{markdown_table(table.header, table.rows)}"


def combinations_table(values: Mapping[tuple[str, str], float], *, note: str = "") -> Table:
    """One number (mAP) per (trained with, scored with): trained down, scored across, in order of appearance.

    >>> combinations_table({("softmax", "softmax"): 0.5, ("softmax", "concurrent"): 0.6}).rows
    [['softmax', 0.5, 0.6]]
    """
    trained = list(dict.fromkeys(key[0] for key in values))
    scored = list(dict.fromkeys(key[1] for key in values))
    rows: list[list[Cell]] = [[t, *(values.get((t, s)) for s in scored)] for t in trained]
    return Table(("trained with", *(f"scored with {s}" for s in scored)), rows, note)


def csv_table(
    path: str | Path, *, columns: Sequence[str] | None = None, limit: int | None = None, note: str = ""
) -> Table:
    """A CSV file as a table, so that a page shows the very numbers of the file.

    A column is numbers where each of its cells that is not empty is one; empty cells there become None. Rows without
    any value are left out.

    Args:
        columns: which ones, in this order; default all.
        limit: at most so many rows, the first; the note then says how many there are.
    Raises:
        InputError: an empty file, a column that is not there, a row of another length.
    """
    header, given = named_rows(path, columns or ())
    names = header if columns is None else columns
    parsed = [_parsed([row[name] for _, row in given]) for name in names]
    rows: list[Sequence[Cell]] = [list(row) for row in zip(*parsed, strict=True)]
    if limit is not None:
        rows, rest = first_rows(rows, limit=limit, file=Path(path).name)
        note = f"{note} {rest}".strip()
    return Table(names, rows, note)


def first_rows(rows: Iterable[Sequence[Cell]], *, limit: int, file: str) -> tuple[list[Sequence[Cell]], str]:
    """At most `limit` rows, the first, and where there are more a note that says so and names the file with all.

    >>> first_rows([[1], [2], [3]], limit=2, file="all.csv")
    ([[1], [2]], 'The first 2 of 3 rows; all are in all.csv.')
    """
    given = iter(rows)
    kept = list(islice(given, limit))
    rest = sum(1 for _ in given)
    note = f"The first {len(kept):,} of {len(kept) + rest:,} rows; all are in {file}." if rest else ""
    return kept, note


def _parsed(column: Sequence[str]) -> Sequence[Cell]:
    # Only what Python would write back the same becomes a number: an id such as "007" stays the text it is.
    given = [text for text in column if text]
    if given and all(_is_integer(text) for text in given):
        return [int(text) if text else None for text in column]
    if given and all(_is_integer(text) or _is_float(text) for text in given):
        return [float(text) if text else None for text in column]
    return column


def _is_integer(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").isdigit() and str(int(text)) == text


def _is_float(text: str) -> bool:
    try:
        return repr(float(text)) == text
    except ValueError:
        return False
