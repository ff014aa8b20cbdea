"""The report as one HTML file: offline, needing nothing beside it, readable on a telephone and in the dark."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from wildbox.errors import InputError
from wildbox.formats.files import whole_file
from wildbox.reports.tables import Cell, Table, is_number, show

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
WRITTEN_ROWS = 50
"""Rows of a table that stand in the page as HTML; the script makes the others when they come into view."""
OPEN_CARDS = 8
"""Cards of a section that are seen at once; the others unfold."""
LONG_TEXT = 40
"""Columns with more letters than that in a cell are wrapped."""


@dataclass(frozen=True)
class Picture:
    """A PNG file; `alt` says what it shows to those who do not see it, `caption` what one sees."""

    path: str | Path
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Drawing:
    """An `<svg>` element, which takes the page's colours; `alt` and `caption` as of a picture."""

    svg: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Thumbnail:
    """A small JPEG and its sides in pixels; `caption` stands below it."""

    jpeg: bytes
    width: int
    height: int
    alt: str
    caption: str = ""

    @property
    def address(self) -> str:
        """Address that holds the whole file."""
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode()


@dataclass(frozen=True)
class Card:
    """A few thumbnails of one thing."""

    title: str
    text: str
    thumbnails: Sequence[Thumbnail]


@dataclass(frozen=True)
class Section:
    """A heading, plain words (an empty line starts a paragraph), points, figures, tables, cards, and more.

    Args:
        points: what each is about, and what is to say.
        more: a line, and the texts that unfold below it.
    """

    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    figures: Sequence[Picture | Drawing] = ()
    points: Sequence[tuple[str, str]] = ()
    cards: Sequence[Card] = ()
    more: tuple[str, Sequence[str]] | None = None

    @property
    def paragraphs(self) -> list[str]:
        """The text's paragraphs."""
        return [part.strip() for part in self.text.split("\n\n") if part.strip()]


def write_page(path: str | Path, *, title: str, sections: Sequence[Section], lead: str = "") -> None:
    """Write the page, under a temporary name first.

    Numbers are shown with three decimals; the full value stands in each cell's `data-value` and appears on
    hovering. Tables are sorted by clicking a heading; those of more than 12 rows have a filter. Rows beyond the
    first 50 are kept as JSON and become cells when they come into view, so that long tables open at once.

    Args:
        lead: a sentence or two below the title.
    Raises:
        InputError: a figure that does not exist or is not a PNG.
    """
    environment = Environment(
        loader=PackageLoader("wildbox.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        show=show,
        full=_full,
        is_number=is_number,
        embedded=_embedded,
        drawn=lambda drawing: Markup(drawing.svg),
        kinds=_kinds,
        values_of=_values_of,
        address=_address,
        rest=_rest,
        written_rows=WRITTEN_ROWS,
        open_cards=OPEN_CARDS,
    )
    html = environment.get_template("report.html.j2").render(title=title, lead=lead, sections=sections)
    with whole_file(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def _full(cell: Cell) -> str:
    """The value with all its digits, as the CSV files hold it; empty where there is none."""
    if isinstance(cell, str | bool):
        return str(cell)
    if cell is None or not is_number(cell):
        return ""
    return str(int(cell)) if hasattr(cell, "__index__") else repr(float(cell))


def _kinds(table: Table) -> list[str]:
    """Of each column: "whole" or "decimal" where it holds numbers, "long" for texts that wrap, else "text"."""
    kinds = []
    for column in zip(*table.rows, strict=True) if table.rows else [()] * len(table.header):
        numbers = [cell for cell in column if is_number(cell)]
        if numbers:
            kinds.append("whole" if all(hasattr(cell, "__index__") for cell in numbers) else "decimal")
        else:
            longest = max((len(cell) for cell in column if isinstance(cell, str)), default=0)
            kinds.append("long" if longest > LONG_TEXT else "text")
    return kinds


def _values_of(table: Table, name: str) -> list[str]:
    """The different texts in a column."""
    column = list(table.header).index(name)
    return sorted({str(row[column]) for row in table.rows})


def _address(name: str, view: dict[str, str]) -> str:
    """The part of the page's address that shows a table so."""
    return "#" + urlencode({f"{name}.{key}": value for key, value in view.items()})


def _rest(table: Table) -> Markup:
    """The rows that are not written as HTML, as JSON that may stand in a script element."""
    rows = [[_plain(cell) for cell in row] for row in table.rows[WRITTEN_ROWS:]]
    text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


def _plain(cell: Cell) -> Cell:
    """The value as JSON knows it."""
    if isinstance(cell, str) or cell is None:
        return cell
    if isinstance(cell, bool) or math.isinf(cell):
        return str(cell)
    if math.isnan(cell):
        return None
    return int(cell) if hasattr(cell, "__index__") else float(cell)


def _embedded(picture: Picture) -> dict[str, str | int]:
    """Address that holds the whole file, and the pixels of both sides."""
    try:
        data = Path(picture.path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the figure ({error.strerror})", path=picture.path) from error
    if not data.startswith(PNG_SIGNATURE) or len(data) < 24:
        raise InputError("not a PNG file", path=picture.path)
    # PNG: after the signature, the first chunk's length and name, come width and height, big-endian.
    width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
    address = "data:image/png;base64," + base64.b64encode(data).decode()
    return {"address": address, "width": width, "height": height}
