"""A published table beside an audit."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from labels.crowded_tables import table

from wildbox.errors import InputError
from wildbox.labels.audit import audit
from wildbox.labels.published import PublishedPair, compare_published, read_published, write_compared
from wildbox.vocabulary import Vocabulary

UNIT = [0.0, 0.0, 1.0, 1.0]
HEADER = "source,confusion,source_boxes,confusion_boxes,certainty\n"


def test_pairs_stand_beside_ours(tmp_path: Path) -> None:
    names = Vocabulary(tuple("abcdef"), ("Torch", "Mouse", "Mouse", "Hamster", "Hat", "Flashlight"))
    rows = [(0, UNIT, 0), (0, UNIT, 5), (1, UNIT, 0), (2, UNIT, 1), (2, UNIT, 3), (3, UNIT, 2), (3, UNIT, 3)]
    found = audit(replace(table(rows, images=4), vocabulary=names))
    (tmp_path / "table.csv").write_text(
        HEADER
        + "torch,Flashlight,17,11,read\nMouse,Hamster,,2,read\nTiara,Torch,383,,\n,Hat,5,1,\nHat,Sun hat,1,1,\n"
    )
    compared = compare_published(found, read_published(tmp_path / "table.csv"))
    assert [pair.ours for pair in compared] == [
        PublishedPair("torch", "Flashlight", 2, 1),
        PublishedPair("Mouse", "Hamster", 2, 2),  # both classes of that name
        PublishedPair("Tiara", "Torch", None, None),
        PublishedPair("Hat", "Sun hat", 0, None),
    ]
    write_compared(compared, tmp_path / "compared.csv")
    with (tmp_path / "compared.csv").open(newline="") as stream:
        first, second, *_ = csv.DictReader(stream)
    assert (float(first["ratio_published"]), first["ratio_ours"]) == (11 / 17, "0.5")
    assert (second["source_boxes_published"], second["ratio_published"], second["ratio_ours"]) == (
        "",
        "",
        "1.0",
    )


def test_the_supplement_is_read(shared_data: Path) -> None:
    pairs = read_published(shared_data / "supplement" / "table2.csv")
    assert PublishedPair("Sea turtle", "Tortoise", 1053, 555) in pairs
    assert PublishedPair("Flashlight", "Torch", None, 11) in pairs
    assert len(pairs) <= 115


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source,confusion,source_boxes\na,b,1\n", ":1: missing column confusion_boxes"),
        (",,\n", ":1: missing column source"),
        ("\nsource,source\n", ":2: column 'source' stands twice"),
        (HEADER + "a,b,1,2,\nc,d,x,2,\n", ":3: source_boxes is 'x', expected a count"),
        (HEADER + "a,b,1,-2,\n", ":2: confusion_boxes is '-2'"),
        (HEADER + f"a,b,1,{'9' * 5000},\n", ":2: confusion_boxes is '999"),
        (HEADER + "a,b,1,2\n", ":2: 4 fields, expected 5"),
        (HEADER + 'a,b,1,2,\n"c,d,1,2,\ne,f,1,2,\n', ":3: not a row of a CSV table"),
        (HEADER + f"a,{'b' * 200_000},1,2,\n", ":2: not a row of a CSV table"),
        (HEADER + ",b,1,2,\n", "no row names two classes"),
        ("", "empty"),
    ],
)
def test_what_is_no_table_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_published(tmp_path / "table.csv")
