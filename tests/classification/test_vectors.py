"""Loops in vector registers: rows that do not fill the last vector, and numbers at the ends of float32."""

from __future__ import annotations

import numpy as np
import pytest

from wildbox.classification.vectors import TILE, exponentials_below

SIZES = [1, TILE - 1, TILE, TILE + 1, 3 * TILE - 1, 601]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exponentials(size: int, dtype: type[np.floating]) -> None:
    rng = np.random.default_rng(size)
    row = (50 - 80 * rng.random(size)).astype(dtype)
    row[rng.integers(0, size)] = 50
    result = np.full(size, np.nan, dtype)
    exponentials_below(row, dtype(50), result)
    expected = np.exp((row - dtype(50)).astype(np.float64))
    assert (abs(result - expected) <= 2 * np.finfo(dtype).eps * expected).all()
    assert result[row == 50].tolist() == [1.0]


@pytest.mark.parametrize("size", SIZES)
def test_what_is_far_below_is_0(size: int) -> None:
    for far in (-90.0, -200.0, -3e38, -np.inf):
        result = np.full(size, np.nan, np.float32)
        exponentials_below(np.full(size, far, np.float32), np.float32(0), result)
        assert (result < 2e-38).all()
        assert (result >= 0).all()
        if size >= TILE or far < -104:
            assert not result.any()
