"""A full disk is told as one, however a library words it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import polars as pl
import pytest

from wildbox.errors import WildboxError
from wildbox.training.full_disk import full_disk_told


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError("No space left on device (os error 28)"),  # polars, of a CSV file
        pl.exceptions.ComputeError("parquet: underlying IO error: No space left on device (os error 28)"),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    ],
)
def test_a_full_disk_is_told(error: Exception) -> None:
    with (
        pytest.raises(WildboxError, match=r"^out: .*; make room, then try again$"),
        full_disk_told(Path("out"), advice="try again"),
    ):
        raise error


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(ZeroDivisionError), full_disk_told(Path("out"), advice="try again"):
        _ = 1 / 0
