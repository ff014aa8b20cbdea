"""Files that may be compressed, JSON with the line of what is wrong, and files that appear whole or not at all."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import sys
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from wildbox.errors import InputError, InputWarning, WildboxError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GZIP, ZSTANDARD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
"""What files of these kinds begin with (RFC 1952, RFC 8878)."""
RUST = re.compile(r"\(os error (\d+)\)")
"""How libraries written in Rust tell an error of the system."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""Of UTF-8; some editors put it before the text."""
NO_TEXT = "not UTF-8 text, nor a file of gzip or Zstandard"
"""Of what cannot be decoded: other things, or text that is compressed in another way."""


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends well; folders are made.

    Raises:
        OSError: with `path` as its file's name: a full disk, a folder that cannot be written to, and the like.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "new" / "a.txt"
    >>> with whole_file(target) as temporary:
    ...     _ = temporary.write_text("all of it")
    >>> target.read_text()
    'all of it'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except Exception as error:
        number = RUST.search(str(error))  # polars has errors of several kinds for a full disk
        if isinstance(error, OSError) and error.errno is not None:
            if error.filename in (None, str(temporary)):  # None: of a full disk, say
                error.filename = str(path)
        elif number is not None and not isinstance(error, WildboxError):
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
        raise
    finally:
        with suppress(OSError):  # of a read-only disk, where there is none to remove
            temporary.unlink(missing_ok=True)


def is_json(path: Path) -> bool:
    """Whether a file is taken as COCO's: by its ending .json, or .json.gz and the like, in any case."""
    return ".json" in map(str.lower, path.suffixes[-2:])


@contextmanager
def open_file(path: str | Path) -> Iterator[BinaryIO]:
    """The bytes of a file; one that begins as gzip or Zstandard does is read decompressed, whatever its name.

    Raises:
        InputError: here, or where the block reads on: no such file, or a compressed one that is damaged or cut
            short.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "a.txt.gz"
    >>> _ = file.write_bytes(gzip.compress(b"text"))
    >>> with open_file(file) as stream:
    ...     stream.read()
    b'text'
    """
    try:
        with open(path, "rb") as stream:
            head = stream.peek(4)
            if head.startswith(GZIP):
                with gzip.open(stream) as unpacked:
                    yield cast(BinaryIO, unpacked)
            elif head.startswith(ZSTANDARD):
                with zstd.open(stream) as unpacked:
                    yield cast(BinaryIO, unpacked)
            else:
                yield stream
    except (EOFError, zlib.error, gzip.BadGzipFile, zstd.ZstdError) as error:
        raise InputError(f"the compressed file is damaged or cut short: {error}", path=path) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", path=path) from error


def read_text(path: str | Path) -> str:
    """Text of a UTF-8 file (a byte order mark is dropped); `InputError` where there is none."""
    with open_file(path) as stream:
        data = stream.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(NO_TEXT, path=path, line=line) from error
    if not text.strip():
        raise InputError("the file is empty", path=path)
    return text


def read_json(path: str | Path) -> object:
    """Value of a JSON file; `InputError` with the line where it is malformed."""
    try:
        text = read_text(path)
        value = json.loads(text)
        if re.search(r"\\u[dD][89a-fA-F]", text):
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError as error:  # half a pair, which no file can be written with
        half = error.object[error.start]
        raise InputError(f"malformed JSON: a text with {half!r}, half a character", path=path) from error
    except json.JSONDecodeError as error:
        message = f"malformed JSON at column {error.colno}: {error.msg}"
        raise InputError(message, path=path, line=error.lineno) from error
    except InputError:
        raise
    except RecursionError as error:
        raise InputError("JSON nested too deeply", path=path) from error
    except ValueError as error:  # a whole number of thousands of digits
        raise InputError(f"malformed JSON: {error}", path=path) from error


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV file: a header, then rows."""
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def write_json(value: object, path: str | Path) -> None:
    """Write a value as JSON."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")


def tell(counts: Mapping[str, int], *, path: str | Path, stacklevel: int = 3) -> None:
    """One `InputWarning` for each text whose count is not 0; "{n}" in the text stands for the count."""
    for text, count in counts.items():
        if count:
            message = text.replace("{n}", f"{count:,}")
            warnings.warn(f"{path}: {message}", InputWarning, stacklevel=stacklevel)
