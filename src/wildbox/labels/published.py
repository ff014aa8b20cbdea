"""A published table of confusion pairs, such as the supplement's Table 2, beside the pairs of an audit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from wildbox.errors import InputError
from wildbox.formats.csv_rows import named_rows
from wildbox.formats.files import write_csv
from wildbox.labels.audit import LabelAudit

COLUMNS = ("source", "confusion", "source_boxes", "confusion_boxes")
COUNT = re.compile(r"\d{1,18}", re.ASCII)


class PublishedPair(NamedTuple):
    """A row of a published table; None where it says nothing."""

    source: str
    confusion: str
    source_boxes: int | None
    confusion_boxes: int | None

    @property
    def ratio(self) -> float | None:
        """confusion_boxes / source_boxes, where both are known."""
        if not self.source_boxes or self.confusion_boxes is None:
            return None
        return self.confusion_boxes / self.source_boxes


class ComparedPair(NamedTuple):
    """The published pair, and the same of the audit."""

    published: PublishedPair
    ours: PublishedPair
    """Counts are None where the audit has no class of that name."""


def read_published(path: str | Path) -> list[PublishedPair]:
    """Rows of a CSV file source,confusion,source_boxes,confusion_boxes: display names, counts or empty fields.

    A row without both names is left out; other columns are not read.

    Raises:
        InputError: with file and line: a missing column, a row with more or fewer fields than the header, a
            count that is no whole number from 0 up, no rows.
    """
    found = []
    for line, row in named_rows(path, COLUMNS)[1]:
        source, confusion, *counts = (row[name] for name in COLUMNS)
        for name, count in zip(COLUMNS[2:], counts, strict=True):
            if count and not COUNT.fullmatch(count):
                raise InputError(f"{name} is {count!r}, expected a count", path=path, line=line)
        if source and confusion:
            found.append(
                PublishedPair(source, confusion, *(int(count) if count else None for count in counts))
            )
    if not found:
        raise InputError("no row names two classes", path=path)
    return found


def compare_published(audit: LabelAudit, published: list[PublishedPair]) -> list[ComparedPair]:
    """Each published pair beside ours, by display name, upper and lower case alike.

    Of several classes with one name the boxes are added up.
    """
    classes: dict[str, list[int]] = {}
    for index, name in enumerate(audit.vocabulary.names):
        classes.setdefault(name.casefold(), []).append(index)
    boxes, confusion = audit.concurrency.boxes, audit.concurrency.confusion
    compared = []
    for pair in published:
        s, t = (classes.get(name.casefold(), []) for name in (pair.source, pair.confusion))
        ours = PublishedPair(
            pair.source,
            pair.confusion,
            int(boxes[s].sum()) if s else None,
            int(confusion[s][:, t].sum()) if s and t else None,
        )
        compared.append(ComparedPair(pair, ours))
    return compared


def write_compared(pairs: list[ComparedPair], path: str | Path) -> None:
    """CSV: names, then published and ours of source boxes, confusion boxes and ratio; empty where not known."""
    header = [
        *COLUMNS[:2],
        *(f"{name}_{who}" for name in (*COLUMNS[2:], "ratio") for who in ("published", "ours")),
    ]
    write_csv(path, header, _rows(pairs))


def _rows(pairs: list[ComparedPair]) -> Iterator[tuple[object, ...]]:
    for published, ours in pairs:
        yield (
            *published[:2],
            *(published.source_boxes, ours.source_boxes),
            *(published.confusion_boxes, ours.confusion_boxes),
            *(published.ratio, ours.ratio),
        )
