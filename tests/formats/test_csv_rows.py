from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from wildbox.errors import InputError
from wildbox.formats import csv_rows
from wildbox.formats.csv_rows import NUMBER, TEXT, each_chunk

COLUMNS = {"name": TEXT, "size": NUMBER}


def read_table(path: Path) -> pl.DataFrame:
    return pl.concat(list(each_chunk(path, COLUMNS, lambda table: table.select(*COLUMNS))))


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_lines_without_a_value_are_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, "other,name,size\nx,a,1\n\n,,\n x,b,2\n\n")
    assert read_table(path).rows() == [("a", 1.0), ("b", 2.0)]


@pytest.mark.parametrize("content", ["\ufeffname,size\r\na,1\r\n", 'name,size\n"a",1', "size,name\n1,a\n"])
def test_dialects_of_csv(tmp_path: Path, content: str) -> None:
    assert read_table(written(tmp_path, content))["size"].to_list() == [1.0]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "file: the file is empty"),
        ("\n \n", "file: the file is empty"),
        ("\nname,size\n", "file:1: the first line is empty"),
        ("name,name,size\n", "file:1: column 'name' stands twice"),
        ("name,width\na,1\n", "file:1: missing column size; the file has 'name', 'width'"),
        ("name,size\na,1\nb,broad\n", "file:3: size is 'broad', expected a number"),
        ("name,size\na,1\n\nb,1,2\n", "file:4: 3 fields, expected 2"),
        (b"name,size\na,1\n\xff,2\n", "file:3: not UTF-8 text"),
    ],
)
def test_a_bad_table_names_its_line(tmp_path: Path, content: str | bytes, told: str) -> None:
    with pytest.raises(InputError) as caught:
        read_table(written(tmp_path, content))
    assert told in str(caught.value)


@pytest.mark.parametrize("quote", ["", '"'])
def test_a_line_may_be_longer_than_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quote: str
) -> None:
    monkeypatch.setattr(csv_rows, "CHUNK", 16)
    name = "x" * (300 if not quote else 20)
    path = written(tmp_path, f"name,size\na,1\n{quote}{name}{quote},2\nb,3\n")
    assert read_table(path).rows() == [("a", 1.0), (name, 2.0), ("b", 3.0)]
