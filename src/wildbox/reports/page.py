"""The report as one HTML file: offline, needing nothing beside it, readable on a telephone and in the dark."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from wildbox.errors import InputError
from wildbox.formats.files import whole_file
from wildbox.reports.tables import Cell, Table, is_number, show

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Picture:
    """A PNG file; `alt` says what it shows to those who do not see it, `caption` what one sees."""

    path: str | Path
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A heading, plain words (an empty line starts a paragraph), then figures, then tables."""

    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    figures: Sequence[Picture] = ()

    @property
    def paragraphs(self) -> list[str]:
        """The text's paragraphs."""
        return [part.strip() for part in self.text.split("\n\n") if part.strip()]


def write_page(path: str | Path, *, title: str, sections: Sequence[Section], lead: str = "") -> None:
    """Write the page, under a temporary name first.

    Numbers are shown with three decimals; the full value stands in each cell's `data-value` and appears on
    hovering. Tables are sorted by clicking a heading; those of more than 12 rows have a filter.

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
    environment.globals.update(show=show, full=_full, is_number=is_number, embedded=_embedded)
    html = environment.get_template("report.html.j2").render(title=title, lead=lead, sections=sections)
    with whole_file(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def _full(cell: Cell) -> str:
    """The value with all its digits, as the CSV files hold it; empty where there is none."""
    if isinstance(cell, str | bool):
        return str(cell)
    if cell is None or not is_number(cell):
        return ""
    return show(cell) if hasattr(cell, "__index__") else repr(float(cell))


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
