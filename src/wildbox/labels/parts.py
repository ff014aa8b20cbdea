"""Statistics that are sums over images, made of parts of the images side by side."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from operator import add
from typing import Protocol, TypeVar

import numba

from wildbox.annotations import Annotations

FEW, PART = 100_000, 2_000_000
"""Boxes that one thread does alone; most boxes of a part, which bound what is needed beside the annotations."""


class Addable(Protocol):
    """A sum over images."""

    def __add__(self: Sum, other: Sum, /) -> Sum: ...


Sum = TypeVar("Sum", bound=Addable)


def sum_over_parts(work: Callable[[Annotations], Sum], annotations: Annotations) -> Sum:
    """What `work` makes of all images, as the sum of what it makes of parts of them, in threads.

    There are as many threads as numba's own loops would have (the environment's NUMBA_NUM_THREADS; by default the
    cores of this process).
    """
    if len(annotations) <= FEW:
        return work(annotations)
    # numba.get_num_threads() would start numba's own threads, and set torch's number to theirs
    threads = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    each = -(-len(annotations) // (threads * PART))
    with ThreadPoolExecutor(threads) as pool:
        return reduce(add, pool.map(work, annotations.parts(threads * each)))
