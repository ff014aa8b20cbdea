"""Tensors as a program on a GPU sees them: by address, of which threads that race are told."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Lanes = NDArray[Any]
"""A number for each thread."""

NOBODY, SEVERAL = -1, -2


class Part(NamedTuple):
    """A tensor."""

    start: int
    """Its address."""
    content: Lanes
    """Its bytes."""
    writers: Lanes
    """The thread that wrote each of them since the last barrier, or `NOBODY`."""
    readers: Lanes
    """The same of those that read, or `SEVERAL`."""


class Memory:
    """Some tensors, by address."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self.parts = []
        for tensor in tensors:
            content = tensor.detach().reshape(-1).view(torch.uint8).numpy()
            users = [np.full(len(content), NOBODY, np.int32) for _ in range(2)]
            self.parts.append(Part(tensor.data_ptr(), content, *users))

    def forget(self) -> None:
        """A barrier, or another program."""
        self.forget_readers()
        for part in self.parts:
            part.writers[:] = NOBODY

    def forget_readers(self) -> None:
        """What all threads exchange comes after what they read, not after what they wrote."""
        for part in self.parts:
            part.readers[:] = NOBODY

    def load(self, addresses: Lanes, threads: Lanes, dtype: np.dtype[Any]) -> Lanes:
        """(n,) what as many threads read."""
        part, at = self._find(addresses, dtype.itemsize)
        self._check(part.writers[at], threads, "reads what another wrote")
        before, mine = part.readers[at], threads[:, None]
        part.readers[at] = mine
        others = (part.readers[at] != mine) | (before != NOBODY) & (before != mine)
        part.readers[at[others]] = SEVERAL
        found: Lanes = part.content[at].view(dtype)[:, 0]
        return found

    def store(self, addresses: Lanes, threads: Lanes, values: Lanes) -> None:
        """Write values (n,)."""
        part, at = self._find(addresses, values.dtype.itemsize)
        raw = as_bytes(values)
        changes = (part.content[at] != raw).any(axis=1)  # who writes what is there anyway disturbs nobody
        self._check(part.writers[at][changes], threads[changes], "writes where another wrote")
        self._check(part.readers[at][changes], threads[changes], "writes where another read")
        part.content[at], part.writers[at] = raw, threads[:, None]
        if (part.content[at] != raw).any():
            raise RuntimeError("a race: two threads write different numbers to one place at once")

    def _find(self, addresses: Lanes, size: int) -> tuple[Part, Lanes]:
        if (addresses % size).any():
            raise RuntimeError(f"an address is not a multiple of {size}")
        for part in self.parts:
            if part.start <= addresses.min() and addresses.max() + size <= part.start + len(part.content):
                return part, (addresses - part.start)[:, None] + np.arange(size)
        raise RuntimeError("an address is outside of all tensors, or of that of the other threads")

    def _check(self, users: Lanes, threads: Lanes, told: str) -> None:
        if ((users != NOBODY) & (users != threads[:, None])).any():
            raise RuntimeError(f"a race: a thread {told}")


def as_bytes(values: Lanes) -> Lanes:
    """(n,) numbers as (n, size)."""
    return np.ascontiguousarray(values)[:, None].view(np.uint8)
