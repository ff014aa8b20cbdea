"""A full disk, told with what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wildbox.errors import WildboxError


@contextmanager
def full_disk_told(out: Path, *, advice: str) -> Iterator[None]:
    """Where the block finds no space to write, raise a `WildboxError` that names the file and ends in the advice."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise WildboxError(f"{error.filename or out}: {error.strerror}; make room, then {advice}") from error
