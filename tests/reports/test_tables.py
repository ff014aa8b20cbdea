"""Tables show the values they were given, to three decimals, and lose none of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from wildbox.errors import InputError
from wildbox.evaluation.result import Gain
from wildbox.reports.tables import (
    Table,
    combinations_table,
    csv_table,
    gains_markdown,
    gains_table,
    markdown_table,
)

NAN = float("nan")


def test_markdown_escapes_and_aligns() -> None:
    text = markdown_table(["a|b", "n"], [["x\ny", 1], ["z", None]])
    assert text == "| a\\|b | n |\n| :-- | --: |\n| x y | 1 |\n| z | – |\n"


def test_gains_end_with_the_mean_of_the_classes_that_have_both() -> None:
    rows = [
        Gain("Torch", "Torch", 0.1, 0.6, 0.5),
        Gain("Cup", "Cup", 0.2, 0.4, 0.2),
        Gain("Bow", "Bow", NAN, 0.4, NAN),
    ]
    assert gains_table(rows).rows[-1] == pytest.approx(["mean", 0.15, 0.5, 0.35])
    assert "| Torch | 0.100 | 0.600 | 0.500 |\n" in gains_markdown(rows)
    assert gains_markdown(rows).endswith("| mean | 0.150 | 0.500 | 0.350 |\n")
    assert "No class concurs" in gains_markdown([])


def test_combinations_leave_a_hole_where_one_was_not_run() -> None:
    table = combinations_table({("a", "a"): 0.1, ("b", "b"): 0.2})
    assert list(table.header) == ["trained with", "scored with a", "scored with b"]
    assert table.rows == [["a", 0.1, None], ["b", None, 0.2]]


def test_csv_keeps_what_is_no_plain_number(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("id,ap,n,text\n007,0.1,3,a\n8,,4,b\n", encoding="utf-8")
    table = csv_table(path)
    assert table.rows == [["007", 0.1, 3, "a"], ["8", None, 4, "b"]]
    some = csv_table(path, columns=["n", "id"], limit=1)
    assert some.rows == [[3, "007"]]
    assert some.note == "The first 1 of 2 rows; all are in log.csv."


def test_bad_tables_are_named(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("a,b\n1,2\n3\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"log\.csv:3: 1 fields, expected 2"):
        csv_table(path)
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(InputError, match="missing column c"):
        csv_table(path, columns=["c"])
    path.write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="the file is empty"):
        csv_table(path)
    with pytest.raises(InputError, match="row 0 has 1 cells"):
        Table(["a", "b"], [[1]])
    with pytest.raises(InputError, match="no column 'c' to choose by"):
        Table(["a", "b"], [], choices=["c"])
