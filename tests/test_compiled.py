# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""That tests of compiled kernels can fail: threads of two warps that exchange numbers, rightly and wrongly."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from compiled import Compiled
from torch import Tensor

triton: Any = pytest.importorskip("triton")
tl: Any = pytest.importorskip("triton.language")


@triton.jit
def _reverse(given, found, space, COUNT: tl.constexpr, WAITS: tl.constexpr):
    k = tl.arange(0, 128)
    tl.store(space + k, tl.load(given + k, mask=k < COUNT, other=0.0))
    if WAITS:
        tl.debug_barrier()
    tl.store(found + k, tl.load(space + 127 - k))


@triton.jit
def _mark(found, WAITS: tl.constexpr):
    k = tl.arange(0, 128)
    tl.store(found + k, k.to(tl.float32))
    if WAITS:
        tl.debug_barrier()
    tl.store(found + 70, -1.0)


def reverse(*, count: int = 100, waits: bool = True, size: int = 128) -> Tensor:
    found = torch.zeros(size)
    Compiled(_reverse)[(1,)](
        torch.arange(100.0), found, torch.zeros(128), COUNT=count, WAITS=waits, num_warps=2
    )
    return found


def mark(*, waits: bool) -> Tensor:
    found = torch.zeros(128)
    Compiled(_mark)[(1,)](found, WAITS=waits, num_warps=2)
    return found


def test_behind_a_barrier_threads_see_what_others_wrote() -> None:
    assert reverse().tolist() == [0.0] * 28 + list(range(99, -1, -1))
    assert mark(waits=True).tolist() == [*range(70), -1, *range(71, 128)]


def test_a_race_is_told() -> None:
    with pytest.raises(RuntimeError, match="reads what another wrote"):
        reverse(waits=False)
    with pytest.raises(RuntimeError, match="writes where another wrote"):
        mark(waits=False)


def test_an_address_outside_is_told() -> None:
    with pytest.raises(RuntimeError, match="outside of all tensors"):
        reverse(size=127)
    with pytest.raises(RuntimeError, match="outside of all tensors"):
        reverse(count=101)
