from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import polars as pl
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


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("No space left on device (os error 28)"),  # polars, of a CSV file
        pl.exceptions.ComputeError("parquet: underlying IO error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_told_with_the_file(tmp_path: Path, error: Exception) -> None:
    def fail() -> None:
        with whole_file(tmp_path / "file"):
            raise error

    with pytest.raises(OSError, match=r"^\[Errno 28\] No space left on device: .*file'$") as told:
        fail()
    assert told.value.filename == str(tmp_path / "file")


@pytest.mark.parametrize("write", [Path.touch, pl.DataFrame().write_csv, pl.DataFrame().write_parquet])
def test_a_file_that_cannot_be_made_is_told_by_its_own_name(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    def fail() -> None:
        with whole_file(tmp_path / "file") as temporary:
            tmp_path.rename(tmp_path.with_name("elsewhere"))  # so that root has nowhere to write either
            write(temporary)

    with pytest.raises(FileNotFoundError) as told:
        fail()
    assert told.value.filename == str(tmp_path / "file")


def test_a_read_only_disk_is_told_by_the_name_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    def fail() -> None:
        with whole_file(tmp_path / "file") as temporary:
            refuse(temporary)

    monkeypatch.setattr(Path, "unlink", refuse)  # which it tells of files too that are not there
    with pytest.raises(OSError, match="Read-only file system") as told:
        fail()
    assert told.value.filename == str(tmp_path / "file")


def test_errors_of_ours_in_the_block_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"another file \(os error 2\)"), whole_file(tmp_path / "file"):
        raise InputError("another file (os error 2)")
