"""The tables of a page, read as a browser would: the rows that are written, then those that are kept as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser

Attributes = list[tuple[str, str | None]]


@dataclass
class PageTable:
    """Header and full values; `shown` is the text of the cells that are written as HTML."""

    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    shown: list[list[str]] = field(default_factory=list)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[str, PageTable] = {}
        self.table = PageTable()
        self.within = ""

    def handle_starttag(self, tag: str, attributes: Attributes) -> None:
        given = dict(attributes)
        if tag == "div" and given.get("class") == "block":
            self.table = self.tables[given["id"] or ""] = PageTable()
        elif tag == "tr":
            self.table.rows.append([])
            self.table.shown.append([])
        elif tag == "th":
            self.table.header.append("")
        elif tag == "td":
            self.table.rows[-1].append(given["data-value"] or "")
            self.table.shown[-1].append("")
        if tag in ("th", "td", "script"):
            self.within = "json" if given.get("type") == "application/json" else tag

    def handle_endtag(self, tag: str) -> None:
        if tag in ("th", "td", "script"):
            self.within = ""

    def handle_data(self, data: str) -> None:
        if self.within == "th":
            self.table.header[-1] += data
        elif self.within == "td":
            self.table.shown[-1][-1] += data
        elif self.within == "json":
            for row in json.loads(data):
                self.table.rows.append(
                    ["" if v is None else v if isinstance(v, str) else repr(v) for v in row]
                )


def page_tables(html: str) -> dict[str, PageTable]:
    """Tables by their names in addresses."""
    reader = _Reader()
    reader.feed(html)
    for table in reader.tables.values():
        table.rows = [row for row in table.rows if row]  # the header's row has no cells
        table.shown = [row for row in table.shown if row]
    return reader.tables
