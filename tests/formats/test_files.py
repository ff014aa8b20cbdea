from __future__ import annotations

from pathlib import Path

import pytest

from wildbox.errors import InputError
from wildbox.formats.files import NUMBER, TEXT, read_json, read_table, read_text, whole_file

COLUMNS = {"name": TEXT, "size": NUMBER}


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "other,name,size\nx,a,1\n\n,,\n x,b,2\n\n")
    assert read_table(path, COLUMNS).rows() == [(2, "a", 1.0), (5, "b", 2.0)]


@pytest.mark.parametrize("content", ["\ufeffname,size\r\na,1\r\n", 'name,size\n"a",1', "size,name\n 1,a\n"])
def test_dialects_of_csv(tmp_path: Path, content: str) -> None:
    assert read_table(written(tmp_path, content), COLUMNS)["size"].to_list() == [1.0]


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
        read_table(written(tmp_path, content), COLUMNS)
    assert told in str(caught.value)


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    for read in (read_text, read_json, lambda path: read_table(path, COLUMNS)):
        with pytest.raises(InputError, match="absent: cannot be read: No such file"):
            read(tmp_path / "absent")


def test_malformed_json_names_its_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"file:2: malformed JSON at column 8"):
        read_json(written(tmp_path, '{"a": 1,\n  "b": ]}'))
    with pytest.raises(InputError, match="nested too deeply"):
        read_json(written(tmp_path, "[" * 100_000))


def test_a_file_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = written(tmp_path, "old")

    def fail() -> None:
        with whole_file(path) as temporary:
            temporary.write_text("ne")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"
