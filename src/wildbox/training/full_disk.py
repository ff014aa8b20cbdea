"""A full disk, told with what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wildbox.errors import WildboxError

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Polars tells them in words alone, in errors of several kinds."""


@contextmanager
def full_disk_told(out: Path, *, advice: str) -> Iterator[None]:
    """Where the block finds no space to write, raise a `WildboxError` that names the file and ends in the advice."""
    try:
        yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        told = [os.strerror(full) for full in FULL if number == full or os.strerror(full) in str(error)]
        if not told:
            raise
        place = getattr(error, "filename", None) or out
        raise WildboxError(f"{place}: {told[0]}; make room, then {advice}") from error
