from __future__ import annotations

import errno
from pathlib import Path

import pytest

from wildbox.errors import InputError
from wildbox.formats.files import read_json, read_text, whole_file


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    for read in (read_text, read_json):
        with pytest.raises(InputError, match="absent: cannot be read: No such file"):
            read(tmp_path / "absent")


def test_malformed_json_names_its_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"file:2: malformed JSON at column 8"):
        read_json(written(tmp_path, '{"a": 1,\n  "b": ]}'))
    assert read_json(written(tmp_path, '["\\ud83d\\ude00"]')) == ["\U0001f600"]
    with pytest.raises(InputError, match=r"a text with '\\ud83d', half a character"):
        read_json(written(tmp_path, '["smile \\ud83d"]'))
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


def test_a_full_disk_is_told_with_the_file(tmp_path: Path) -> None:
    def fail() -> None:
        with whole_file(tmp_path / "file"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: .*file"):
        fail()
