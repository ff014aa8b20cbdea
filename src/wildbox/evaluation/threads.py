"""Compiled loops in threads: a range in chunks, which a loop that needs no interpreter works off side by side."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numba

WORTH_A_THREAD = 20_000
"""Rows below which another thread costs more than it saves."""

Result = TypeVar("Result")


def in_chunks(task: Callable[[int, int], Result], size: int, *, rows: int, each: int = 8) -> list[Result]:
    """Results of task(first, last) over 0..size, in order.

    There are as many threads as numba's own loops would have (the environment's NUMBA_NUM_THREADS; by default the
    cores of this process), fewer for few `rows` of work. What is made of the results must not depend on the chunks.

    Args:
        each: chunks for each thread; several where some take longer than others.

    >>> in_chunks(lambda first, last: last - first, 5, rows=5)
    [5]
    """
    threads = max(1, min(numba.config.NUMBA_NUM_THREADS, rows // WORTH_A_THREAD, size))  # type: ignore[attr-defined]
    if threads == 1:
        return [task(0, size)]
    chunks = min(each * threads, size)
    bounds = [size * i // chunks for i in range(chunks + 1)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(task, bounds[:-1], bounds[1:]))
